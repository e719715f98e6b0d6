//! Committing steps.

use sqlx::{FromRow, PgExecutor};

use crate::lease::Lease;

/// A step that was taken and is to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    /// The lease under which it was taken.
    pub lease: Lease,
    /// Which step of the run it is, from one.
    pub seq: i32,
    /// What was written.
    pub delta: Vec<u8>,
    /// What comes next.
    pub control: Vec<u8>,
    /// The whole state, now and then.
    pub snapshot: Option<Vec<u8>>,
    /// What becomes of the lease.
    pub then: Then,
}

/// What becomes of a lease when its step is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The worker goes on with the run.
    Keep,
    /// Another worker may go on with it.
    Yield,
    /// The run has finished.
    Finish,
}

/// What became of a step that was to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was committed now.
    Added,
    /// This lease had committed the step before: an answer was lost.
    Repeated,
    /// The lease holds, but an earlier one has committed the step since this one began: its COMMIT
    /// came late.
    Behind,
    /// It was refused: the lease is gone.
    Lost,
}

pub(crate) const STEPS: &str = "\
-- velo: step.commit
select place, verdict
from velo.commit_steps($1, $2, $3, $4, $5, $6, $7, $8)";

#[derive(FromRow)]
struct Placed {
    place: i32,
    verdict: String,
}

/// Commits steps of different runs, all held by `worker`, in one statement; the verdicts are in the
/// order of the steps.
///
/// # Errors
/// The database's. When the answer was lost, some or all of the steps may be committed: the same call
/// again tells.
///
/// # Cancel safety
/// Dropped half-way, the steps may or may not be committed.
pub async fn steps(
    db: impl PgExecutor<'_>,
    worker: i32,
    rows: &[StepRow],
) -> Result<Vec<Verdict>, sqlx::Error> {
    let column = |row: &StepRow| match row.then {
        Then::Keep => "k",
        Then::Yield => "y",
        Then::Finish => "f",
    };
    let placed: Vec<Placed> = sqlx::query_as(STEPS)
        .bind(worker)
        .bind(rows.iter().map(|row| row.lease.run).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.lease.fence).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.delta.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.control.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.snapshot.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(column).collect::<Vec<_>>())
        .fetch_all(db)
        .await?;
    let mut verdicts = vec![Verdict::Lost; rows.len()];
    for Placed { place, verdict } in placed {
        let index = usize::try_from(place - 1).ok();
        let slot = index
            .and_then(|index| verdicts.get_mut(index))
            .ok_or_else(|| {
                sqlx::Error::Protocol(format!("step.commit answered for place {place}"))
            })?;
        *slot = match verdict.as_str() {
            "added" => Verdict::Added,
            "repeated" => Verdict::Repeated,
            "behind" => Verdict::Behind,
            _ => Verdict::Lost,
        };
    }
    Ok(verdicts)
}
