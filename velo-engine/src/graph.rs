//! A graph: a checked shape, and the work of each of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::code::{self, Need};
use crate::context::{Context, Scene};
use crate::error::{NodeError, NodeErrorKind, NodeResult};
use crate::executor::Checkpoint;
use crate::handlers::Handlers;
use crate::handling::Handling;
use crate::node::{Node, NodeKey};
use crate::retry::RetryPolicy;
use crate::shape::{Shape, ShapeBuilder, ShapeError, Sources};
use crate::state::State;
use crate::store::code::Pinned;
use crate::turn::Serve;

/// Names the fingerprints of graphs among all name-based UUIDs.
const FINGERPRINTS: Uuid = Uuid::from_u128(0x7665_6c6f_0000_4000_8000_0000_0000_0001);

/// Nodes with their work, and the ways between them. Cheap to clone.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use velo_engine::prelude::*;
///
/// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// struct Greeting { name: String, text: String }
///
/// const GREET: NodeKey<Greeting> = NodeKey::new("greet");
///
/// async fn greet(cx: Context<Greeting>) -> NodeResult<Greeting> {
///     Ok(Greeting::update().text(format!("hello {}", cx.state().name)).into())
/// }
///
/// let graph = Graph::builder("greeting", 1).node(GREET, greet).start(GREET).compile()?;
/// assert_eq!(graph.code(), "greeting@1");
/// # Ok::<(), velo_engine::ShapeErrors>(())
/// ```
pub struct Graph<S: State> {
    inner: Arc<Inner<S>>,
}

#[derive(Clone)]
struct Inner<S: State> {
    shape: Shape<S>,
    nodes: BTreeMap<&'static str, Arc<dyn Work<S>>>,
    retries: BTreeMap<&'static str, RetryPolicy>,
    default_retry: RetryPolicy,
    children: Vec<Arc<dyn Serve>>,
    handling: Handling,
    handlers: Arc<Handlers<S>>,
    code: String,
    /// What the queue calls its runs.
    queued: String,
    continues: BTreeSet<u32>,
    /// JSON Schemas of answers, by node and question.
    answers: BTreeMap<(&'static str, String), Value>,
    fingerprint: Uuid,
}

impl<S: State> Graph<S> {
    /// Begins a graph of this name and version. Runs stay with the version that they began with, and
    /// wait while no worker serves it: until they have ended, give a worker both.
    pub fn builder(name: impl Into<String>, version: u32) -> GraphBuilder<S> {
        GraphBuilder {
            shape: Shape::builder(name, version),
            nodes: BTreeMap::new(),
            retries: BTreeMap::new(),
            default_retry: RetryPolicy::default(),
            children: Vec::new(),
            handling: Handling::default(),
            handlers: Handlers::default(),
            continues: BTreeSet::new(),
            answers: BTreeMap::new(),
        }
    }

    /// The graph without the work: names, edges, joins and routes.
    #[must_use]
    pub fn shape(&self) -> &Shape<S> {
        &self.inner.shape
    }

    /// Name and version, such as `report@1`: what a worker must have to run it.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.inner.code
    }

    /// Differs between two graphs of different shape. Limits are no part of it: they may be raised
    /// under a run.
    #[must_use]
    pub fn fingerprint(&self) -> Uuid {
        self.inner.fingerprint
    }

    /// What the queue calls its runs: name, version, and the version of the state after the first one.
    pub(crate) fn queued(&self) -> &str {
        &self.inner.queued
    }

    /// What the queue calls the runs that it goes on with, its own first.
    pub(crate) fn codes(&self) -> Vec<String> {
        self.codes_of(&(S::OLDEST..=S::VERSION).rev())
    }

    /// What the queue would call runs of it whose state is too old for it to read.
    pub(crate) fn outdated(&self) -> Vec<String> {
        self.codes_of(&(1..S::OLDEST))
    }

    fn codes_of(&self, states: &(impl Iterator<Item = u32> + Clone)) -> Vec<String> {
        let versions = std::iter::once(self.shape().version()).chain(self.inner.continues.clone());
        let graphs = versions.map(|version| format!("{}@{version}", self.shape().name()));
        let codes = graphs.flat_map(|graph| {
            let states = states.clone();
            states.map(move |state| code::with_state(&graph, state))
        });
        codes.collect()
    }

