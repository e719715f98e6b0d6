//! Deleting what is not needed any more.

use std::time::Duration;

use crate::engine::{Engine, EngineError};
use crate::run_id::RunId;
use crate::store;

/// Runs that one statement deletes.
const BATCH: i64 = 100;
/// Statements of one call.
const BATCHES_MAX: usize = 1_000;

const DELETING: &str = "delete runs";

impl Engine {
    /// Deletes a run that has ended, with its steps, failures, questions, messages and events. Forks of
    /// it have their own copy of the state and stay; they keep its id as where they come from.
    ///
    /// Returns whether it was there: a second call deletes nothing.
    ///
    /// # Errors
    /// [`EngineError::NotEnded`] when the run has not ended: cancel it first. Or the database's.
    ///
    /// # Cancel safety
    /// All of the run is deleted or nothing: call it again.
    pub async fn delete(&self, run: RunId) -> Result<bool, EngineError> {
        let deleted = store::delete::runs(self.pool(), &[run])
            .await
            .map_err(EngineError::on(DELETING))?;
        if deleted > 0 {
            return Ok(true);
        }
        match self.run(run).await {
            Ok(_) => Err(EngineError::NotEnded(run)),
            Err(EngineError::NoRun(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes the runs of a thread that have ended, in batches; returns how many. Call it again until it
    /// is zero: at most a hundred thousand at once.
    ///
    /// # Errors
    /// [`EngineError::ThreadBusy`] while the thread has a run that has not ended; nothing is deleted
    /// then. Or the database's.
    ///
    /// # Cancel safety
    /// Each batch is a transaction of its own: call it again.
    pub async fn delete_thread(&self, name: &str) -> Result<u64, EngineError> {
        let live = store::thread::live_run(self.pool(), name)
            .await
            .map_err(EngineError::on(DELETING))?;
        if let Some(run) = live {
            return Err(EngineError::ThreadBusy {
                thread: name.to_owned(),
                run,
            });
        }
        let mut deleted = 0;
        for _ in 0..BATCHES_MAX {
            let ids = store::delete::of_thread(self.pool(), name, BATCH)
                .await
                .map_err(EngineError::on(DELETING))?;
            if ids.is_empty() {
                break;
            }
            deleted += self.delete_batch(&ids).await?;
        }
        Ok(deleted)
    }

    /// Deletes runs that ended longer ago than `older_than`, except the newest `keep` that ended of each
    /// thread; returns how many. Runs that have not ended are never touched, however old. At most a
    /// hundred thousand at once, oldest first: call it again until it is zero.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Each batch is a transaction of its own: call it again.
    pub async fn prune(&self, older_than: Duration, keep: u32) -> Result<u64, EngineError> {
        let (mut deleted, mut after) = (0, RunId::from_i64(0));
        for _ in 0..BATCHES_MAX {
            let ids = store::delete::old(self.pool(), after, older_than, keep.into(), BATCH)
                .await
                .map_err(EngineError::on(DELETING))?;
            let Some(last) = ids.last() else {
                break;
            };
            after = *last;
            deleted += self.delete_batch(&ids).await?;
        }
        Ok(deleted)
    }

    async fn delete_batch(&self, ids: &[RunId]) -> Result<u64, EngineError> {
        let deleted = store::delete::runs(self.pool(), ids)
            .await
            .map_err(EngineError::on(DELETING))?;
        Ok(u64::try_from(deleted).unwrap_or(0))
    }
}
