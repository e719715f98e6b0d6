//! Going back: the state at any step, and new runs from there.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::engine::{Engine, EngineError, PAGE_MAX};
use crate::executor::{AdvanceError, Checkpoint, Task};
use crate::graph::Graph;
use crate::next::{Next, Route};
use crate::node::NodeKey;
use crate::run_id::RunId;
use crate::shape::Shape;
use crate::start::Start;
use crate::state::State;
use crate::store;
use crate::terms::{Terms, terms};
use crate::turn::checkpoint_of;

/// A step of a run, from which another one was forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The run. It may have been deleted since.
    pub run: RunId,
    /// Its step.
    pub seq: i32,
}

impl Engine {
    /// The state of a run after its step `seq`; step zero is the start.
    ///
    /// # Errors
    /// [`EngineError::NoRun`], [`EngineError::NoStep`], [`EngineError::Unreadable`] when the state is
    /// none of `S`, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn state_at<S: State>(&self, run: RunId, seq: i32) -> Result<S, EngineError> {
        Ok(self.checkpoint_at(run, seq).await?.state)
    }

    /// Where a run stood after its step `seq`: state, the tasks that came next, joins. What was written
    /// since the last snapshot before it is applied again, by the reducers of `S`.
    ///
    /// # Errors
    /// As [`state_at`](Self::state_at).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn checkpoint_at<S: State>(
        &self,
        run: RunId,
        seq: i32,
    ) -> Result<Checkpoint<S>, EngineError> {
        let mut steps = store::origin::steps_at(self.pool(), run, seq)
            .await
            .map_err(EngineError::on("read the run's steps"))?;
        self.vault()
            .open_steps(run, &mut steps)
            .map_err(EngineError::sealed("read the run's steps"))?;
        if steps.last().is_none_or(|step| step.seq != seq) {
            // A run that is not there is told from one that has not come so far.
            self.run(run).await?;
            return Err(EngineError::NoStep { run, seq });
        }
        checkpoint_of(&steps).map_err(|source| EngineError::Unreadable {
            run,
            source: Box::new(source),
        })
    }

    /// Forks a new run from step `seq` of `run`: await what is returned, or edit the state first.
    ///
    /// The new run begins with a copy of the state after that step, and with the tasks that came next;
    /// the original is only read, and may be running. Nothing that was done after the step is taken
    /// over, neither results of [`Context::step`](crate::Context::step) nor finished tasks of a step
    /// that is not committed: the nodes run again, under the new run's id, and so do their side
    /// effects. The new run counts its steps from zero. Without an edit, a fork is a replay.
    /// A [stateful subgraph](crate::GraphBuilder::stateful_subgraph) remembers what it had at the step.
    ///
    /// `graph` has the name of the run's graph; its version may be another, as long as it has the nodes
    /// that come next.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Report { topic: String }
    /// # const PLAN: NodeKey<Report> = NodeKey::new("plan");
    /// # async fn example(engine: &Engine, graph: &Graph<Report>, run: RunId) -> Result<(), EngineError> {
    /// let again = engine.fork(graph, run, 3).await?;
    /// let other = engine
    ///     .fork(graph, run, 3)
    ///     .update(Report::update().topic("wasps"))
    ///     .as_node(PLAN) // go on with what follows PLAN
    ///     .await?;
    /// # let _ = (again, other);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fork<'a, S: State>(&'a self, graph: &'a Graph<S>, run: RunId, seq: i32) -> Fork<'a, S> {
        Fork {
            engine: self,
            graph,
            origin: Origin { run, seq },
            edit: Edit::default(),
            terms: Terms::default(),
        }
    }

    /// Where a run was forked or copied from, then where that one was, and so on; empty for a run that was
    /// started. At most a thousand, and none before a run that was deleted.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn lineage(&self, run: RunId) -> Result<Vec<Origin>, EngineError> {
        store::origin::lineage(self.pool(), run)
            .await
            .map_err(EngineError::on("read where the run comes from"))
    }

    /// The runs that were forked or copied from a run, oldest first; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn forks(&self, run: RunId, limit: i64) -> Result<Vec<RunId>, EngineError> {
        store::origin::forks(self.pool(), run, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the run's forks"))
    }
}

/// A run about to be forked. Await it, or [`in_tx`](Self::in_tx).
#[must_use = "nothing is forked before it is awaited"]
pub struct Fork<'a, S: State> {
    engine: &'a Engine,
    graph: &'a Graph<S>,
    origin: Origin,
    edit: Edit<S>,
    terms: Terms,
}

