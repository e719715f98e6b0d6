//! The same done to many runs: stored, done in batches by whichever worker comes, gone on with by another one
//! when that dies.

use std::time::Duration;

use futures::{StreamExt, stream};

use crate::engine::{Engine, EngineError, PAGE_MAX};
use crate::run_filter::RunFilter;
use crate::run_id::RunId;
use crate::store::{self, bulk::Taken};

pub use crate::store::bulk::{Bulk, BulkStatus};

/// Runs of a batch that are at work at once.
const AT_ONCE: usize = 8;
/// How long a batch is left to who has begun it.
pub(crate) const BATCH_TIME: Duration = Duration::from_secs(10);
/// Between two looks of who waits.
const LOOK: Duration = Duration::from_millis(200);

/// What is done to many runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkAction {
    /// [`Engine::cancel`].
    Cancel,
    /// [`Engine::terminate`], with this reason.
    Terminate {
        /// Why.
        reason: String,
    },
    /// [`Engine::resume`], of paused runs alone: what they failed with is tried again.
    Resume,
}

impl BulkAction {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate { .. } => "terminate",
            Self::Resume => "resume",
        }
    }
}

impl Engine {
    /// Has something done to all runs that `filter` finds and that are there now; returns the operation's number.
    /// Workers do it in batches, each run once or, where a worker dies in the middle of a batch, twice,
    /// which does no harm. [`get_bulk`](Self::get_bulk) says how far it is, [`wait_bulk`](Self::wait_bulk)
    /// does it here if no worker does, and [`cancel_bulk`](Self::cancel_bulk) ends it half-way.
    ///
    /// ```no_run
    /// use velo_engine::{BulkAction, Engine, RunFilter};
    ///
    /// # async fn example(engine: &Engine) -> Result<(), velo_engine::EngineError> {
    /// // The cause is mended: try all again that failed at the node `charge`.
    /// let filter = RunFilter { node: Some("charge".to_owned()), ..RunFilter::failed() };
    /// let id = engine.bulk(&BulkAction::Resume, &filter).await?;
    /// let done = engine.wait_bulk(id).await?;
    /// println!("{} of {} runs go on", done.changed, done.matched);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the operation may or may not have begun: see [`bulks`](Self::bulks).
    pub async fn bulk(&self, action: &BulkAction, filter: &RunFilter) -> Result<i64, EngineError> {
        let reason = match action {
            // text has no NUL.
            BulkAction::Terminate { reason } => Some(reason.replace('\0', "\u{fffd}")),
            _ => None,
        };
        store::bulk::begin(self.pool(), action.as_str(), reason.as_deref(), filter)
            .await
            .map_err(EngineError::on("begin the operation"))
    }

    /// How an operation on many runs stands; `None` when there is none of this number.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn get_bulk(&self, id: i64) -> Result<Option<Bulk>, EngineError> {
        store::bulk::get(self.pool(), id)
            .await
            .map_err(EngineError::on("read the operation"))
    }

    /// Operations on many runs, newest first; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn bulks(&self, limit: i64) -> Result<Vec<Bulk>, EngineError> {
        store::bulk::list(self.pool(), limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the operations"))
    }

    /// Ends an operation after the batch that it is at; what is done stays done. Returns whether it had not ended.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn cancel_bulk(&self, id: i64) -> Result<bool, EngineError> {
        store::bulk::cancel(self.pool(), id)
            .await
            .map_err(EngineError::on("cancel the operation"))
    }

    /// Does the next batch of the oldest operation that nobody is at; returns whether there was one. Workers call
    /// it.
    ///
    /// # Errors
    /// The database's. The batch is done again, by whoever comes after ten seconds.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn advance_bulk(&self) -> Result<bool, EngineError> {
        self.advance(None).await
    }

    /// Works on an operation, beside the workers, until it has ended. It does not end by itself while another
    /// process is at a batch: bound it with a timeout.
    ///
    /// # Errors
    /// The database's; that of a row that is not found when there is no such operation.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait_bulk(&self, id: i64) -> Result<Bulk, EngineError> {
        loop {
            let has_advanced = self.advance(Some(id)).await?;
            let bulk = self.get_bulk(id).await?.ok_or(EngineError::NoBulk(id))?;
            if bulk.status != BulkStatus::Running {
                return Ok(bulk);
            }
            if !has_advanced {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    async fn advance(&self, id: Option<i64>) -> Result<bool, EngineError> {
        let failed = EngineError::on("go on with the operation");
        let Some(taken) = store::bulk::take(self.pool(), id, BATCH_TIME)
            .await
            .map_err(failed)?
        else {
            return Ok(false);
        };
        let batch = store::bulk::batch(self.pool(), &taken)
            .await
            .map_err(EngineError::on("find the operation's runs"))?;
        let done: Vec<Result<bool, EngineError>> = stream::iter(batch.runs.iter().copied())
            .map(|run| self.act(&taken, run))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut changed = 0;
        for run in done {
            changed += i64::from(run?);
        }
        let matched = i64::try_from(batch.runs.len()).unwrap_or(i64::MAX);
        store::bulk::save(self.pool(), &taken, batch.until, matched, changed)
            .await
            .map_err(EngineError::on("note how far the operation is"))?;
        Ok(true)
    }

    async fn act(&self, taken: &Taken, run: RunId) -> Result<bool, EngineError> {
        match (taken.action.as_str(), &taken.reason) {
            ("cancel", _) => self.cancel(run).await,
            ("terminate", Some(reason)) => self.terminate(run, reason).await,
            _ => self.resume(run).await,
        }
    }
}
