//! Deleting runs that have ended.

use sqlx::PgExecutor;
use std::time::Duration;

use super::failure::interval;
use crate::run_id::RunId;

// The run's row goes first: of two at once the second finds nothing. A run that has a place in the
// queue lives, whatever its row says. A fork has its own copy of the state, so nothing of the original
// is needed by it.
pub(crate) const DELETE: &str = "\
-- velo: run.delete
with gone as (
  delete from velo.run r
  where r.id = any($1)
    and r.finished_at is not null
    and not exists (select from velo.queue q where q.run_id = r.id)
    -- A parent that is still at work may look at what its child has left.
    and not exists (select from velo.run p where p.id = r.parent and p.finished_at is null)
  returning id, thread
), steps as (
  delete from velo.step s using gone where s.run_id = gone.id
), memos as (
  delete from velo.memo m using gone where m.run_id = gone.id
), outcomes as (
  delete from velo.outcome o using gone where o.run_id = gone.id
), failures as (
  delete from velo.failure f using gone where f.run_id = gone.id
), waits as (
  delete from velo.wait w using gone where w.run_id = gone.id
), signals as (
  delete from velo.signal i using gone where i.run_id = gone.id
), updates as (
  delete from velo.run_update u using gone where u.run_id = gone.id
), events as (
  delete from velo.event e using gone where e.stream = 'run/' || gone.id
), streams as (
  delete from velo.stream t using gone where t.name = 'run/' || gone.id
), pieces as (
  delete from velo.piece i using gone where i.run_id = gone.id
), piece_heads as (
  delete from velo.piece_head h using gone where h.run_id = gone.id
), children as (
  delete from velo.child c using gone where c.run_id = gone.id
), inputs as (
  delete from velo.input i using gone where i.run_id = gone.id
), blob_uses as (
  -- What no run needs any more goes with it.
  delete from velo.blob_use u using gone where u.run_id = gone.id
), permits as (
  delete from velo.permit p using gone where p.run_id = gone.id
), endings as (
  delete from velo.ending e using gone where e.run_id = gone.id
), threads as (
  delete from velo.thread t using gone
  where t.name = gone.thread and not t.is_live
    -- A run that was rolled back takes nothing with it: the thread goes with the one that it went back to.
    and case when t.is_undone and t.before_run is not null then t.before_run = gone.id
             else t.run_id = gone.id end
)
select count(*) from gone";

/// Deletes those of the runs that have ended; returns how many.
pub(crate) async fn runs(db: impl PgExecutor<'_>, ids: &[RunId]) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(DELETE).bind(ids).fetch_one(db).await
}

pub(crate) const THREAD: &str = "\
-- velo: thread.ended_runs
select id
from velo.run
where thread = $1
  and finished_at is not null
order by id
limit $2";

/// Runs of the thread that have ended, oldest first.
pub(crate) async fn of_thread(
    db: impl PgExecutor<'_>,
    thread: &str,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(THREAD)
        .bind(thread)
        .bind(limit)
        .fetch_all(db)
        .await
}

// By id, which grows with time: what is old comes first.
pub(crate) const OLD: &str = "\
-- velo: run.old
select r.id
from velo.run r
where r.id > $1
  and r.finished_at < clock_timestamp() - $2::interval
  and (r.thread is null
       or (select count(*)
           from (select
                 from velo.run n
                 where n.thread = r.thread and n.id > r.id and n.finished_at is not null
                 limit $3) newer) >= $3)
  and not exists (select from velo.thread t
                  where t.name = r.thread
                    and case when t.is_undone then t.before_run = r.id
                             else t.is_live and t.before_run = r.id end)
  and not exists (select from velo.input i where i.base_run = r.id)
  and not exists (select from velo.ending e where e.run_id = r.id)
  and not velo.has_live_fork(r.id)
  and (r.parent is null or not velo.has_live_fork(r.parent))
order by r.id
limit $4";

/// Runs that ended longer ago than `age`, except the newest `keep` that ended of each thread, and those from
/// whose state another begins, or would if its thread's live run were rolled back; after the run `after`,
/// oldest first.
pub(crate) async fn old(
    db: impl PgExecutor<'_>,
    after: RunId,
    age: Duration,
    keep: i64,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(OLD)
        .bind(after)
        .bind(interval(age))
        .bind(keep)
        .bind(limit)
        .fetch_all(db)
        .await
}
