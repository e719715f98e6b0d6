//! Finished tasks of a step whose other tasks are still at work.

use sqlx::PgExecutor;

use crate::lease::Lease;
use crate::run_id::RunId;

// A row of this lease is this very call, sent again; one of an earlier lease was read when the lease
// was taken, so its task did not run again.
pub(crate) const ADD: &str = "\
-- velo: outcome.add
insert into velo.outcome (run_id, seq, task, fence, outcome)
values ($1, $2, $3, $4, $5)
on conflict do nothing";

/// Adds an outcome; `false` when it is there already. Check the lease in the same transaction.
pub(crate) async fn add(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    task: i32,
    outcome: &[u8],
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(ADD)
        .bind(lease.run)
        .bind(seq)
        .bind(task)
        .bind(lease.fence)
        .bind(outcome)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const ADD_ALL: &str = "\
-- velo: outcome.add_all
select velo.add_outcomes($1, $2, $3, $4, $5, $6)";

/// Adds outcomes of one step in one statement of its own, if the lease holds: the tasks that had none
/// before, or `None` when it is gone.
pub(crate) async fn add_all(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    tasks: &[i32],
    outcomes: &[Vec<u8>],
) -> Result<Option<Vec<i32>>, sqlx::Error> {
    sqlx::query_scalar(ADD_ALL)
        .bind(lease.worker)
        .bind(lease.run)
        .bind(lease.fence)
        .bind(seq)
        .bind(tasks)
        .bind(outcomes)
        .fetch_one(db)
        .await
}

pub(crate) const GET: &str = "\
-- velo: outcome.get
select velo.whole(outcome)
from velo.outcome
where run_id = $1
  and seq = $2
  and task = $3";

/// Reads an outcome, if it is there.
pub(crate) async fn get(
    db: impl PgExecutor<'_>,
    run: RunId,
    seq: i32,
    task: i32,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(GET)
        .bind(run)
        .bind(seq)
        .bind(task)
        .fetch_optional(db)
        .await
}
