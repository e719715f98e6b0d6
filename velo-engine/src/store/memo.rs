//! Keeping the results of side effects.

use sqlx::PgExecutor;

use crate::lease::Lease;

pub(crate) const KEEP: &str = "\
-- velo: memo.keep
select velo.memoise($1, $2, $3, $4, $5, $6, $7)";

/// Keeps a result; `false` when the lease is gone.
pub(crate) async fn keep(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    task: i32,
    name: &str,
    value: &[u8],
) -> Result<bool, sqlx::Error> {
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
