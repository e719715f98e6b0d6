//! Moving a run to another version of its graph, by hand.

use crate::engine::{Engine, EngineError};
use crate::graph::Graph;
use crate::run_id::RunId;
use crate::state::State;
use crate::store;
use crate::turn::misfits;

const MOVING: &str = "move the run to another version";

impl Engine {
    /// Has a run that no worker has at the moment go on with this version of its graph, at the step where
    /// it is, and with all that is done of that step. For single runs: all of a version go on with a newer
    /// one that [continues](crate::GraphBuilder::continues) it.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Report { topic: String }
    /// # async fn example(engine: &Engine, version_2: &Graph<Report>, run: RunId) -> Result<(), EngineError> {
    /// engine.move_run(version_2, run).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Unfit`] when it cannot go on with it; [`EngineError::AtWork`] while a worker has the
    /// run; [`EngineError::Ended`], [`EngineError::NoRun`], [`EngineError::OtherGraph`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn move_run<S: State>(
        &self,
        graph: &Graph<S>,
        run: RunId,
    ) -> Result<(), EngineError> {
        let found = self.run(run).await?;
        if found.graph != graph.shape().name() {
            return Err(EngineError::OtherGraph {
                run,
                graph: found.graph,
                given: graph.code().to_owned(),
            });
        }
        let on = || EngineError::on(MOVING);
        let mut tx = store::begin(self.pool()).await.map_err(on())?;
        let locked = store::edit::lock(&mut tx, run).await.map_err(on())?;
        let locked = locked.filter(|locked| !locked.is_cancelled);
        let Some(locked) = locked else {
            return Err(EngineError::Ended(run));
        };
        if locked.worker.is_some() {
            return Err(EngineError::AtWork(run));
        }
        // Nobody claims or edits it from here on: what is read stays so.
        let misfits = misfits(graph, self.vault(), &mut tx, run)
            .await
            .map_err(on())?;
        if !misfits.is_empty() {
            return Err(EngineError::Unfit {
                run,
                graph: graph.code().to_owned(),
                misfits,
            });
        }
        store::code::pin(&mut tx, run, graph.pinned())
            .await
            .map_err(on())?;
        tx.commit().await.map_err(on())?;
        self.hint();
        Ok(())
    }
}