impl<'a, S: State> Fork<'a, S> {
    /// Writes `update` to the state, through its reducers. Alone, it changes nothing of what comes next.
    pub fn update(mut self, update: S::Update) -> Self {
        self.edit.updates.push(update);
        self
    }

    /// Edits as if `node` had just returned the update: what follows it comes next, in place of the
    /// tasks that came next.
    pub fn as_node<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.edit.node = Some(node.name());
        self
    }

    terms!();

    /// Forks when the transaction of `conn` commits, and only then, as [`Start::in_tx`].
    ///
    /// # Errors
    /// [`EngineError::NoRun`], [`EngineError::NoStep`], [`EngineError::OtherGraph`];
    /// [`EngineError::Refused`] when the edit cannot be applied; [`EngineError::NothingToDo`] when no
    /// task would come next, such as after the last step of a run that has completed; or as
    /// [`Start::in_tx`].
    ///
    /// # Cancel safety
    /// As [`Start::in_tx`].
    pub async fn in_tx(self, conn: &mut PgConnection) -> Result<RunId, EngineError> {
        self.prepare().await?.in_tx(conn).await
    }

    async fn prepare(self) -> Result<Start<'a, S>, EngineError> {
        let Origin { run, seq } = self.origin;
        let shape = self.graph.shape();
        let found = self.engine.run(run).await?;
        is_of(&found, shape)?;
        let mut checkpoint = self.engine.checkpoint_at::<S>(run, seq).await?;
        // The new run counts its own steps against the limit.
        checkpoint.step = 0;
        let is_same = found.version == shape.version().cast_signed();
        let refused = |source| EngineError::Refused { run, seq, source };
        self.edit
            .apply(shape, &mut checkpoint, is_same)
            .map_err(refused)?;
        checkpoint.step = 0;
        if checkpoint.tasks.is_empty() {
            return Err(EngineError::NothingToDo { run, seq });
        }
        let mut start = Start::forked(self.engine, self.graph, checkpoint, self.origin);
        start.terms = self.terms;
        Ok(start)
    }
}

/// Whether the run is one of this graph, whatever the version.
pub(crate) fn is_of<S: State>(run: &crate::Run, shape: &Shape<S>) -> Result<(), EngineError> {
    if run.graph == shape.name() {
        return Ok(());
    }
    Err(EngineError::OtherGraph {
        run: run.id,
        graph: run.graph.clone(),
        given: shape.name().to_owned(),
    })
}

/// What is changed of a checkpoint by hand.
pub(crate) struct Edit<S: State> {
    pub(crate) updates: Vec<S::Update>,
    /// The node in whose place it is done.
    pub(crate) node: Option<&'static str>,
}

impl<S: State> Default for Edit<S> {
    fn default() -> Self {
        Self {
            updates: Vec::new(),
            node: None,
        }
    }
}

impl<S: State> Edit<S> {
    /// Applies it; `is_same` says whether the checkpoint is of this very version of the graph.
    pub(crate) fn apply(
        self,
        shape: &Shape<S>,
        checkpoint: &mut Checkpoint<S>,
        is_same: bool,
    ) -> Result<(), AdvanceError> {
        // Joins are known by their position, which means nothing in another version.
        if !is_same && !checkpoint.joins.is_empty() {
            return Err(AdvanceError::OtherJoins);
        }
        if let Some(node) = self.node {
            checkpoint.tasks = vec![Task {
                node: node.to_owned(),
                send: None,
                input: None,
                within: None,
            }];
            let outcome = Next {
                updates: self.updates,
                route: Route::Edges,
                compensations: Vec::new(),
            };
            checkpoint.take_step(shape, vec![outcome])?;
        } else {
            let updates = self.updates.into_iter().map(|update| ("the edit", update));
            checkpoint.state.apply(updates.collect())?;
        }
        // What was done by hand is nobody's work.
        checkpoint.halted_after.clear();
        let tasks = checkpoint.tasks.iter().chain(&checkpoint.deferred);
        let mut tasks = tasks.chain(checkpoint.saga.tasks());
        let known = |task: &&Task| shape.node_name(&task.node).is_none();
        match tasks.find(known) {
            Some(task) => Err(AdvanceError::UnknownNode(task.node.clone())),
            None => Ok(()),
        }
    }
}

impl<'a, S: State> IntoFuture for Fork<'a, S> {
    type Output = Result<RunId, EngineError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Forks the run; it is durable when this returns. A lost answer is asked for again, and the run
    /// is forked once.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.prepare().await?.await })
    }
}

impl<S: State> fmt::Debug for Fork<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fork")
            .field("graph", &self.graph)
            .field("origin", &self.origin)
            .field("as_node", &self.edit.node)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
