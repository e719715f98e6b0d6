//! Asking the state of a run.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Engine, EngineError};
use crate::fork::is_of;
use crate::graph::Graph;
use crate::handlers::QueryKey;
use crate::run_id::RunId;
use crate::state::State;

impl Engine {
    /// Asks the state of a run, as the newest committed step and the [updates](Self::update) since have left it,
    /// and changes nothing. The graph's [handler](crate::GraphBuilder::on_query) answers in this process; the run
    /// may have ended.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::{QueryKey, prelude::*};
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { items: u32 }
    /// const PRICE: QueryKey<Order, u64, u64> = QueryKey::new("price");
    ///
    /// # async fn example(engine: &Engine, graph: &Graph<Order>, run: RunId) -> Result<(), EngineError> {
    /// let cents = engine.query(graph, run, PRICE, 250).await?;
    /// # let _ = cents;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::NoQuery`] when the graph has no such query, [`EngineError::OtherGraph`],
    /// [`EngineError::BadQuery`] when what is asked or the answer has no JSON form that can be read back; or as
    /// [`state`](Self::state).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn query<S: State, In: Serialize, Out: DeserializeOwned>(
        &self,
        graph: &Graph<S>,
        run: RunId,
        key: QueryKey<S, In, Out>,
        input: In,
    ) -> Result<Out, EngineError> {
        let name = key.name();
        let bad = |source| EngineError::BadQuery { name, source };
        let input = serde_json::to_value(input).map_err(bad)?;
        is_of(&self.run(run).await?, graph.shape())?;
        let state = self.state::<S>(run).await?;
        let answer = graph.handlers().query(&state, name, &input);
        let answer = answer.ok_or_else(|| EngineError::NoQuery {
            graph: graph.code().to_owned(),
            name,
        })?;
        serde_json::from_value(answer.map_err(bad)?).map_err(bad)
    }
}
