//! Reading back where a run stands.

use serde_json::Value;
use sqlx::{FromRow, PgPool};

use super::wait::{self, StoredSignal, StoredWait};
use crate::error::NodeError;
use crate::run_id::RunId;

/// Where a run stands, as stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// From the newest snapshot to the newest step; never empty.
    pub(crate) steps: Vec<StoredStep>,
    pub(crate) memos: Vec<StoredMemo>,
    pub(crate) outcomes: Vec<StoredOutcome>,
    pub(crate) failures: Vec<StoredFailures>,
    pub(crate) waits: Vec<StoredWait>,
    pub(crate) signals: Vec<StoredSignal>,
}

#[derive(Debug, FromRow)]
pub(crate) struct StoredStep {
    pub(crate) seq: i32,
    pub(crate) delta: Vec<u8>,
    pub(crate) control: Option<Vec<u8>>,
    pub(crate) snapshot: Option<Vec<u8>>,
}

#[derive(Debug, FromRow)]
pub(crate) struct StoredMemo {
    pub(crate) task: i32,
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, FromRow)]
pub(crate) struct StoredOutcome {
    pub(crate) task: i32,
    pub(crate) outcome: Vec<u8>,
}

/// The failed attempts of one task.
#[derive(Debug, FromRow)]
pub(crate) struct StoredFailures {
    pub(crate) task: i32,
    /// All of them.
    pub(crate) number: i32,
    /// Those since somebody last resumed the run.
    pub(crate) counted: i32,
    /// Seconds until the next attempt, zero or less when it is due; `None` when there is none.
    pub(crate) due_in: Option<f64>,
    pub(crate) error: sqlx::types::Json<Value>,
}

impl StoredFailures {
    pub(crate) fn error(&self) -> NodeError {
        serde_json::from_value(self.error.0.clone())
            .unwrap_or_else(|_| NodeError::permanent(self.error.0.to_string()))
    }
}

// Only the newest step's control counts, so the others' is left in the server.
pub(crate) const STEPS: &str = "\
-- velo: run.load_steps
select seq, delta, case when row_number() over (order by seq desc) = 1 then control end as control, snapshot
from velo.step
where run_id = $1
  and seq >= (select seq
              from velo.step
              where run_id = $1 and snapshot is not null
              order by seq desc
              limit 1)
order by seq";

pub(crate) const MEMOS: &str = "\
-- velo: run.load_memos
select task, name, value
from velo.memo
where run_id = $1
  and seq = $2";

pub(crate) const OUTCOMES: &str = "\
-- velo: run.load_outcomes
select task, outcome
from velo.outcome
where run_id = $1
  and seq = $2";

pub(crate) const FAILURES: &str = "\
-- velo: run.load_failures
select distinct on (task)
       task,
       max(attempt) over (partition by task) as number,
       (count(*) filter (where not is_settled) over (partition by task))::integer as counted,
       case when is_settled then 0
            else extract(epoch from retry_at - clock_timestamp())::float8 end as due_in,
       error
from velo.failure
where run_id = $1
  and seq = $2
order by task, attempt desc";

/// Reads where the run stands; `None` when there is no such run.
pub(crate) async fn stored(pool: &PgPool, run: RunId) -> Result<Option<Stored>, sqlx::Error> {
    let steps = steps(pool, run).await?;
    let Some(last) = steps.last() else {
        return Ok(None);
    };
    let next = last.seq + 1;
    Ok(Some(Stored {
        memos: sqlx::query_as(MEMOS)
            .bind(run)
            .bind(next)
            .fetch_all(pool)
            .await?,
        outcomes: sqlx::query_as(OUTCOMES)
            .bind(run)
            .bind(next)
            .fetch_all(pool)
            .await?,
        failures: sqlx::query_as(FAILURES)
            .bind(run)
            .bind(next)
            .fetch_all(pool)
            .await?,
        waits: wait::load(pool, run, next).await?,
        signals: wait::signals(pool, run).await?,
        steps,
    }))
}

/// The steps from the newest snapshot on.
pub(crate) async fn steps(pool: &PgPool, run: RunId) -> Result<Vec<StoredStep>, sqlx::Error> {
    sqlx::query_as(STEPS).bind(run).fetch_all(pool).await
}
