//! Failures at chosen places of a graph.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::context::Scene;
use crate::error::{NodeError, NodeResult};
use crate::executor::Checkpoint;
use crate::graph::{Graph, Work};
use crate::node::NodeKey;
use crate::state::State;

/// Which attempts of which nodes fail, and how. Cheap to clone: all clones count the same attempts.
///
/// Attempts are counted from one, by what the database has of them, so that a script fails the same ones
/// whatever processes die: it goes together with `crash_everywhere`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use velo_engine::prelude::*;
/// use velo_engine::test_kit::Script;
///
/// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// struct Order { is_paid: bool }
///
/// const CHARGE: NodeKey<Order> = NodeKey::new("charge");
///
/// async fn charge(_: Context<Order>) -> NodeResult<Order> {
///     Ok(Order::update().is_paid(true).into())
/// }
///
/// let graph = Graph::builder("order", 1).node(CHARGE, charge).start(CHARGE).compile()?;
/// let script = Script::new()
///     .fail(CHARGE, 1, NodeError::transient("the card reader is offline")) // before it did anything
///     .fail_after(CHARGE, 2, NodeError::transient("the answer was lost")); // after it did all
/// let graph = script.on(&graph); // the same graph, to be served in place of the first one
/// # Ok::<(), velo_engine::ShapeErrors>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Script {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    faults: BTreeMap<(&'static str, u32), Fault>,
    begun: BTreeMap<&'static str, u32>,
}

#[derive(Debug, Clone)]
enum Fault {
    Before(NodeError),
    After(NodeError),
    Panic(String),
    Hang,
}

impl Script {
    /// Nothing fails yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fails attempt `attempt` of each task of `node` in place of its work.
    #[must_use]
    pub fn fail<S, I>(self, node: NodeKey<S, I>, attempt: u32, error: NodeError) -> Self {
        self.with(node.name(), attempt, Fault::Before(error))
    }

    /// Lets the work be done in that attempt, and then fails it: what it kept or did elsewhere is done.
    #[must_use]
    pub fn fail_after<S, I>(self, node: NodeKey<S, I>, attempt: u32, error: NodeError) -> Self {
        self.with(node.name(), attempt, Fault::After(error))
    }

    /// Panics in that attempt, in place of the work.
    #[must_use]
    pub fn panic<S, I>(
        self,
        node: NodeKey<S, I>,
        attempt: u32,
        message: impl Into<String>,
    ) -> Self {
        self.with(node.name(), attempt, Fault::Panic(message.into()))
    }

    /// Never ends that attempt: for time limits, and for workers that are killed or stopped meanwhile.
    #[must_use]
    pub fn hang<S, I>(self, node: NodeKey<S, I>, attempt: u32) -> Self {
        self.with(node.name(), attempt, Fault::Hang)
    }

    fn with(self, node: &'static str, attempt: u32, fault: Fault) -> Self {
        self.lock().faults.insert((node, attempt), fault);
        self
    }

    /// How often the node was begun in this process: attempts, and the times that it began again when
    /// something had come that it waited for.
    #[must_use]
    pub fn begun<S, I>(&self, node: NodeKey<S, I>) -> u32 {
        self.lock().begun.get(node.name()).copied().unwrap_or(0)
    }

    /// The graph, failing as the script says. Name, version and fingerprint are the same.
    #[must_use]
    pub fn on<S: State>(&self, graph: &Graph<S>) -> Graph<S> {
        graph.with_work(|node| {
            Arc::new(Scripted {
                graph: graph.clone(),
                node,
                script: self.clone(),
            })
        })
    }

    fn begin(&self, node: &'static str, attempt: u32) -> Option<Fault> {
        let mut inner = self.lock();
        *inner.begun.entry(node).or_default() += 1;
        inner.faults.get(&(node, attempt)).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that fails as a script says.
struct Scripted<S: State> {
    graph: Graph<S>,
    node: &'static str,
    script: Script,
}

impl<S: State> Scripted<S> {
    fn work(&self) -> &dyn Work<S> {
        self.graph.work(self.node).expect("it is one of its nodes")
    }
}

impl<S: State> Work<S> for Scripted<S> {
    fn reads(&self, input: Option<&Value>) -> Result<(), serde_json::Error> {
        self.work().reads(input)
    }

    fn begin(
        &self,
        scene: Arc<Scene>,
        checkpoint: Arc<Checkpoint<S>>,
        input: Option<&Value>,
    ) -> BoxFuture<'static, NodeResult<S>> {
        match self.script.begin(self.node, scene.attempt) {
            None => self.work().begin(scene, checkpoint, input),
            Some(Fault::Before(error)) => std::future::ready(Err(error)).boxed(),
            Some(Fault::After(error)) => {
                let work = self.work().begin(scene, checkpoint, input);
                async move {
                    work.await?;
                    Err(error)
                }
                .boxed()
            }
            Some(Fault::Panic(message)) => async move { panic!("{message}") }.boxed(),
            Some(Fault::Hang) => std::future::pending().boxed(),
        }
    }
}
