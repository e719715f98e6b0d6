//! How all runs stand, for an operator at a terminal.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;

use crate::engine::{Engine, EngineError, PAGE_MAX, WorkerInfo};
use crate::store::overview::{self, COUNTED_MAX, Counters};

/// How the runs of one graph stand that have not ended.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct GraphLoad {
    /// Name and version of the graph.
    pub graph: String,
    /// Runs that a worker could take now.
    pub ready: i64,
    /// For how long the oldest of them has been ready, in seconds; zero when there is none.
    pub oldest_ready_seconds: f64,
    /// Runs that a worker has.
    pub running: i64,
    /// Runs that sleep, or wait for the next attempt of a node.
    pub for_time: i64,
    /// Runs that wait for an answer.
    pub for_answer: i64,
    /// Runs that wait for a message.
    pub for_message: i64,
    /// Runs that wait for runs that they have started.
    pub for_child: i64,
    /// Runs that are paused and need attention.
    pub paused: i64,
}

impl GraphLoad {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.ready
            + self.running
            + self.for_time
            + self.for_answer
            + self.for_message
            + self.for_child
            + self.paused
    }
}

/// How much happens in a second, by what the server counts; its counts may be a second or two late.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Steps committed, the starts included.
    pub steps: f64,
    /// Attempts that failed.
    pub failures: f64,
    /// Runs started.
    pub runs: f64,
}

/// How all runs and workers stand at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// The moment.
    pub at: DateTime<Utc>,
    /// How much has happened since the look before; `None` for the first.
    pub per_second: Option<Rates>,
    /// By graph.
    pub graphs: Vec<GraphLoad>,
    /// Whether there are more runs than were counted: then these are the newest twenty thousand.
    pub is_cut_off: bool,
    /// The registered workers.
    pub workers: Vec<WorkerInfo>,
}

/// Looks again and again; made by [`Engine::watch`]. Cheap to clone: all share one look before.
#[derive(Debug, Clone)]
pub struct Watch {
    engine: Engine,
    before: Arc<Mutex<Option<Counters>>>,
}

impl Engine {
    /// Begins to watch how all runs and workers stand.
    ///
    /// ```no_run
    /// # async fn example(engine: velo_engine::Engine) -> Result<(), velo_engine::EngineError> {
    /// let watch = engine.watch();
    /// watch.look().await?;
    /// tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    /// let now = watch.look().await?;
    /// println!("{:?}", now.per_second.map(|rates| rates.steps));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            engine: self.clone(),
            before: Arc::default(),
        }
    }
}

impl Watch {
    /// Looks once.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn look(&self) -> Result<Overview, EngineError> {
        let pool = self.engine.pool();
        let counting = || EngineError::on("count the runs");
        let counters = overview::counters(pool).await.map_err(counting())?;
        let graphs = overview::graphs(pool).await.map_err(counting())?;
        let workers = self.engine.workers(PAGE_MAX).await?;
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let before = before.replace(counters);
        Ok(Overview {
            at: counters.at,
            per_second: before.and_then(|before| rates(before, counters)),
            is_cut_off: graphs.iter().map(GraphLoad::total).sum::<i64>() >= COUNTED_MAX,
            graphs,
            workers,
        })
    }
}

/// What happened between two looks; `None` when no time has passed, or the server began to count anew.
fn rates(before: Counters, now: Counters) -> Option<Rates> {
    let seconds = (now.at - before.at).as_seconds_f64();
    let rate = |before: i64, now: i64| {
        let more = u32::try_from(now.checked_sub(before)?).ok()?;
        (seconds > 0.0).then(|| f64::from(more) / seconds)
    };
    Some(Rates {
        steps: rate(before.steps, now.steps)?,
        failures: rate(before.failures, now.failures)?,
        runs: rate(before.runs, now.runs)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(millis: i64, steps: i64) -> Counters {
        Counters {
            at: DateTime::from_timestamp_millis(millis).unwrap(),
            steps,
            failures: 0,
            runs: 1,
        }
    }

    #[test]
    fn rates_are_per_second_and_none_when_the_server_began_to_count_anew() {
        let found = rates(counters(1_000, 10), counters(3_000, 50)).unwrap();
        assert_eq!((found.steps, found.failures, found.runs), (20.0, 0.0, 0.0));
        assert_eq!(rates(counters(1_000, 10), counters(3_000, 5)), None);
        assert_eq!(rates(counters(1_000, 10), counters(1_000, 10)), None);
    }
}
