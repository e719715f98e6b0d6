//! Ending, pausing and resuming runs from outside.
//!
//! Each verb holds the run's place in the queue by a statement of its own: what the next one reads may have
//! changed while this one waited for it.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::run::RunStatus;
use crate::run_id::RunId;

pub(crate) const HOLD: &str = "\
-- velo: queue.lock
select true
from velo.queue
where run_id = $1
for update";

/// Holds the run's place in the queue, if it has one, until the transaction ends.
pub(crate) async fn hold(db: impl PgExecutor<'_>, run: RunId) -> Result<bool, sqlx::Error> {
    let held: Vec<bool> = sqlx::query_scalar(HOLD).bind(run).fetch_all(db).await?;
    Ok(!held.is_empty())
}

/// How a run is ended from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    /// Why, if that is to be kept as its error.
    pub(crate) reason: Option<&'a Value>,
    /// Whether a step that is under way is to be committed before.
    pub(crate) is_at_boundary: bool,
}

impl<'a> Ending<'a> {
    /// In the middle of a step too, for this reason.
    pub(crate) fn now(reason: &'a Value) -> Self {
        Self {
            reason: Some(reason),
            is_at_boundary: false,
        }
    }

    /// In the middle of a step too.
    pub(crate) const CANCELLED: Self = Self {
        reason: None,
        is_at_boundary: false,
    };
}

// A run that some worker has is ended by that worker: only it knows that no node of the run is at work any
// more.
pub(crate) const END: &str = "\
-- velo: run.end
with held as (
  select run_id, branch, worker
  from velo.queue
  where run_id = $1
), asked as (
  update velo.queue q
  set is_cancelled = q.is_cancelled or not $3::boolean,
      halt = case when $3::boolean then 'end' else q.halt end
  from held h
  where q.run_id = h.run_id and q.branch = h.branch and h.worker is not null
), gone as (
  delete from velo.queue q
  using held h
  where q.run_id = h.run_id and q.branch = h.branch and h.worker is null
), left_line as (
  delete from velo.input i
  using held h
  where i.run_id = h.run_id and h.branch = 0 and h.worker is null
  returning i.is_turn
), done as (
  update velo.run r
  set error = coalesce($2::jsonb, r.error),
      status = case when h.worker is null then 'cancelled' else r.status end,
      finished_at = case when h.worker is null then clock_timestamp() end
  from held h
  where r.id = h.run_id and h.branch = 0 and (h.worker is null or $2::jsonb is not null)
  returning r.id, r.thread, r.status
), freed as (
  update velo.thread
  set is_live = false,
      -- What has not begun has no state to leave.
      is_undone = is_undone or exists (select from left_line where is_turn)
  from done
  where done.status = 'cancelled' and name = done.thread and run_id = done.id
)
select case when exists (select from held) then 'cancelled' else r.status end
from velo.run r
where r.id = $1";

/// Ends the run, or has its worker end it. Returns how it has ended or is about to end: a run that has
/// ended stays as it ended; `None` when there is no such run.
pub(crate) async fn end(
    conn: &mut PgConnection,
    run: RunId,
    ending: Ending<'_>,
) -> Result<Option<RunStatus>, sqlx::Error> {
    hold(&mut *conn, run).await?;
    sqlx::query_scalar(END)
        .bind(run)
        .bind(ending.reason.map(Json))
        .bind(ending.is_at_boundary)
        .fetch_optional(conn)
        .await
}

/// As [`end`], in a transaction of its own.
pub(crate) async fn end_now(
    pool: &PgPool,
    run: RunId,
    ending: Ending<'_>,
) -> Result<Option<RunStatus>, sqlx::Error> {
    let mut tx = super::begin(pool).await?;
    let ended = end(&mut tx, run, ending).await?;
    tx.commit().await?;
    Ok(ended)
}

