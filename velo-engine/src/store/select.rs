//! Deciding between several things that a task waits for.

use sqlx::PgExecutor;

use crate::lease::Lease;

pub(crate) const DECIDE: &str = "\
-- velo: wait.decide
select verdict, velo.whole(decision)
from velo.decide($1, $2, $3, $4, $5, $6, $7, $8)";

/// What became of a decision between several things that a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decided {
    /// This is the one that counts.
    So(Vec<u8>),
    /// An answer was accepted meanwhile, and wins.
    Answered,
    /// The message is no longer to be had.
    Taken,
    /// The lease is gone.
    Lost,
}

/// Where it is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) lease: Lease,
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) name: &'a str,
}

/// Decides for `decision`, and for the message `signal` if that is what wins.
pub(crate) async fn decide(
    db: impl PgExecutor<'_>,
    spot: Spot<'_>,
    decision: &[u8],
    signal: Option<i64>,
) -> Result<Decided, sqlx::Error> {
    let (verdict, decision): (String, Option<Vec<u8>>) = sqlx::query_as(DECIDE)
        .bind(spot.lease.worker)
        .bind(spot.lease.run)
        .bind(spot.lease.fence)
        .bind(spot.seq)
        .bind(spot.task)
        .bind(spot.name)
        .bind(decision)
        .bind(signal)
        .fetch_one(db)
        .await?;
    Ok(match verdict.as_str() {
        "decided" => Decided::So(decision.unwrap_or_default()),
        "answered" => Decided::Answered,
        "taken" => Decided::Taken,
        _ => Decided::Lost,
    })
}
