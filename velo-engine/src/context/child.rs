//! Runs that a node starts.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Context, Scene};
use crate::error::{NodeError, NodeErrorKind};
use crate::failpoint;
use crate::graph::Graph;
use crate::run_id::RunId;
use crate::start::{Encoded, is_taken};
use crate::state::State;
use crate::store::child::{OnClose, Spot, TOO_DEEP};
use crate::store::run::RunStatus;
use crate::store::{self, Backoff};
use crate::turn::checkpoint_of;
use crate::wait::WaitKind;

/// Draws of an id before chance is no longer believed in.
const DRAWS_MAX: u32 = 8;

/// A run about to be started by a node. Await it, its [`end`](Self::end), or have it
/// [`detached`](Self::detached); see [`Context::child`].
#[must_use = "nothing is started before it is awaited"]
pub struct Child<C: State> {
    scene: Arc<Scene>,
    graph: Graph<C>,
    name: String,
    state: C,
    on_close: Option<OnClose>,
}

/// How a child run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEnd<C> {
    /// It came to its end, with this state.
    Completed(C),
    /// Somebody cancelled it.
    Cancelled(RunId),
}

impl<S: State, I> Context<S, I> {
    /// Starts a run of another graph with `state`, and waits for its end without holding a worker; gives
    /// the state that it ended with. The node runs again from its beginning when that is there, as with
    /// [`ask`](Self::ask).
    ///
    /// A task starts one child of each name in a step, whatever crashes and however often it is tried:
    /// the state that the first attempt gave it counts. Several may be under way at once. Workers must
    /// have the child's graph too: [`GraphBuilder::child`](crate::GraphBuilder::child) sees to that.
    ///
    /// A child that is paused keeps its parent waiting; [`Engine::why`](crate::Engine::why) says so. One
    /// that was cancelled is a permanent error: take [`Child::end`] where the graph can deal with it.
    /// When the parent ends before it, the child is cancelled, unless [`Child::on_close`] says otherwise.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Essay { topic: String, text: String }
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Book { #[state(append)] chapters: Vec<String> }
    ///
    /// const CHAPTER: NodeKey<Book, String> = NodeKey::new("chapter");
    ///
    /// fn chapter(essay: Graph<Essay>) -> impl Node<Book, String> {
    ///     move |cx: Context<Book, String>| {
    ///         let essay = essay.clone();
    ///         async move {
    ///             let begun = Essay { topic: cx.input().clone(), ..Essay::default() };
    ///             let written = cx.child("essay", &essay, begun).await?;
    ///             Ok(Book::update().chapters(vec![written.text]).into())
    ///         }
    ///     }
    /// }
    /// ```
    pub fn child<C: State>(&self, name: impl Into<String>, graph: &Graph<C>, state: C) -> Child<C> {
        Child {
            scene: Arc::clone(&self.scene),
            graph: graph.clone(),
            name: name.into(),
            state,
            on_close: None,
        }
    }

    /// Starts a run of another graph for each of `states`, side by side, and waits for the ends of all;
    /// otherwise as [`child`](Self::child). Their names are `name` and their number, from zero.
    ///
    /// This waits without a worker for any number of them. A combinator that wakes its parts itself, such
    /// as `FuturesUnordered` or `join_all` of more than thirty, hides from the engine that all of its parts
    /// wait, and keeps the worker.
    ///
    /// # Errors
    /// As when a child is awaited: also when one was cancelled.
    ///
    /// # Cancel safety
    /// Dropped half-way, some may be started; a later attempt finds them.
    pub async fn children<C: State>(
        &self,
        name: &str,
        graph: &Graph<C>,
        states: impl IntoIterator<Item = C, IntoIter: Send> + Send,
    ) -> Result<Vec<C>, NodeError> {
        let mut begun = Vec::new();
        for (number, state) in states.into_iter().enumerate() {
            let child = self.child(format!("{name} {number}"), graph, state);
            let (run, status) = child.begun().await?;
            begun.push((child.name, run, status));
        }
        if let Some((name, run, _)) = begun
            .iter()
            .find(|(.., status)| *status == RunStatus::Cancelled)
        {
            return Err(was_cancelled(name, *run, graph.code()));
        }
        // One is enough to wait for: the others are looked at again when it has ended.
        if let Some((name, ..)) = begun.iter().find(|(.., status)| !status.is_terminal()) {
            return self.scene.wait(name.clone(), WaitKind::Child, None).await;
        }
        let mut ended = Vec::new();
        for (_, run, _) in begun {
            ended.push(self.scene.end_state(run).await?);
        }
        Ok(ended)
    }

    /// The state that this node's newest child of this name ended with, among those that earlier steps
    /// of the run have started and that completed: what a child that is to remember begins with. In a
    /// [fork](crate::Engine::fork), the steps before it count as well, for as long as the run that it was
    /// forked from is there.
    ///
    /// # Errors
    /// A permanent error when the state is no `C`, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn last_child<C: State>(&self, name: &str) -> Result<Option<C>, NodeError> {
        let (pool, spot) = (&self.scene.pool, self.scene.spot(name));
        match patiently(|| store::child::last(pool, spot)).await? {
            Some(run) => self.scene.end_state(run).await.map(Some),
            None => Ok(None),
        }
    }
}

