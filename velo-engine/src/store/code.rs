//! What runs need of the code, and the shapes that workers have had.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use super::run::RunStatus;
use crate::lease::Lease;
use crate::run_id::RunId;

pub(crate) const KEEP: &str = "\
-- velo: shape.keep
insert into velo.shape (fingerprint, joins)
values ($1, $2)
on conflict do nothing";

pub(crate) async fn keep(
    db: impl PgExecutor<'_>,
    fingerprint: Uuid,
    joins: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query(KEEP)
        .bind(fingerprint)
        .bind(Json(joins))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const JOINS: &str = "\
-- velo: shape.joins
select joins
from velo.shape
where fingerprint = $1";

/// The joins of a shape, if any worker has ever had it.
pub(crate) async fn joins(
    db: impl PgExecutor<'_>,
    fingerprint: Uuid,
) -> Result<Option<Value>, sqlx::Error> {
    sqlx::query_scalar(JOINS)
        .bind(fingerprint)
        .fetch_optional(db)
        .await
}

// Few runs at any time are marked, and their index has no others.
pub(crate) const WANTED: &str = "\
-- velo: code.wanted
select distinct code
from velo.queue
where lacks is not null
  and ready_at is not null
order by code
limit $1";

pub(crate) async fn wanted(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(WANTED).bind(limit).fetch_all(db).await
}

pub(crate) const LIVE: &str = "\
-- velo: code.live
select code, count(*)
from velo.queue
where code = any($1)
group by code
order by code";

pub(crate) async fn live(
    db: impl PgExecutor<'_>,
    codes: &[String],
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(LIVE).bind(codes).fetch_all(db).await
}

pub(crate) const PIN: &str = "\
-- velo: code.pin
with pinned as (
  update velo.queue
  set code = $2, lacks = null
  where run_id = $1 and branch = 0
  returning run_id
)
update velo.run r
set version = $3, fingerprint = $4
from pinned p
where r.id = p.run_id";

/// The code that a run is to go on with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pinned<'a> {
    /// As the queue names it.
    pub(crate) code: &'a str,
    pub(crate) version: i32,
    pub(crate) fingerprint: Uuid,
}

/// Pins the run to this code. Whoever calls it holds the run's lease, or its row in the queue.
pub(crate) async fn pin(
    conn: &mut PgConnection,
    run: RunId,
    to: Pinned<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(PIN)
        .bind(run)
        .bind(to.code)
        .bind(to.version)
        .bind(to.fingerprint)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const LACK: &str = "\
-- velo: code.lack
update velo.queue
set worker = null, ready_at = clock_timestamp(), crashes = 0, code = $4, lacks = $5
where run_id = $1 and branch = 0 and worker = $2 and fence = $3";

/// Gives the lease back, for a worker that has what this one lacks.
pub(crate) async fn lack(
    conn: &mut PgConnection,
    lease: Lease,
    code: &str,
    lacks: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(LACK)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .bind(code)
        .bind(lacks)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const LIVE_RUNS: &str = "\
-- velo: code.live_runs
select r.id, r.graph, r.version, r.status, q.code
from velo.run r
join velo.queue q on q.run_id = r.id and q.branch = 0
where r.finished_at is null
  and r.graph = any($1)
  and r.id > coalesce($2, -9223372036854775808)
order by r.id
limit $3";

/// A run that has not ended, and what it is pinned to.
#[derive(Debug, FromRow)]
pub(crate) struct LiveRun {
    pub(crate) id: RunId,
    pub(crate) graph: String,
    pub(crate) version: i32,
    pub(crate) status: RunStatus,
    pub(crate) code: String,
}

/// The next live runs of these graphs, oldest first.
pub(crate) async fn live_runs(
    db: impl PgExecutor<'_>,
    graphs: &[String],
    after: Option<RunId>,
    limit: i64,
) -> Result<Vec<LiveRun>, sqlx::Error> {
    sqlx::query_as(LIVE_RUNS)
        .bind(graphs)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// Most schedules that one look finds.
const SCHEDULES_MAX: i64 = 10_000;

pub(crate) const SCHEDULES: &str = "\
-- velo: code.schedules
select name, code
from velo.schedule
where graph = any($1)
order by name
limit $2";

/// The schedules of these graphs, and what their next runs will be pinned to.
pub(crate) async fn schedules(
    db: impl PgExecutor<'_>,
    graphs: &[String],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(SCHEDULES)
        .bind(graphs)
        .bind(SCHEDULES_MAX)
        .fetch_all(db)
        .await
}