// A run that a worker has is paused by that worker, at its next step boundary. What somebody else has asked
// of it before counts more.
pub(crate) const PAUSE: &str = "\
-- velo: run.pause
with held as (
  select run_id, worker
  from velo.queue
  where run_id = $1 and branch = 0 and not is_cancelled and halt is distinct from 'end'
), asked as (
  update velo.queue q
  set halt = case when h.worker is not null then 'pause' end,
      ready_at = null,
      gated_at = null,
      wake_at = null
  from held h
  where q.run_id = h.run_id and q.branch = 0
), told as (
  update velo.run r
  set error = $2,
      status = case when h.worker is null then 'paused' else r.status end
  from held h
  where r.id = h.run_id and r.status <> 'paused'
)
select case when exists (select from held) then 'paused'
            when exists (select from velo.queue where run_id = $1) then 'cancelled'
            else r.status end
from velo.run r
where r.id = $1";

/// Pauses the run, or has its worker pause it; returns how it stands or is about to stand, as [`end`].
pub(crate) async fn pause(
    pool: &PgPool,
    run: RunId,
    reason: &Value,
) -> Result<Option<RunStatus>, sqlx::Error> {
    let mut tx = super::begin(pool).await?;
    hold(&mut *tx, run).await?;
    let paused = sqlx::query_scalar(PAUSE)
        .bind(run)
        .bind(Json(reason))
        .fetch_optional(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(paused)
}

// A run in line goes back there; one that a worker has is only no longer asked to pause.
pub(crate) const RESUME: &str = "\
-- velo: run.resume
with held as (
  select q.run_id, q.worker, q.is_held, r.status,
         (r.status = 'paused' and coalesce(r.error ->> 'kind', 'paused') not in ('paused', 'breakpoint'))
         or exists (select from velo.failure f
                    where f.run_id = $1 and not f.is_settled
                      and f.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = $1)) as has_failed
  from velo.queue q
  join velo.run r on r.id = q.run_id
  where q.run_id = $1 and q.branch = 0
), meant as (
  select *
  from held
  where has_failed or not $3::boolean
), readied as (
  update velo.queue q
  set ready_at = case when m.worker is null and not m.is_held and q.gated_at is null
                      then coalesce(q.ready_at, clock_timestamp()) end,
      wake_at = case when m.worker is not null then q.wake_at end,
      crashes = case when m.worker is null then 0 else q.crashes end,
      resumed_at = case when m.worker is null then clock_timestamp() else q.resumed_at end,
      resumed_seq = case when m.worker is null then (select max(s.seq) from velo.step s where s.run_id = $1)
                         else q.resumed_seq end,
      halt = nullif(q.halt, 'pause'),
      step_limit = coalesce($2::bigint, q.step_limit)
  from meant m
  where q.run_id = m.run_id and q.branch = 0
), settled as (
  update velo.failure f
  set is_settled = true
  from meant m
  where f.run_id = m.run_id and m.worker is null and not f.is_settled
), resumed as (
  update velo.run r
  set status = case when m.worker is not null then r.status
                    when m.is_held then 'waiting'
                    else 'active' end,
      error = null,
      failed_as = null
  from meant m
  where r.id = m.run_id
)
select case when exists (select from meant) then 'active'
            when exists (select from held) then 'waiting'
            else r.status end
from velo.run r
where r.id = $1";

/// What is asked of a resumed run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resumption {
    /// Steps that it may take in all, from now on.
    pub(crate) step_limit: Option<i64>,
    /// Whether it is left as it is unless one of its tasks has failed.
    pub(crate) only_failed: bool,
}

/// Has the run go on now; returns `Active` when it does, `Waiting` when it was left as it is, or how it has
/// ended; `None` when there is no such run.
pub(crate) async fn resume(
    pool: &PgPool,
    run: RunId,
    how: Resumption,
) -> Result<Option<RunStatus>, sqlx::Error> {
    let mut tx = super::begin(pool).await?;
    hold(&mut *tx, run).await?;
    let resumed = sqlx::query_scalar(RESUME)
        .bind(run)
        .bind(how.step_limit)
        .bind(how.only_failed)
        .fetch_optional(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(resumed)
}
