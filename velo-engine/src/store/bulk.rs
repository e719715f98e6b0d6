//! Operations on many runs: how far they are, and the runs of the next batch.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};

use super::failure::interval;
use super::run::RunStatus;
use crate::run_filter::RunFilter;
use crate::run_id::RunId;

/// An operation on many runs.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Bulk {
    /// Its number.
    pub id: i64,
    /// What is done: `cancel`, `terminate` or `resume`.
    pub action: String,
    /// Why runs are terminated.
    pub reason: Option<String>,
    /// Which runs, as a [`RunFilter`](crate::RunFilter).
    pub filter: Value,
    /// How far it is.
    pub status: BulkStatus,
    /// Runs found so far; of those there are about twice in a batch that was done twice, once.
    pub matched: i64,
    /// Those of them that were changed; the others had ended, or gone on.
    pub changed: i64,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// How far an operation on many runs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum BulkStatus {
    /// Workers are at it.
    Running,
    /// All its runs were looked at.
    Done,
    /// It was ended half-way.
    Cancelled,
}

pub(crate) const BEGIN: &str = "\
-- velo: bulk.begin
with begun as (
  insert into velo.bulk (action, reason, filter)
  values ($1, $2, $3)
  returning id
), told as (
  select pg_notify('velo_queue', 'bulk')
)
select begun.id
from begun, told";

pub(crate) async fn begin(
    db: impl PgExecutor<'_>,
    action: &str,
    reason: Option<&str>,
    filter: &RunFilter,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(BEGIN)
        .bind(action)
        .bind(reason)
        .bind(Json(filter))
        .fetch_one(db)
        .await
}

pub(crate) const GET: &str = "\
-- velo: bulk.get
select id, action, reason, filter, status, matched, changed, created_at, finished_at
from velo.bulk
where id = $1";

pub(crate) async fn get(db: impl PgExecutor<'_>, id: i64) -> Result<Option<Bulk>, sqlx::Error> {
    sqlx::query_as(GET).bind(id).fetch_optional(db).await
}

pub(crate) const LIST: &str = "\
-- velo: bulk.list
select id, action, reason, filter, status, matched, changed, created_at, finished_at
from velo.bulk
order by id desc
limit $1";