impl<C: State> Child<C> {
    /// What becomes of it when its parent ends before it. Otherwise, one that is awaited is cancelled, and
    /// one that is detached goes on.
    pub fn on_close(mut self, on_close: OnClose) -> Self {
        self.on_close = Some(on_close);
        self
    }

    /// Starts it and does not wait for its end; it is durable when this returns.
    ///
    /// # Errors
    /// As when it is awaited.
    ///
    /// # Cancel safety
    /// Dropped half-way, the child may or may not be started; a later attempt finds it.
    pub async fn detached(self) -> Result<RunId, NodeError> {
        self.scene.reserve_name(&self.name)?;
        match self.found().await? {
            Some((run, _)) => Ok(run),
            None => self.started(false, OnClose::Abandon).await,
        }
    }

    /// Starts it and waits for its end, which may be that somebody cancelled it.
    ///
    /// # Errors
    /// A permanent error when the name is used twice by one attempt, when the state has no JSON form that
    /// can be read back, when the child would be more than 32 runs deep, or after the node has opened its
    /// transaction; or the database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the child may or may not be started; a later attempt finds it.
    pub async fn end(self) -> Result<ChildEnd<C>, NodeError> {
        match self.begun().await? {
            (run, RunStatus::Completed) => self.scene.end_state(run).await.map(ChildEnd::Completed),
            (run, RunStatus::Cancelled) => Ok(ChildEnd::Cancelled(run)),
            _ => self.scene.wait(self.name, WaitKind::Child, None).await,
        }
    }

    /// The child that an earlier attempt has started, or else a new one.
    async fn begun(&self) -> Result<(RunId, RunStatus), NodeError> {
        self.scene.reserve_name(&self.name)?;
        match self.found().await? {
            Some(found) => Ok(found),
            None => {
                let run = self.started(true, OnClose::Cancel).await?;
                Ok((run, RunStatus::Active))
            }
        }
    }

    async fn completed(self) -> Result<C, NodeError> {
        let (name, code) = (self.name.clone(), self.graph.code().to_owned());
        match self.end().await? {
            ChildEnd::Completed(state) => Ok(state),
            ChildEnd::Cancelled(run) => Err(was_cancelled(&name, run, &code)),
        }
    }

