//! Runs that failures have paused, and which of them are alike.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgExecutor};

use super::run::Run;
use crate::run_filter::RunFilter;
use crate::run_id::RunId;

/// Paused runs whose failures are alike: of the same graph, node and fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct FailureGroup {
    /// The graph's name.
    pub graph: String,
    /// The graph's version.
    pub version: i32,
    /// The node, if one is to blame.
    pub node: Option<String>,
    /// The same for all errors of one kind whose messages differ in numbers, ids and quoted parts alone.
    pub fingerprint: Option<String>,
    /// What kind of error it is, such as `permanent` or `crashed`.
    pub kind: Option<String>,
    /// What the newest run of the group is paused by: `node`, `message`, `causes`, `kind` and `attempt`.
    pub error: Option<Value>,
    /// How many runs are paused by it.
    pub runs: i64,
    /// The newest of them.
    pub newest: RunId,
    /// The oldest of them.
    pub oldest: RunId,
    /// When the newest run's last attempt failed.
    pub last_at: Option<DateTime<Utc>>,
}

pub(crate) const NOTE: &str = "\
-- velo: failure.note
update velo.run
set failed_as = $2
where id = $1
  and status = 'paused'";

/// Notes what a run is paused by.
pub(crate) async fn note(
    db: impl PgExecutor<'_>,
    run: RunId,
    failed_as: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE)
        .bind(run)
        .bind(failed_as)
        .execute(db)
        .await?;
    Ok(())
}

/// Most runs that are put into groups.
const GROUPED_MAX: i64 = 100_000;

pub(crate) const GROUPS: &str = "\
-- velo: failure.groups
with failed as (
  select r.id, r.graph, r.version, r.failed_as
  from velo.run r
  where r.failed_as is not null
    and r.finished_at is null
    and r.status = 'paused'
    and ($1::text is null or r.graph = $1)
    and ($2::integer is null or r.version = $2)
    and ($3::text is null or r.failed_as ->> 'node' = $3)
    and ($4::text is null or r.failed_as ->> 'fingerprint' = $4)
    and ($5::text is null or exists (select from velo.queue q where q.run_id = r.id and q.lane = $5))
    and ($6::timestamptz is null or r.created_at >= $6)
    and ($7::timestamptz is null or r.created_at < $7)
  order by r.id desc
  limit $8
), grouped as (
  select graph, version, failed_as ->> 'node' as node, failed_as ->> 'kind' as kind,
         failed_as ->> 'fingerprint' as fingerprint, count(*) as runs, max(id) as newest, min(id) as oldest
  from failed
  group by 1, 2, 3, 4, 5
  order by count(*) desc, max(id) desc
  limit $9
)
select g.*, r.error,
       (select max(f.at) from velo.failure f where f.run_id = g.newest) as last_at
from grouped g
join velo.run r on r.id = g.newest
order by g.runs desc, g.newest desc";

pub(crate) async fn groups(
    db: impl PgExecutor<'_>,
    filter: &RunFilter,
    limit: i64,
) -> Result<Vec<FailureGroup>, sqlx::Error> {
    sqlx::query_as(GROUPS)
        .bind(filter.graph.as_deref())
        .bind(filter.version)
        .bind(filter.node.as_deref())
        .bind(filter.fingerprint.as_deref())
        .bind(filter.queue.as_deref())
        .bind(filter.since)
        .bind(filter.until)
        .bind(GROUPED_MAX)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const RUNS: &str = "\
-- velo: failure.runs
select r.id, r.graph, r.version, r.thread, r.status, r.error, r.created_at, r.finished_at,
       coalesce((select max(s.seq) from velo.step s where s.run_id = r.id), 0) as steps,
       false as is_leased
from velo.run r
where r.failed_as is not null
  and r.finished_at is null
  and r.status = 'paused'
  and ($1::text is null or r.graph = $1)
  and ($2::integer is null or r.version = $2)
  and ($3::text is null or r.failed_as ->> 'node' = $3)
  and ($4::text is null or r.failed_as ->> 'fingerprint' = $4)
  and ($5::text is null or exists (select from velo.queue q where q.run_id = r.id and q.lane = $5))
  and ($6::timestamptz is null or r.created_at >= $6)
  and ($7::timestamptz is null or r.created_at < $7)
  and r.id > coalesce($8, 0)
order by r.id
limit $9";

pub(crate) async fn runs(
    db: impl PgExecutor<'_>,
    filter: &RunFilter,
    after: Option<RunId>,
    limit: i64,
) -> Result<Vec<Run>, sqlx::Error> {
    sqlx::query_as(RUNS)
        .bind(filter.graph.as_deref())
        .bind(filter.version)
        .bind(filter.node.as_deref())
        .bind(filter.fingerprint.as_deref())
        .bind(filter.queue.as_deref())
        .bind(filter.since)
        .bind(filter.until)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}