pub(crate) async fn list(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Bulk>, sqlx::Error> {
    sqlx::query_as(LIST).bind(limit).fetch_all(db).await
}

pub(crate) const CANCEL: &str = "\
-- velo: bulk.cancel
update velo.bulk
set status = 'cancelled', finished_at = clock_timestamp()
where id = $1
  and status = 'running'";

pub(crate) async fn cancel(db: impl PgExecutor<'_>, id: i64) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(CANCEL).bind(id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// A batch that is this process's to do.
#[derive(Debug, FromRow)]
pub(crate) struct Taken {
    pub(crate) id: i64,
    pub(crate) turn: i64,
    pub(crate) action: String,
    pub(crate) reason: Option<String>,
    pub(crate) filter: Json<RunFilter>,
    pub(crate) after_run: RunId,
    pub(crate) created_at: DateTime<Utc>,
}

pub(crate) const TAKE: &str = "\
-- velo: bulk.take
with next as (
  select id
  from velo.bulk
  where status = 'running'
    and ($1::bigint is null or id = $1)
    and (taken_until is null or taken_until < clock_timestamp())
  order by id
  limit 1
  for update skip locked
)
update velo.bulk b
set turn = b.turn + 1, taken_until = clock_timestamp() + $2
from next
where b.id = next.id
returning b.id, b.turn, b.action, b.reason, b.filter, b.after_run, b.created_at";

/// Takes the next batch of an operation, or of the oldest one that nobody is at.
pub(crate) async fn take(
    db: impl PgExecutor<'_>,
    id: Option<i64>,
    time: Duration,
) -> Result<Option<Taken>, sqlx::Error> {
    sqlx::query_as(TAKE)
        .bind(id)
        .bind(interval(time))
        .fetch_optional(db)
        .await
}

/// Runs that are looked at for one batch, also those that are not meant.
const LOOKED_AT: i64 = 2_000;
/// Runs of a batch.
const BATCH: usize = 100;

/// The runs of a batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) runs: Vec<RunId>,
    /// The last run that was looked at; `None` when there are no more.
    pub(crate) until: Option<RunId>,
}

macro_rules! batch {
    ($name:literal, $few:literal) => {
        concat!(
            "\
-- velo: ",
            $name,
            "
select r.id,
       coalesce(($3::text is null or r.graph = $3)
                and ($4::integer is null or r.version = $4)
                and ($5::text is null or r.status = $5)
                and ($6::text is null or r.failed_as ->> 'node' = $6)
                and ($7::text is null or r.failed_as ->> 'fingerprint' = $7)
                and ($8::text is null or exists (select from velo.queue q where q.run_id = r.id and q.lane = $8))
                and ($9::timestamptz is null or r.created_at >= $9)
                and r.created_at < least($10::timestamptz, $11::timestamptz)
                and (not $12 or (r.status = 'paused' and r.failed_as is not null)), false) as is_meant
from velo.run r
where r.finished_at is null
  and r.id > $1
",
            $few,
            "order by r.id
limit $2"
        )
    };
}

pub(crate) const BATCH_OF_ALL: &str = batch!("bulk.batch", "");
pub(crate) const BATCH_OF_FAILURES: &str =
    batch!("bulk.batch_of_failures", "  and r.failed_as is not null\n");

pub(crate) async fn batch(db: impl PgExecutor<'_>, taken: &Taken) -> Result<Batch, sqlx::Error> {
    let filter = &taken.filter.0;
    let is_resume = taken.action == "resume";
    // Only paused runs are resumed: to wake a run that sleeps is another thing to do.
    let status = if is_resume {
        Some(RunStatus::Paused)
    } else {
        filter.status
    };
    let sql = if filter.is_of_failures() {
        BATCH_OF_FAILURES
    } else {
        BATCH_OF_ALL
    };
    let found: Vec<(RunId, bool)> = sqlx::query_as(sql)
        .bind(taken.after_run)
        .bind(LOOKED_AT)
        .bind(filter.graph.as_deref())
        .bind(filter.version)
        .bind(status.map(RunStatus::as_str))
        .bind(filter.node.as_deref())
        .bind(filter.fingerprint.as_deref())
        .bind(filter.queue.as_deref())
        .bind(filter.since)
        .bind(filter.until)
        .bind(taken.created_at)
        .bind(filter.failed)
        .fetch_all(db)
        .await?;
    let is_contradiction = is_resume && filter.status.is_some_and(|it| it != RunStatus::Paused);
    if is_contradiction {
        return Ok(Batch::default());
    }
    let is_last = i64::try_from(found.len()).is_ok_and(|found| found < LOOKED_AT);
    let mut batch = Batch::default();
    for (run, is_meant) in found {
        if batch.runs.len() == BATCH {
            return Ok(batch);
        }
        batch.until = Some(run);
        if is_meant {
            batch.runs.push(run);
        }
    }
    if is_last {
        batch.until = None;
    }
    Ok(batch)
}

pub(crate) const SAVE: &str = "\
-- velo: bulk.save
update velo.bulk
set after_run = coalesce($3, after_run),
    matched = matched + $4,
    changed = changed + $5,
    taken_until = null,
    status = case when $3 is null and status = 'running' then 'done' else status end,
    finished_at = case when $3 is null and status = 'running' then clock_timestamp() else finished_at end
where id = $1
  and turn = $2";

/// Notes that a batch was done, unless somebody else has taken it over.
pub(crate) async fn save(
    db: impl PgExecutor<'_>,
    taken: &Taken,
    until: Option<RunId>,
    matched: i64,
    changed: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(SAVE)
        .bind(taken.id)
        .bind(taken.turn)
        .bind(until)
        .bind(matched)
        .bind(changed)
        .execute(db)
        .await?;
    Ok(())
}
