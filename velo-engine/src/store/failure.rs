//! Failed attempts.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;
use sqlx::types::Json;

use crate::lease::Lease;

/// A failed attempt of a task.
#[derive(Debug)]
pub(crate) struct NewFailure<'a> {
    pub(crate) seq: i32,
    pub(crate) task: i32,
    /// Counts all attempts of the task, also those before somebody resumed the run.
    pub(crate) number: i32,
    /// As stored.
    pub(crate) error: &'a Value,
    pub(crate) again_in: Option<Duration>,
}

pub(crate) const RECORD: &str = "\
-- velo: failure.record
insert into velo.failure (run_id, seq, task, attempt, fence, error, retry_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7)
on conflict do nothing";

/// Records it. Check the lease in the same transaction.
pub(crate) async fn record(
    db: impl PgExecutor<'_>,
    lease: Lease,
    failure: &NewFailure<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(RECORD)
        .bind(lease.run)
        .bind(failure.seq)
        .bind(failure.task)
        .bind(failure.number)
        .bind(lease.fence)
        .bind(Json(failure.error))
        .bind(failure.again_in.map(interval))
        .execute(db)
        .await?;
    Ok(())
}

/// The longest wait: a hundred years.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// As Postgres counts time, at most [`LONGEST`].
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = duration.min(LONGEST).as_micros();
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(microseconds).expect("bounded above"),
    }
}
