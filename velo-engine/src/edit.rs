//! Editing the state of a run by hand.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use crate::code::graph_of;
use crate::engine::{Engine, EngineError};
use crate::fork::Edit;
use crate::graph::Graph;
use crate::near::nearest;
use crate::next::{Next, Route};
use crate::node::NodeKey;
use crate::run_id::RunId;
use crate::schema::{encode_state, unmark};
use crate::state::{CodecError, State};
use crate::store;
use crate::store::edit::EditedStep;
use crate::stored::{Control, encode_delta};
use crate::turn::checkpoint_of;
use crate::vault::Home;

/// Tries when the commit of an earlier lease comes late.
const TRIES_MAX: u32 = 3;
const EDITING: &str = "edit the run's state";

impl Engine {
    /// Edits the state of a run that no worker has at the moment: await what is returned. It is committed
    /// as a step of its own, whose number is returned; what was done of the step that was under way is
    /// given up, with its questions, and begun anew.
    ///
    /// The run goes on at once, unless it is paused: then when it is [resumed](Engine::resume).
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Report { topic: String }
    /// # async fn example(engine: &Engine, graph: &Graph<Report>, run: RunId) -> Result<(), EngineError> {
    /// let newest = engine.run(run).await?.steps;
    /// engine
    ///     .update_state(graph, run, Report::update().topic("wasps"))
    ///     .after(newest)
    ///     .await?;
    /// engine.resume(run).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn update_state<'a, S: State>(
        &'a self,
        graph: &'a Graph<S>,
        run: RunId,
        update: S::Update,
    ) -> StateEdit<'a, S> {
        StateEdit {
            engine: self,
            graph,
            run,
            update,
            node: None,
            after: None,
        }
    }
}

/// An edit about to be committed. Await it.
#[must_use = "nothing is edited before it is awaited"]
pub struct StateEdit<'a, S: State> {
    engine: &'a Engine,
    graph: &'a Graph<S>,
    run: RunId,
    update: S::Update,
    node: Option<&'static str>,
    after: Option<i32>,
}