    /// Of what form answers to this question are, where the graph says so.
    pub(crate) fn answer(&self, node: &str, question: &str) -> Option<&Value> {
        let node = self.shape().node_name(node)?;
        let base = question.split_once('/').map_or(question, |(base, _)| base);
        let of = |name: &str| self.inner.answers.get(&(node, name.to_owned()));
        of(question).or_else(|| of(base))
    }

    /// What runs are pinned to that it goes on with.
    pub(crate) fn pinned(&self) -> Pinned<'_> {
        Pinned {
            code: self.queued(),
            version: self.shape().version().cast_signed(),
            fingerprint: self.fingerprint(),
        }
    }

    /// Whether it is of the graph and version that the queue names so, or continues that.
    pub(crate) fn is_of(&self, queued: &str) -> bool {
        let graph = code::graph_of(queued);
        self.codes()
            .iter()
            .any(|code| code::graph_of(code) == graph)
    }

    /// Whether it goes on with runs that the queue calls so.
    pub(crate) fn has(&self, queued: &str) -> bool {
        let Some(need) = Need::of(queued) else {
            return self.codes().iter().any(|code| code == queued);
        };
        self.is_of(queued)
            && match need {
                Need::Node(node) => self.shape().node_name(&node).is_some(),
                Need::Shape(fingerprint) => fingerprint == self.fingerprint(),
                Need::Reads(version) => (S::OLDEST..=S::VERSION).contains(&version),
                Need::Writes(version) => version == S::VERSION,
            }
    }

    pub(crate) fn child_graphs(&self) -> &[Arc<dyn Serve>] {
        &self.inner.children
    }

    pub(crate) fn retry(&self, node: &str, error: &NodeError) -> RetryPolicy {
        let own = || self.inner.retries.get(node).copied();
        let classed = self.inner.handling.retry(node, error);
        classed.or_else(own).unwrap_or(self.inner.default_retry)
    }

    pub(crate) fn handling(&self) -> &Handling {
        &self.inner.handling
    }

    pub(crate) fn handlers(&self) -> &Handlers<S> {
        &self.inner.handlers
    }

    /// The graph with other work in its nodes.
    #[cfg(feature = "test-kit")]
    pub(crate) fn with_work(&self, mut work: impl FnMut(&'static str) -> Arc<dyn Work<S>>) -> Self {
        let mut inner = (*self.inner).clone();
        for (node, slot) in &mut inner.nodes {
            *slot = work(node);
        }
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn work(&self, node: &str) -> Option<&dyn Work<S>> {
        self.inner.nodes.get(node).map(AsRef::as_ref)
    }
}

impl<S: State> Clone for Graph<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: State> fmt::Debug for Graph<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({})", self.inner.code)
    }
}

/// Collects the parts of a [`Graph`].
pub struct GraphBuilder<S: State> {
    pub(crate) shape: ShapeBuilder<S>,
    nodes: BTreeMap<&'static str, Arc<dyn Work<S>>>,
    retries: BTreeMap<&'static str, RetryPolicy>,
    default_retry: RetryPolicy,
    children: Vec<Arc<dyn Serve>>,
    pub(crate) handling: Handling,
    pub(crate) handlers: Handlers<S>,
    continues: BTreeSet<u32>,
    answers: BTreeMap<(&'static str, String), Value>,
}

impl<S: State> GraphBuilder<S> {
    /// Adds a node and its work.
    #[must_use]
    pub fn node<I>(mut self, key: NodeKey<S, I>, node: impl Node<S, I>) -> Self
    where
        I: DeserializeOwned + Send + Sync + 'static,
    {
        let work = Typed {
            node: Arc::new(node),
            types: PhantomData::<fn() -> I>,
        };
        self.nodes.insert(key.name(), Arc::new(work));
        self.shape = self.shape.node(key);
        self
    }

    /// Declares that `from` may choose `to` by `goto` or `send`. A way that is not declared pauses the
    /// run that takes it.
    #[must_use]
    pub fn may_go<I, J>(mut self, from: NodeKey<S, I>, to: NodeKey<S, J>) -> Self {
        self.shape = self.shape.may_go(from, to);
        self
    }

