//! Starting a run: its row, its first step, its place in the queue.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::fork::Origin;
use crate::run_id::RunId;

/// What a run begins with.
#[derive(Debug)]
pub(crate) struct NewRun<'a> {
    pub(crate) id: RunId,
    pub(crate) nonce: i64,
    pub(crate) graph: &'a str,
    pub(crate) version: i32,
    pub(crate) fingerprint: Uuid,
    pub(crate) thread: Option<&'a str>,
    pub(crate) control: &'a [u8],
    /// Empty for a run that begins from its thread's state: its first step is written when it begins.
    pub(crate) state: &'a [u8],
    pub(crate) code: &'a str,
    pub(crate) priority: i16,
    pub(crate) origin: Option<Origin>,
    /// The queue.
    pub(crate) lane: Option<&'a str>,
    /// The trace that it belongs to, as a `traceparent`.
    pub(crate) trace: Option<&'a str>,
}

// A thread that is live already gives no row, and then nothing is inserted at all. Of two starts on
// one thread at once, the second waits for the first and then finds it live.
pub(crate) const START: &str = "\
-- velo: run.start
with thread as (
  insert into velo.thread (name, run_id, is_live)
  select $6, $1, true where $6::text is not null
  on conflict (name) do update
  set run_id = excluded.run_id, is_live = true, is_undone = false,
      before_run = case when velo.thread.is_undone then velo.thread.before_run else velo.thread.run_id end
  where not velo.thread.is_live
  returning name
), run as (
  insert into velo.run (id, nonce, graph, version, fingerprint, thread, origin_run, origin_seq, trace)
  select $1, $2, $3, $4, $5, $6, $11, $12, $13
  where $6::text is null or exists (select from thread)
  returning id
), step as (
  insert into velo.step (run_id, seq, fence, delta, control, snapshot)
  select id, 0, 0, '', $7, $8 from run where $8::bytea <> ''
)
insert into velo.queue (run_id, code, priority, ready_at, lane)
select id, $9, $10, clock_timestamp(), $14 from run";

/// Inserts the run; `false` when its thread has a live run.
pub(crate) async fn insert(db: impl PgExecutor<'_>, new: &NewRun<'_>) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(START)
        .bind(new.id)
        .bind(new.nonce)
        .bind(new.graph)
        .bind(new.version)
        .bind(new.fingerprint)
        .bind(new.thread)
        .bind(new.control)
        .bind(new.state)
        .bind(new.code)
        .bind(new.priority)
        .bind(new.origin.map(|origin| origin.run))
        .bind(new.origin.map(|origin| origin.seq))
        .bind(new.trace)
        .bind(new.lane)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const NONCE: &str = "\
-- velo: run.nonce
select nonce
from velo.run
where id = $1";

/// With what nonce the run was started, if it was.
pub(crate) async fn nonce(db: impl PgExecutor<'_>, id: RunId) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(NONCE).bind(id).fetch_optional(db).await
}
