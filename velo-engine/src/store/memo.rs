//! Keeping the results of side effects.

use sqlx::PgExecutor;

use crate::lease::Lease;
use crate::run_id::RunId;

pub(crate) const KEEP: &str = "\
-- velo: memo.keep
select velo.memoise($1, $2, $3, $4, $5, $6, $7)";

/// Keeps a result; `Some(false)` when one is there already, `None` when the lease is gone.
pub(crate) async fn keep(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    task: i32,
    name: &str,
    value: &[u8],
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(KEEP)
        .bind(lease.worker)
        .bind(lease.run)
        .bind(lease.fence)
        .bind(seq)
        .bind(task)
        .bind(name)
        .bind(value)
        .fetch_one(db)
        .await
}

pub(crate) const GET: &str = "\
-- velo: memo.get
select velo.whole(value)
from velo.memo
where run_id = $1
  and seq = $2
  and task = $3
  and name = $4";

/// Reads a result that is kept.
pub(crate) async fn get(
    db: impl PgExecutor<'_>,
    run: RunId,
    seq: i32,
    task: i32,
    name: &str,
) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar(GET)
        .bind(run)
        .bind(seq)
        .bind(task)
        .bind(name)
        .fetch_one(db)
        .await
}
