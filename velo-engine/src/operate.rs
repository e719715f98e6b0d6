//! Steering runs: the verbs of an operator.
//!
//! Each says what is to be true, not what is to change: asked again, because its answer was lost, it gives
//! the same answer, and the engine itself asks again while the database is away for a moment.

use std::future::Future;

use serde_json::json;

use crate::engine::{Engine, EngineError};
use crate::family;
use crate::run_id::RunId;
use crate::store::run::RunStatus;
use crate::store::steer::{self, Ending, Resumption};
use crate::store::{self, Backoff};
use crate::vault::Home;

/// Calls of one verb while the database is away.
const CALLS_MAX: u32 = 8;

impl Engine {
    /// Ends a run before its end. A run that is at work notices within a heartbeat, and its nodes have a few
    /// seconds to notice too, by [`Context::cancelled`](crate::Context::cancelled). Child runs end with it as
    /// their [`OnClose`](crate::OnClose) says. A run in line on its thread leaves the line.
    ///
    /// Returns whether the run was cancelled, now, before or soon; `false` when it has completed.
    ///
    /// # Errors
    /// [`EngineError::NoRun`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn cancel(&self, run: RunId) -> Result<bool, EngineError> {
        self.end(run, "cancel the run", Ending::CANCELLED).await
    }

    /// Ends a run before its end, as [`cancel`](Self::cancel) does, and keeps the reason as its error.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn terminate(&self, run: RunId, reason: &str) -> Result<bool, EngineError> {
        let doing = "terminate the run";
        let reason = self.reason(run, doing, "terminated", reason)?;
        self.end(run, doing, Ending::now(&reason)).await
    }

    /// A reason as it is stored of the run.
    fn reason(
        &self,
        run: RunId,
        doing: &'static str,
        kind: &str,
        message: &str,
    ) -> Result<serde_json::Value, EngineError> {
        // jsonb has no NUL.
        let reason = json!({ "kind": kind, "message": message.replace('\0', "\u{fffd}") });
        self.vault()
            .seal_json(Home::of_run(run, "error"), reason)
            .map_err(EngineError::sealed(doing))
    }

    async fn end(
        &self,
        run: RunId,
        doing: &'static str,
        ending: Ending<'_>,
    ) -> Result<bool, EngineError> {
        let ended = steadily(|| steer::end_now(self.pool(), run, ending)).await;
        let ended = ended.map_err(EngineError::on(doing))?;
        let is_cancelled = ended.ok_or(EngineError::NoRun(run))? == RunStatus::Cancelled;
        if is_cancelled && let Err(error) = family::tell(self.pool(), run).await {
            tracing::debug!(run.id = %run, %error, "could not tell of the run's end yet");
        }
        // Perhaps the next run of its thread is ready now.
        self.hint();
        Ok(is_cancelled)
    }

    /// Pauses a run until it is [resumed](Self::resume), and keeps the reason as its error. One that is at
    /// work is paused at its next step boundary, within a heartbeat of it; one that sleeps or waits, at once,
    /// and what comes for it meanwhile is kept. A run in line keeps its place, and is paused when its turn
    /// comes.
    ///
    /// Returns at once. [`why`](Self::why) says whether the run is paused already.
    ///
    /// ```no_run
    /// # use velo_engine::{Engine, EngineError, RunId};
    /// # async fn example(engine: &Engine, run: RunId) -> Result<(), EngineError> {
    /// engine.pause(run, "the provider is down").await?;
    /// println!("{}", engine.why(run).await?);
    /// engine.resume(run).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Ended`] when it has ended or is being ended, [`EngineError::NoRun`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn pause(&self, run: RunId, reason: &str) -> Result<(), EngineError> {
        let reason = self.reason(run, "pause the run", "paused", reason)?;
        let paused = steadily(|| steer::pause(self.pool(), run, &reason)).await;
        let paused = paused.map_err(EngineError::on("pause the run"))?;
        match paused.ok_or(EngineError::NoRun(run))? {
            RunStatus::Paused => Ok(()),
            _ => Err(EngineError::Ended(run)),
        }
    }

    /// Has a paused run go on where it was, with all attempts of its retry policy before it; a run
    /// that waits for its next attempt goes on now, and one that was asked to pause and has not yet, does not.
    ///
    /// Returns whether the run goes on; `false` when it has ended.
    ///
    /// ```no_run
    /// # use velo_engine::{Engine, RunStatus};
    /// # async fn mend(engine: &Engine) -> Result<(), velo_engine::EngineError> {
    /// for run in engine.unfinished(None, 100).await? {
    ///     if run.status == RunStatus::Paused {
    ///         println!("run {} needs attention: {:?}", run.id, run.error);
    ///         // … mend what the error tells of, then:
    ///         engine.resume(run.id).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::NoRun`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn resume(&self, run: RunId) -> Result<bool, EngineError> {
        let status = self.go_on(run, Resumption::default()).await?;
        Ok(!status.is_terminal())
    }

    /// As [`resume`](Self::resume), and lets the run take `steps` steps in all from now on, whatever its graph
    /// or its start said: for one that was paused because it had taken them all.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn resume_within(&self, run: RunId, steps: u64) -> Result<bool, EngineError> {
        let how = Resumption {
            step_limit: Some(i64::try_from(steps).unwrap_or(i64::MAX)),
            ..Resumption::default()
        };
        Ok(!self.go_on(run, how).await?.is_terminal())
    }

    /// As [`resume`](Self::resume), of a run one of whose tasks has failed and waits for its next attempt, or
    /// that was paused by a failure: other runs are left as they are.
    ///
    /// # Errors
    /// [`EngineError::NothingFailed`], also when a call before has had the run go on;
    /// [`EngineError::Ended`]; [`EngineError::NoRun`]; or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn retry(&self, run: RunId) -> Result<(), EngineError> {
        let how = Resumption {
            only_failed: true,
            ..Resumption::default()
        };
        match self.go_on(run, how).await? {
            RunStatus::Active => Ok(()),
            status if status.is_terminal() => Err(EngineError::Ended(run)),
            _ => Err(EngineError::NothingFailed(run)),
        }
    }

    async fn go_on(&self, run: RunId, how: Resumption) -> Result<RunStatus, EngineError> {
        let resumed = steadily(|| steer::resume(self.pool(), run, how)).await;
        let resumed = resumed.map_err(EngineError::on("resume the run"))?;
        self.hint();
        resumed.ok_or(EngineError::NoRun(run))
    }

    /// Counts a task of a paused run as finished without having written anything: the edges of its node
    /// fire, and the run goes on. `task` is its place in the step, from zero, which the run's error
    /// names. What else of the step has failed is tried afresh, as by [`resume`](Self::resume).
    ///
    /// Returns whether it was so; `false` when the run is not paused, or the task has not failed.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the task may or may not be skipped. A second call does no harm.
    pub async fn skip(&self, run: RunId, task: i32) -> Result<bool, EngineError> {
        let skipped = store::operator::skip(self.pool(), run, task)
            .await
            .map_err(EngineError::on("skip the task"))?;
        self.hint();
        Ok(skipped)
    }

    /// Asks a worker to stop in order, wherever it is: it claims no more, gives its runs back at their next
    /// step boundaries, for others to go on with at once, and ends; nodes that take longer than its grace are
    /// dropped, and taken again by others. It notices within a heartbeat.
    ///
    /// Returns at once: it has stopped when [`workers`](Self::workers) has it no more.
    ///
    /// # Errors
    /// [`EngineError::NoWorker`] when there is none of this id; or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn drain_worker(&self, worker: i32) -> Result<(), EngineError> {
        let asked = steadily(|| store::lease::drain(self.pool(), worker)).await;
        match asked.map_err(EngineError::on("drain the worker"))? {
            true => Ok(()),
            false => Err(EngineError::NoWorker(worker)),
        }
    }
}

/// Asks again while the database is away: what is asked may be done twice.
async fn steadily<T, F>(mut ask: impl FnMut() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let (mut calls, mut backoff) = (1, Backoff::default());
    loop {
        match ask().await {
            Err(error) if store::is_transient(&error) && calls < CALLS_MAX => {
                calls += 1;
                backoff.wait().await;
            }
            answered => return answered,
        }
    }
}
