//! Committing steps.

use sqlx::{FromRow, PgExecutor};

use crate::lease::Lease;
use crate::run_id::RunId;

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

pub(crate) const ALL: &str = "\
-- velo: step.commit_all
select velo.commit_all($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// SQLSTATE of a commit of several steps when some of the leases are gone.
const NOT_ALL: &str = "VL010";
/// SQLSTATE of a second row where one is.
const UNIQUE_VIOLATION: &str = "23505";

/// Commits steps of different runs, all held by `worker`, in one statement: all of them, or, with the answer
/// `false`, none, because one is committed already or its lease is gone; [`steps`] then tells which. Cheaper
/// than that. Not inside a transaction, which `false` would leave broken.
///
/// # Errors
/// The database's. When the answer was lost, all of the steps or none are committed.
///
/// # Cancel safety
/// As when the answer is lost.
pub async fn all(
    db: impl PgExecutor<'_>,
    worker: i32,
    rows: &[StepRow],
) -> Result<bool, sqlx::Error> {
    let runs_that = |then: Then| -> Vec<RunId> {
        let those = rows.iter().filter(|row| row.then == then);
        those.map(|row| row.lease.run).collect()
    };
    let columns = Columns::of(rows);
    let committed = sqlx::query(ALL)
        .bind(worker)
        .bind(columns.run)
        .bind(columns.fence)
        .bind(columns.seq)
        .bind(columns.delta)
        .bind(columns.control)
        .bind(columns.snapshot)
        .bind(runs_that(Then::Finish))
        .bind(runs_that(Then::Yield))
        .execute(db)
        .await;
    match committed {
        Ok(_) => Ok(true),
        Err(error) => match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code == NOT_ALL || code == UNIQUE_VIOLATION => Ok(false),
            _ => Err(error),
        },
    }
}

/// Steps, column by column.
struct Columns<'a> {
    run: Vec<RunId>,
    fence: Vec<i64>,
    seq: Vec<i32>,
    delta: Vec<&'a [u8]>,
    control: Vec<&'a [u8]>,
    snapshot: Vec<Option<&'a [u8]>>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a [StepRow]) -> Self {
        Self {
            run: rows.iter().map(|row| row.lease.run).collect(),
            fence: rows.iter().map(|row| row.lease.fence).collect(),
            seq: rows.iter().map(|row| row.seq).collect(),
            delta: rows.iter().map(|row| row.delta.as_slice()).collect(),
            control: rows.iter().map(|row| row.control.as_slice()).collect(),
            snapshot: rows.iter().map(|row| row.snapshot.as_deref()).collect(),
        }
    }
}

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
    let columns = Columns::of(rows);
    let placed: Vec<Placed> = sqlx::query_as(STEPS)
        .bind(worker)
        .bind(columns.run)
        .bind(columns.fence)
        .bind(columns.seq)
        .bind(columns.delta)
        .bind(columns.control)
        .bind(columns.snapshot)
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