    /// Starts at `node`; called again, the first step has these nodes side by side.
    #[must_use]
    pub fn start(mut self, node: NodeKey<S>) -> Self {
        self.shape = self.shape.start(node);
        self
    }

    /// Goes to `to` whenever `from` has finished without an explicit route: once in a step, however
    /// many tasks of `from` the step has.
    #[must_use]
    pub fn edge<I>(mut self, from: NodeKey<S, I>, to: NodeKey<S>) -> Self {
        self.shape = self.shape.edge(from, to);
        self
    }

    /// Goes to `to` once every one of `from` has finished, then waits for all of them again; see
    /// [`ShapeBuilder::join`].
    #[must_use]
    pub fn join(mut self, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.shape = self.shape.join(from, to);
        self
    }

    /// Goes to `to` once the first of `from` has finished, and lets the others of the same round
    /// come in vain; see [`ShapeBuilder::join_some`].
    #[must_use]
    pub fn join_any(mut self, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.shape = self.shape.join_any(from, to);
        self
    }

    /// Goes to `to` once `needs` of `from` have finished, and lets the others of the same round come
    /// in vain; see [`ShapeBuilder::join_some`].
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::prelude::*;
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Vote { #[state(append)] yes: Vec<String> }
    ///
    /// const ASK: NodeKey<Vote> = NodeKey::new("ask");
    /// const ANN: NodeKey<Vote> = NodeKey::new("ann");
    /// const BEN: NodeKey<Vote> = NodeKey::new("ben");
    /// const CLEO: NodeKey<Vote> = NodeKey::new("cleo");
    /// const DECIDE: NodeKey<Vote> = NodeKey::new("decide");
    ///
    /// async fn work(_: Context<Vote>) -> NodeResult<Vote> { Ok(Next::none()) }
    ///
    /// let graph = Graph::builder("vote", 1)
    ///     .node(ASK, work).node(ANN, work).node(BEN, work).node(CLEO, work).node(DECIDE, work)
    ///     .start(ASK).edge(ASK, ANN).edge(ASK, BEN).edge(ASK, CLEO)
    ///     .join_some(2, [ANN, BEN, CLEO], DECIDE)
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn join_some(mut self, needs: usize, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.shape = self.shape.join_some(needs, from, to);
        self
    }

    /// Lets a run end while a join before `to` still waits for sources: they were skipped on purpose.
    #[must_use]
    pub fn may_stay_shut(mut self, to: NodeKey<S>) -> Self {
        self.shape = self.shape.may_stay_shut(to);
        self
    }

    /// Runs `node` only when nothing else is left to run, whatever leads to it; see
    /// [`ShapeBuilder::deferred`].
    #[must_use]
    pub fn deferred<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.shape = self.shape.deferred(node);
        self
    }

    /// Lets at most `tasks` tasks of `node` be at work at once in one run.
    #[must_use]
    pub fn at_most<I>(mut self, node: NodeKey<S, I>, tasks: usize) -> Self {
        self.shape = self.shape.at_most(node, tasks);
        self
    }

    /// Tries `node` again as `policy` says.
    #[must_use]
    pub fn retry<I>(mut self, node: NodeKey<S, I>, policy: RetryPolicy) -> Self {
        self.retries.insert(node.name(), policy);
        self.shape = self.shape.mention(".retry(…)", node);
        self
    }

    /// Tries every node without a policy of its own again as `policy` says.
    #[must_use]
    pub fn default_retry(mut self, policy: RetryPolicy) -> Self {
        self.default_retry = policy;
        self
    }

    /// Lets a run take `steps` steps instead of [`DEFAULT_STEP_LIMIT`](crate::DEFAULT_STEP_LIMIT).
    #[must_use]
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.shape = self.shape.step_limit(steps);
        self
    }

    /// Says that nodes of this graph start runs of `child`: who serves this graph serves that one too.
    /// A worker without it leaves such runs to others; [`Engine::why`](crate::Engine::why) says when
    /// nobody has it.
    #[must_use]
    pub fn child<C: State>(mut self, child: &Graph<C>) -> Self {
        self.children.push(Arc::new(child.clone()));
        self
    }