    /// What an earlier attempt has started.
    async fn found(&self) -> Result<Option<(RunId, RunStatus)>, NodeError> {
        if self.scene.has_transaction() {
            let name = &self.name;
            return Err(NodeError::permanent(format!(
                "child `{name}` comes after the node has opened its transaction: start it before, \
                 or both would wait for each other's connection when the pool is in use"
            )));
        }
        let (pool, spot) = (&self.scene.pool, self.scene.spot(&self.name));
        patiently(|| store::child::at(pool, spot)).await
    }

    /// Starts it, however long the database takes to come back while the lease may still hold.
    async fn started(&self, is_awaited: bool, otherwise: OnClose) -> Result<RunId, NodeError> {
        let encoded = Encoded::of(&self.graph, &self.state)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
        let large = encoded.check(self.scene.vault.limits());
        large.map_err(|error| error.of_node())?;
        let (scene, on_close) = (&self.scene, self.on_close.unwrap_or(otherwise));
        let (mut draws, mut backoff) = (1, Backoff::default());
        failpoint::hit("child.before");
        let run = loop {
            let id = RunId::random();
            let sealed = encoded.sealed(&scene.vault, id);
            let sealed = sealed.map_err(|error| error.of_node())?;
            let new = sealed.row_of(&self.graph, id);
            let spot = scene.spot(&self.name);
            match store::child::start(&scene.pool, spot, is_awaited, on_close, &new).await {
                Ok(Some(run)) => break run,
                Ok(None) => return scene.lose().await,
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %scene.lease.run, child.name = self.name, %error, "could not start a child yet");
                    backoff.wait().await;
                }
                Err(error) if is_taken(&error) && draws < DRAWS_MAX => draws += 1,
                Err(error) if has_state(&error, TOO_DEEP) => {
                    return Err(NodeError::of(NodeErrorKind::Permanent, &error));
                }
                Err(error) => return Err(error.into()),
            }
        };
        failpoint::hit("child.after");
        scene.has_family.store(true, Ordering::Relaxed);
        tracing::debug!(run.id = %scene.lease.run, child.id = %run, child.name = self.name, "child started");
        if let Err(error) = store::run::hint(&scene.pool).await {
            tracing::debug!(%error, "could not wake the workers");
        }
        Ok(run)
    }
}

impl<C: State> IntoFuture for Child<C> {
    type Output = Result<C, NodeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    /// As [`end`](Child::end); a permanent error too when the child was cancelled.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.completed())
    }
}

impl<C: State> fmt::Debug for Child<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("graph", &self.graph)
            .finish_non_exhaustive()
    }
}

impl Scene {
    fn spot<'a>(&'a self, name: &'a str) -> Spot<'a> {
        Spot {
            lease: self.lease,
            seq: self.seq,
            task: self.task,
            name,
            node: &self.node,
        }
    }

    /// The state of a run that has ended.
    async fn end_state<C: State>(&self, run: RunId) -> Result<C, NodeError> {
        let mut steps = patiently(|| store::load::steps(&self.pool, run)).await?;
        let opened = self.vault.open_steps(run, &mut steps);
        opened.map_err(|error| error.of_node())?;
        if steps.is_empty() {
            return Err(NodeError::permanent(format!(
                "the steps of child run {run} are gone: were they deleted before its parent had read them?"
            )));
        }
        let checkpoint = checkpoint_of::<C>(&steps)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
        Ok(checkpoint.state)
    }
}

fn was_cancelled(name: &str, run: RunId, code: &str) -> NodeError {
    NodeError::permanent(format!(
        "the child `{name}`, run {run} of {code}, was cancelled: \
         cancel this run too, or have the node await .end() and deal with it"
    ))
}

/// Reads, again while the database is away: whoever waits here is dropped when the lease is lost.
async fn patiently<T, F>(mut read: impl FnMut() -> F) -> Result<T, NodeError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut backoff = Backoff::default();
    loop {
        match read().await {
            Err(error) if store::is_transient(&error) => backoff.wait().await,
            read => return read.map_err(NodeError::from),
        }
    }
}

fn has_state(error: &sqlx::Error, state: &str) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some(state))
}
