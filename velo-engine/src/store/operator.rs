//! What an operator does to a run that needs attention.

use sqlx::PgPool;

use crate::run_id::RunId;
use crate::stored::NOTHING_DONE;

// A statement of its own: what the next one reads may have changed while this one waited for the row.
pub(crate) const PARKED: &str = "\
-- velo: queue.lock_parked
select true
from velo.queue
where run_id = $1 and branch = 0 and worker is null and ready_at is null and wake_at is null
for update";

pub(crate) const SKIP: &str = "\
-- velo: run.skip
with failed as (
  select f.run_id, f.seq, f.task, q.fence
  from velo.queue q
  join velo.run r on r.id = q.run_id and r.status = 'paused'
  join velo.failure f
    on f.run_id = q.run_id
   and f.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = $1)
   and f.task = $2
  where q.run_id = $1 and q.branch = 0
    and not f.is_settled and f.retry_at is null
  limit 1
), added as (
  insert into velo.outcome (run_id, seq, task, fence, outcome)
  select run_id, seq, task, fence, $3
  from failed
  on conflict do nothing
  returning run_id
), readied as (
  update velo.queue q
  set ready_at = clock_timestamp(), crashes = 0, resumed_at = clock_timestamp()
  from added
  where q.run_id = added.run_id and q.branch = 0
), settled as (
  update velo.failure f
  set is_settled = true
  from added
  where f.run_id = added.run_id and not f.is_settled
), resumed as (
  update velo.run r
  set status = 'active', error = null, failed_as = null
  from added
  where r.id = added.run_id
)
select count(*) from added";

/// Counts a task as finished that has no further attempt, and has its run go on; `false` when the run
/// is not paused, or the task has not failed.
pub(crate) async fn skip(pool: &PgPool, run: RunId, task: i32) -> Result<bool, sqlx::Error> {
    let mut transaction = super::begin(pool).await?;
    let parked: Option<bool> = sqlx::query_scalar(PARKED)
        .bind(run)
        .fetch_optional(&mut *transaction)
        .await?;
    if parked.is_none() {
        return Ok(false);
    }
    let added: i64 = sqlx::query_scalar(SKIP)
        .bind(run)
        .bind(task)
        .bind(NOTHING_DONE)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(added == 1)
}