    /// Says of what form the answers are to a question that `node` asks, by a JSON Schema as
    /// [`Ask::schema`](crate::Ask::schema) shows it, so that [`Engine::check`](crate::Engine::check) finds
    /// open questions whose answers had another. A question of a loop, such as `age/3`, goes by what is
    /// before the slash.
    #[must_use]
    pub fn answer<I>(
        mut self,
        node: NodeKey<S, I>,
        question: impl Into<String>,
        schema: Value,
    ) -> Self {
        self.answers.insert((node.name(), question.into()), schema);
        self
    }

    /// Says what a node was called, in code that live runs have begun with: tasks of it go on as tasks of
    /// `node`.
    #[must_use]
    pub fn renamed<I>(mut self, was: impl Into<String>, node: NodeKey<S, I>) -> Self {
        self.shape = self.shape.renamed(was, node);
        self
    }

    /// Has runs of these versions of the graph go on with this one, at whatever step they are, as soon as a
    /// worker with it claims them; without it they stay with the version that they began with. A worker
    /// that has both versions leaves each run to its own.
    ///
    /// A run that this version cannot go on with is left to a worker with the other: one whose next node
    /// is gone here, or whose joins have begun to wait and are others here.
    #[must_use]
    pub fn continues(mut self, versions: impl IntoIterator<Item = u32>) -> Self {
        self.continues.extend(versions);
        self
    }

    /// Checks the whole graph.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn compile(self) -> Result<Graph<S>, ShapeErrors> {
        let doubled = self.handlers.doubled.iter();
        let doubled: Vec<_> = doubled
            .map(|name| ShapeError::DuplicateHandler(name))
            .collect();
        let shape = match self.shape.compile() {
            Ok(shape) if doubled.is_empty() => shape,
            Ok(_) => return Err(ShapeErrors(doubled)),
            Err(errors) => return Err(ShapeErrors([errors, doubled].concat())),
        };
        let fingerprint = Uuid::new_v5(&FINGERPRINTS, shape.structure().as_bytes());
        let code = format!("{}@{}", shape.name(), shape.version());
        let mut continues = self.continues;
        continues.remove(&shape.version());
        Ok(Graph {
            inner: Arc::new(Inner {
                queued: code::with_state(&code, S::VERSION),
                code,
                continues,
                answers: self.answers,
                shape,
                nodes: self.nodes,
                retries: self.retries,
                default_retry: self.default_retry,
                children: self.children,
                handling: self.handling,
                handlers: Arc::new(self.handlers),
                fingerprint,
            }),
        })
    }
}

impl<S: State> fmt::Debug for GraphBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphBuilder")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Everything that is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeErrors(pub Vec<ShapeError>);

impl fmt::Display for ShapeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the graph cannot be compiled")?;
        self.0.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}

impl std::error::Error for ShapeErrors {}

/// A node whose payload type is forgotten.
pub(crate) trait Work<S: State>: Send + Sync {
    /// Whether the node can read this payload.
    fn reads(&self, input: Option<&Value>) -> Result<(), serde_json::Error>;

    /// Begins an attempt.
    fn begin(
        &self,
        scene: Arc<Scene>,
        checkpoint: Arc<Checkpoint<S>>,
        input: Option<&Value>,
    ) -> BoxFuture<'static, NodeResult<S>>;
}

struct Typed<N, I> {
    node: Arc<N>,
    types: PhantomData<fn() -> I>,
}

impl<S, I, N> Work<S> for Typed<N, I>
where
    S: State,
    I: DeserializeOwned + Send + Sync + 'static,
    N: Node<S, I>,
{
    fn reads(&self, input: Option<&Value>) -> Result<(), serde_json::Error> {
        I::deserialize(input.unwrap_or(&Value::Null)).map(drop)
    }

    fn begin(
        &self,
        scene: Arc<Scene>,
        checkpoint: Arc<Checkpoint<S>>,
        input: Option<&Value>,
    ) -> BoxFuture<'static, NodeResult<S>> {
        let input: Result<I, _> = serde::Deserialize::deserialize(input.unwrap_or(&Value::Null));
        let node = Arc::clone(&self.node);
        Box::pin(async move {
            let input = input.map_err(|error| NodeError::of(NodeErrorKind::Refused, &error))?;
            node.run(Context::new(scene, checkpoint, input)).await
        })
    }
}
