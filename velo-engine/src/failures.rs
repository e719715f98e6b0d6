//! What has failed for good, in groups: runs that wait for somebody to mend the cause.

use crate::engine::{Engine, EngineError, PAGE_MAX, Run};
use crate::run_filter::RunFilter;
use crate::run_id::RunId;
use crate::store;

pub use crate::store::failure_group::FailureGroup;

impl Engine {
    /// The failures that have paused runs, those of the same graph, node and fingerprint together, the most
    /// frequent first; at most `limit` groups and [`PAGE_MAX`]. The newest hundred thousand paused runs
    /// that `filter` finds are looked at.
    ///
    /// [`resume`](Self::resume) tries a run of them again, [`terminate`](Self::terminate) gives it up, and
    /// [`bulk`](Self::bulk) does either to all that a filter finds.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn failures(
        &self,
        filter: &RunFilter,
        limit: i64,
    ) -> Result<Vec<FailureGroup>, EngineError> {
        let groups = store::failure_group::groups(self.pool(), filter, limit.clamp(0, PAGE_MAX));
        let mut groups = groups.await.map_err(EngineError::on("list the failures"))?;
        for group in &mut groups {
            self.vault().show_reason(group.newest, &mut group.error);
        }
        Ok(groups)
    }

    /// The runs that failures have paused and that `filter` finds, oldest first, after the run `after`; at most
    /// `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn failed_runs(
        &self,
        filter: &RunFilter,
        after: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<Run>, EngineError> {
        let runs = store::failure_group::runs(self.pool(), filter, after, limit.clamp(0, PAGE_MAX));
        let mut runs = runs
            .await
            .map_err(EngineError::on("list the failed runs"))?;
        runs.iter_mut().for_each(|run| self.vault().show_run(run));
        Ok(runs)
    }
}
