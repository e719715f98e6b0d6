//! Committing a step by hand, to a run that no worker has.

use sqlx::{FromRow, PgConnection};

use crate::run_id::RunId;

// Claims skip the row while it is locked, and answers wait for it.
pub(crate) const LOCK: &str = "\
-- velo: edit.lock
select worker, fence, code, is_cancelled, is_held
from velo.queue
where run_id = $1 and branch = 0
for update";

/// The run's place in the queue, locked.
#[derive(Debug, FromRow)]
pub(crate) struct Locked {
    pub(crate) worker: Option<i32>,
    pub(crate) fence: i64,
    pub(crate) code: String,
    pub(crate) is_cancelled: bool,
    pub(crate) is_held: bool,
}

pub(crate) async fn lock(
    conn: &mut PgConnection,
    run: RunId,
) -> Result<Option<Locked>, sqlx::Error> {
    sqlx::query_as(LOCK).bind(run).fetch_optional(conn).await
}

// A paused run stays paused: somebody may want to edit it again before it goes on.
pub(crate) const STEP: &str = "\
-- velo: edit.step
with step as (
  insert into velo.step (run_id, seq, fence, delta, control, snapshot)
  values ($1, $2, $3, $4, $5, $6)
), run as (
  update velo.run
  set status = case when status = 'waiting' then 'active' else status end
  where id = $1
  returning status
)
update velo.queue q
set fence = $3,
    ready_at = case when run.status <> 'paused' then clock_timestamp() end,
    wake_at = null,
    crashes = 0
from run
where q.run_id = $1 and q.branch = 0";

/// A step that was made by hand.
#[derive(Debug)]
pub(crate) struct EditedStep<'a> {
    pub(crate) run: RunId,
    pub(crate) seq: i32,
    pub(crate) fence: i64,
    pub(crate) delta: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) snapshot: &'a [u8],
}

pub(crate) async fn step(
    conn: &mut PgConnection,
    step: &EditedStep<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(STEP)
        .bind(step.run)
        .bind(step.seq)
        .bind(step.fence)
        .bind(step.delta)
        .bind(step.control)
        .bind(step.snapshot)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const FINISH: &str = "\
-- velo: edit.finish
with gone as (
  delete from velo.queue
  where run_id = $1
  returning run_id
), done as (
  update velo.run
  set status = 'completed', error = null, finished_at = clock_timestamp()
  from (select distinct run_id from gone) g
  where id = g.run_id
  returning id, thread
)
update velo.thread
set is_live = false
from done
where name = done.thread and run_id = done.id";

/// Ends a run after whose step nothing comes.
pub(crate) async fn finish(conn: &mut PgConnection, run: RunId) -> Result<(), sqlx::Error> {
    sqlx::query(FINISH).bind(run).execute(conn).await?;
    Ok(())
}
