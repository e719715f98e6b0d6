//! Deleting what has expired.

use sqlx::PgPool;

use crate::store;

/// Most documents that one statement deletes.
pub const SWEEP_BATCH: i64 = 1_000;
/// Most statements of one call.
pub const SWEEPS_MAX: u32 = 10;

/// Deletes documents that have expired, which nobody sees any more: those that expired first, at most
/// [`SWEEP_BATCH`] times [`SWEEPS_MAX`]. Returns how many. Workers call it now and then; several at once
/// share the work.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Each batch is a transaction of its own.
pub async fn sweep(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    for _ in 0..SWEEPS_MAX {
        let batch = store::item::sweep(pool, SWEEP_BATCH).await?;
        deleted += batch;
        if batch < SWEEP_BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(deleted)
}
