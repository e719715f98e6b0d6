//! What an operator can do with a run beside resuming and cancelling it.

use serde_json::json;

use crate::engine::{Engine, EngineError};
use crate::run_id::RunId;
use crate::store;
use crate::vault::Home;

impl Engine {
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

    /// Ends a run before its end, as [`cancel`](Self::cancel) does, and keeps the reason as its error. A
    /// run that is at work notices within a heartbeat.
    ///
    /// Returns whether there was something to end: a run that has ended stays as it ended.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn terminate(&self, run: RunId, reason: &str) -> Result<bool, EngineError> {
        // jsonb has no NUL.
        let reason = reason.replace('\0', "\u{fffd}");
        let reason = json!({ "kind": "terminated", "message": reason });
        let reason = self
            .vault()
            .seal_json(Home::of_run(run, "error"), reason)
            .map_err(EngineError::sealed("terminate the run"))?;
        store::operator::terminate(self.pool(), run, &reason)
            .await
            .map_err(EngineError::on("terminate the run"))
    }
}