impl<S: State> StateEdit<'_, S> {
    /// Edits as if `node` had just returned the update: what follows it comes next, in place of the
    /// tasks that came next. When nothing follows, the run is completed.
    pub fn as_node<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.node = Some(node.name());
        self
    }

    /// As [`as_node`](Self::as_node), by the node's name: for tools that are told it.
    ///
    /// # Errors
    /// [`EngineError::NoNode`] when the graph has no such node.
    pub fn as_node_named(mut self, name: &str) -> Result<Self, EngineError> {
        let known = self.graph.shape().node_name(name);
        self.node = Some(known.ok_or_else(|| EngineError::NoNode {
            graph: self.graph.code().to_owned(),
            node: name.to_owned(),
            near: nearest(name, self.graph.shape().nodes()).map(str::to_owned),
        })?);
        Ok(self)
    }

    /// Edits only if `seq` is the run's newest step: so an edit whose answer was lost can be sent again,
    /// and one that was made from an old look is refused.
    pub fn after(mut self, seq: i32) -> Self {
        self.after = Some(seq);
        self
    }

    async fn commit(self) -> Result<i32, EngineError> {
        let mut tries = 1;
        loop {
            match self.try_commit().await {
                Err(EngineError::Database { source, .. })
                    if tries < TRIES_MAX && is_taken(&source) =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn try_commit(&self) -> Result<i32, EngineError> {
        let run = self.run;
        let mut tx = store::begin(self.engine.pool())
            .await
            .map_err(EngineError::on(EDITING))?;
        let locked = store::edit::lock(&mut tx, run)
            .await
            .map_err(EngineError::on(EDITING))?;
        let Some(locked) = locked else {
            drop(tx);
            self.engine.run(run).await?;
            return Err(EngineError::Ended(run));
        };
        if locked.is_cancelled {
            return Err(EngineError::Ended(run));
        }
        if locked.worker.is_some() {
            return Err(EngineError::AtWork(run));
        }
        if locked.is_held {
            return Err(EngineError::NotBegun(run));
        }
        if !self.graph.is_of(&locked.code) {
            return Err(EngineError::OtherGraph {
                run,
                graph: locked.code,
                given: self.graph.code().to_owned(),
            });
        }
        let mut steps = store::load::steps(&mut *tx, run)
            .await
            .map_err(EngineError::on(EDITING))?;
        let vault = self.engine.vault();
        vault
            .open_steps(run, &mut steps)
            .map_err(EngineError::sealed(EDITING))?;
        let Some(newest) = steps.last().map(|step| step.seq) else {
            return Err(EngineError::NotBegun(run));
        };
        if self.after.is_some_and(|after| after != newest) {
            return Err(EngineError::MovedOn { run, newest });
        }
        let mut checkpoint =
            checkpoint_of::<S>(&steps).map_err(|source| EngineError::Unreadable {
                run,
                source: Box::new(source),
            })?;
        let numbers = steps
            .iter()
            .filter_map(|step| Some(step.update.as_ref()?.number));
        let updates: Vec<i64> = numbers.collect();
        let edit = Edit {
            updates: vec![self.update.clone()],
            node: self.node,
        };
        let is_same = graph_of(&locked.code) == self.graph.code();
        edit.apply(self.graph.shape(), &mut checkpoint, is_same)
            .map_err(|source| EngineError::Refused {
                run,
                seq: newest,
                source,
            })?;
        let written = Next::<S> {
            updates: vec![self.update.clone()],
            route: Route::Edges,
            compensations: Vec::new(),
        };
        let coded = |error| match error {
            CodecError::BadValue(bad) => EngineError::BadValue(bad),
            error => EngineError::Unstorable {
                source: serde::ser::Error::custom(error),
            },
        };
        let snapshot = encode_state(&checkpoint.state)?;
        vault.limits().check_input(unmark(&snapshot).1)?;
        let seq = newest + 1;
        let seal = |what, plain| {
            vault
                .seal(Home::of_step(run, seq, what), plain)
                .map_err(EngineError::sealed(EDITING))
        };
        let step = EditedStep {
            run,
            seq,
            // As if it had been leased once: the receipt of no worker.
            fence: locked.fence + 1,
            delta: &seal("delta", encode_delta(&[written]).map_err(coded)?)?,
            control: &seal(
                "control",
                Control::encode_edit(&checkpoint, self.node).map_err(coded)?,
            )?,
            snapshot: &seal("snapshot", snapshot)?,
        };
        let is_end = checkpoint.tasks.is_empty();
        let committed = async {
            store::edit::step(&mut tx, &step).await?;
            // The snapshot has them. They were read under the lock without which none is accepted.
            if !updates.is_empty() {
                store::update::use_updates(&mut tx, run, &updates, seq).await?;
            }
            if locked.code != self.graph.queued() {
                store::code::pin(&mut tx, run, self.graph.pinned()).await?;
            }
            if is_end {
                store::edit::finish(&mut tx, run).await?;
            }
            tx.commit().await
        };
        committed.await.map_err(EngineError::on(EDITING))?;
        self.engine.hint();
        Ok(newest + 1)
    }
}

fn is_taken(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

impl<'a, S: State> IntoFuture for StateEdit<'a, S> {
    type Output = Result<i32, EngineError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Commits the edit; returns the number of its step.
    ///
    /// Errors are [`EngineError::AtWork`] while a worker has the run, [`EngineError::NotBegun`] before its
    /// first step, [`EngineError::Ended`], [`EngineError::NoRun`], [`EngineError::OtherGraph`], [`EngineError::MovedOn`],
    /// [`EngineError::Refused`] when the update cannot be applied, or the database's. Dropped
    /// half-way, or when the answer is lost, the edit may or may not be committed:
    /// [`after`](Self::after) makes it safe to send again.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.commit())
    }
}

impl<S: State> fmt::Debug for StateEdit<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateEdit")
            .field("run", &self.run)
            .field("as_node", &self.node)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
