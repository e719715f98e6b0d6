//! Starting a run.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use sqlx::{Acquire, PgConnection};
use uuid::Uuid;

use crate::breakpoint::Breakpoints;
use crate::codec::SealError;
use crate::engine::{Engine, EngineError};
use crate::executor::{self, Checkpoint};
use crate::fork::Origin;
use crate::graph::Graph;
use crate::limits::{Limits, TooLarge};
use crate::node::NodeKey;
use crate::run_id::RunId;
use crate::schema::{ReplayError, decode_state, encode_state, unmark};
use crate::state::{CodecError, State};
use crate::store::start::{self, NewRun};
use crate::store::{self, Backoff};
use crate::stored::Control;
use crate::trace::TraceContext;
use crate::vault::{Home, Vault};

/// Draws of an id before chance is no longer believed in.
const DRAWS_MAX: u32 = 8;
/// Calls of a start whose answers are lost.
const CALLS_MAX: u32 = 8;

/// A run about to be started. Await it, or [`in_tx`](Self::in_tx).
#[must_use = "nothing is started before it is awaited"]
pub struct Start<'a, S: State> {
    engine: &'a Engine,
    graph: &'a Graph<S>,
    state: S,
    id: Option<RunId>,
    thread: Option<String>,
    priority: i16,
    queue: Option<String>,
    step_limit: Option<u64>,
    breakpoints: Breakpoints,
    forked: Option<(Checkpoint<S>, Origin)>,
    trace: Option<TraceContext>,
}

impl<'a, S: State> Start<'a, S> {
    pub(crate) fn new(engine: &'a Engine, graph: &'a Graph<S>, state: S) -> Self {
        Self {
            engine,
            graph,
            state,
            id: None,
            thread: None,
            priority: 0,
            queue: None,
            step_limit: None,
            breakpoints: Breakpoints::default(),
            forked: None,
            trace: TraceContext::current(),
        }
    }

    /// A start that goes on from another run's checkpoint.
    pub(crate) fn forked(
        engine: &'a Engine,
        graph: &'a Graph<S>,
        checkpoint: Checkpoint<S>,
        origin: Origin,
    ) -> Self {
        Self {
            forked: Some((checkpoint.clone(), origin)),
            ..Self::new(engine, graph, checkpoint.state)
        }
    }

    /// Starts the run in a thread, which has one live run at a time: a second start is
    /// [`EngineError::ThreadBusy`]. Name it after what the run is about, such as `order/42`.
    ///
    /// The thread is free again when the run has ended, so that it does not keep the same request from
    /// starting a second run later. What does is a unique row of the request, written by the same
    /// [transaction](Self::in_tx), or an [`id`](Self::id) that was stored with the request beforehand.
    pub fn thread(mut self, name: impl Into<String>) -> Self {
        self.thread = Some(name.into());
        self
    }

    /// Starts the run with an id of your own, drawn by [`RunId::random`]; a second start with it is refused.
    pub fn id(mut self, id: RunId) -> Self {
        self.id = Some(id);
        self
    }

    /// Lets runs of a lower number go first; zero otherwise. Each number is worth a minute of waiting, so
    /// that a run of whatever number has its turn.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Starts the run into a queue, whose [`Gate`](crate::Gate::Queue) may limit how many of its runs are at
    /// work at once, how fast they begin, and their share of the workers beside other queues. Name it after
    /// whom the work is for, or what it needs, such as `tenant/acme`. Queues need not be made; there may be
    /// as many as there are tenants. The runs that the run starts are of the same queue.
    ///
    /// # Panics
    /// When the name is empty.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        assert!(!name.is_empty(), "a queue has a name");
        self.queue = Some(name);
        self
    }

    /// Lets this run take `steps` steps, whatever its graph says. A run that has taken them all is
    /// paused before the next one.
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.step_limit = Some(steps);
        self
    }

    /// Pauses this run before a step in which `node` has work to do, as
    /// [`GraphBuilder::pause_before`](crate::GraphBuilder::pause_before) does each run of the graph.
    pub fn pause_before<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.breakpoints.before.insert(node.name().to_owned());
        self
    }

    /// Pauses this run after a step in which `node` has done work, as
    /// [`GraphBuilder::pause_after`](crate::GraphBuilder::pause_after) does each run of the graph.
    pub fn pause_after<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.breakpoints.after.insert(node.name().to_owned());
        self
    }

    /// Pauses this run before every step.
    pub fn pause_before_all(mut self) -> Self {
        let nodes = self.graph.shape().nodes();
        self.breakpoints.before.extend(nodes.map(str::to_owned));
        self
    }

    /// Pauses this run after every step but the last.
    pub fn pause_after_all(mut self) -> Self {
        let nodes = self.graph.shape().nodes();
        self.breakpoints.after.extend(nodes.map(str::to_owned));
        self
    }

    /// Makes the run a part of this trace, with all its turns and the runs that its nodes start; otherwise of
    /// the one whose [scope](TraceContext::scope) this is in, if it is in any.
    pub fn trace(mut self, context: TraceContext) -> Self {
        self.trace = Some(context);
        self
    }

    /// Starts the run when the transaction of `conn` commits, and only then: with the row that it is
    /// about, or not at all.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { id: i64 }
    /// # async fn place(engine: &Engine, graph: &Graph<Order>) -> Result<RunId, Box<dyn std::error::Error>> {
    /// let mut tx = engine.pool().begin().await?;
    /// let id: i64 = sqlx::query_scalar("insert into orders default values returning id")
    ///     .fetch_one(&mut *tx)
    ///     .await?;
    /// let order = Order { id };
    /// let run = engine.start(graph, order).thread(format!("order/{id}")).in_tx(&mut tx).await?;
    /// tx.commit().await?;
    /// # Ok(run)
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::ThreadBusy`], [`EngineError::IdTaken`], [`EngineError::BadValue`],
    /// [`EngineError::TooLarge`], [`EngineError::Unstorable`],
    /// [`EngineError::UnknownNode`] when a breakpoint is none of the graph, or the
    /// database's. The transaction can go on after the first two.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transaction may or may not hold the run: roll it back.
    pub async fn in_tx(self, conn: &mut PgConnection) -> Result<RunId, EngineError> {
        let encoded = self.encoded()?;
        let mut draws = 0;
        loop {
            let id = self.id.unwrap_or_else(RunId::random);
            draws += 1;
            // A savepoint, so that a refused insert does not spoil the caller's transaction.
            let mut savepoint = conn.begin().await.map_err(EngineError::on(STARTING))?;
            let sealed = encoded
                .sealed(self.engine.vault(), id)
                .map_err(EngineError::sealed(STARTING))?;
            match start::insert(&mut *savepoint, &sealed.row(&self, id)).await {
                Ok(true) => {
                    savepoint
                        .commit()
                        .await
                        .map_err(EngineError::on(STARTING))?;
                    store::run::notify(&mut *conn)
                        .await
                        .map_err(EngineError::on(STARTING))?;
                    return Ok(id);
                }
                Ok(false) => {
                    drop(savepoint);
                    if let Some(busy) = self.busy(conn).await {
                        return Err(busy);
                    }
                    if draws >= DRAWS_MAX {
                        return Err(EngineError::on(STARTING)(sqlx::Error::RowNotFound));
                    }
                }
                Err(error) if is_taken(&error) && self.id.is_none() && draws < DRAWS_MAX => {}
                Err(error) if is_taken(&error) => return Err(EngineError::IdTaken(id)),
                Err(error) => return Err(EngineError::on(STARTING)(error)),
            }
        }
    }

    async fn now(self) -> Result<RunId, EngineError> {
        let encoded = self.encoded()?;
        let pool = &self.engine.pool().clone();
        let mut id = self.id.unwrap_or_else(RunId::random);
        let (mut draws, mut calls, mut backoff) = (1, 1, Backoff::default());
        loop {
            let sealed = encoded
                .sealed(self.engine.vault(), id)
                .map_err(EngineError::sealed(STARTING))?;
            let error = match start::insert(pool, &sealed.row(&self, id)).await {
                Ok(true) => break,
                // Busy, perhaps with this very run: its first answer was lost.
                Ok(false) if self.is_ours(id, encoded.nonce).await? => break,
                Ok(false) => {
                    let mut conn = pool.acquire().await.map_err(EngineError::on(STARTING))?;
                    if let Some(busy) = self.busy(&mut conn).await {
                        return Err(busy);
                    }
                    sqlx::Error::RowNotFound
                }
                Err(error) => error,
            };
            if is_taken(&error) {
                if self.is_ours(id, encoded.nonce).await? {
                    break;
                }
                if self.id.is_some() || draws >= DRAWS_MAX {
                    return Err(EngineError::IdTaken(id));
                }
                draws += 1;
                id = RunId::random();
            } else if is_worth_another_call(&error) && calls < CALLS_MAX {
                calls += 1;
                backoff.wait().await;
            } else {
                return Err(EngineError::on(STARTING)(error));
            }
        }
        if let Some(queue) = &self.queue
            && let Err(error) = store::gate::balance(pool, queue).await
        {
            // The next look of a worker makes up for it.
            tracing::debug!(run.id = %id, %error, "could not look at the run's queue yet");
        }
        self.engine.hint();
        Ok(id)
    }

    async fn is_ours(&self, id: RunId, nonce: i64) -> Result<bool, EngineError> {
        let (mut calls, mut backoff) = (1, Backoff::default());
        loop {
            match start::nonce(self.engine.pool(), id).await {
                Ok(stored) => return Ok(stored == Some(nonce)),
                Err(error) if store::is_transient(&error) && calls < CALLS_MAX => {
                    calls += 1;
                    backoff.wait().await;
                }
                Err(error) => return Err(EngineError::on(STARTING)(error)),
            }
        }
    }

    /// What keeps the thread; `None` when it has ended this moment: another start will find it free.
    async fn busy(&self, conn: &mut PgConnection) -> Option<EngineError> {
        let thread = self.thread.clone().unwrap_or_default();
        match start::live_run(conn, &thread).await {
            Ok(live) => live.map(|run| EngineError::ThreadBusy { thread, run }),
            Err(error) => Some(EngineError::on(STARTING)(error)),
        }
    }
}

const STARTING: &str = "start the run";

impl<S: State> Start<'_, S> {
    pub(crate) fn encoded(&self) -> Result<Encoded, EngineError> {
        let shape = self.graph.shape();
        let Breakpoints { before, after } = &self.breakpoints;
        if let Some(node) = before
            .iter()
            .chain(after)
            .find(|node| shape.node(node).is_none())
        {
            return Err(EngineError::UnknownNode {
                graph: self.graph.code().to_owned(),
                node: node.clone(),
            });
        }
        let encoded = match &self.forked {
            Some((checkpoint, _)) => Encoded::new(&self.state, |_| checkpoint.clone()),
            None => Encoded::new(&self.state, |state| {
                let mut checkpoint = executor::begin(shape, state);
                checkpoint.step_limit = self.step_limit;
                checkpoint.breakpoints = self.breakpoints.clone();
                checkpoint
            }),
        }?;
        encoded.check(self.engine.vault().limits())?;
        Ok(encoded)
    }
}

/// What is stored of a start.
pub(crate) struct Encoded {
    pub(crate) control: Vec<u8>,
    pub(crate) state: Vec<u8>,
    nonce: i64,
}

impl Encoded {
    pub(crate) fn of<S: State>(graph: &Graph<S>, state: &S) -> Result<Self, EngineError> {
        Self::new(state, |state| executor::begin(graph.shape(), state))
    }

    fn new<S: State>(
        state: &S,
        checkpoint: impl FnOnce(S) -> Checkpoint<S>,
    ) -> Result<Self, EngineError> {
        let unstorable = |source| EngineError::Unstorable { source };
        let state = encode_state(state)?;
        // What cannot be read back is found out now and not by a worker.
        let again = decode_state(&state);
        let checkpoint = checkpoint(again.map_err(|error| match error {
            ReplayError::Codec(CodecError::Decode { source, .. }) => unstorable(source),
            other => unstorable(serde::ser::Error::custom(other)),
        })?);
        let control = Control::encode(&checkpoint)
            .map_err(|error| unstorable(serde::ser::Error::custom(error)))?;
        Ok(Self {
            control,
            state,
            nonce: Uuid::new_v4().as_u64_pair().0.cast_signed(),
        })
    }

    pub(crate) fn check(&self, limits: Limits) -> Result<(), TooLarge> {
        limits.check_input(unmark(&self.state).1)
    }

    /// As it is stored of the run `id`.
    pub(crate) fn sealed(&self, vault: &Vault, id: RunId) -> Result<Self, SealError> {
        let seal = |what, plain: &[u8]| vault.seal(Home::of_step(id, 0, what), plain.to_vec());
        Ok(Self {
            control: seal("control", &self.control)?,
            state: seal("snapshot", &self.state)?,
            nonce: self.nonce,
        })
    }

    fn row<'a, S: State>(&'a self, start: &'a Start<'_, S>, id: RunId) -> NewRun<'a> {
        NewRun {
            thread: start.thread.as_deref(),
            priority: start.priority,
            lane: start.queue.as_deref(),
            origin: start.forked.as_ref().map(|(_, origin)| *origin),
            trace: start.trace.as_ref().map(TraceContext::as_str),
            ..self.row_of(start.graph, id)
        }
    }

    pub(crate) fn row_of<'a, S: State>(&'a self, graph: &'a Graph<S>, id: RunId) -> NewRun<'a> {
        let shape = graph.shape();
        NewRun {
            id,
            nonce: self.nonce,
            graph: shape.name(),
            version: shape.version().cast_signed(),
            fingerprint: graph.fingerprint(),
            thread: None,
            control: &self.control,
            state: &self.state,
            code: graph.queued(),
            priority: 0,
            origin: None,
            lane: None,
            trace: None,
        }
    }
}

/// Whether the server was in trouble, or the thread's run ended while the start looked at it.
fn is_worth_another_call(error: &sqlx::Error) -> bool {
    store::is_transient(error) || matches!(error, sqlx::Error::RowNotFound)
}

/// Whether a run of this id is there already.
pub(crate) fn is_taken(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

impl<'a, S: State> IntoFuture for Start<'a, S> {
    type Output = Result<RunId, EngineError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Starts the run; it is durable when this returns. A lost answer is asked for again, and the run
    /// is started once.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.now())
    }
}

impl<S: State> fmt::Debug for Start<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("graph", &self.graph)
            .field("id", &self.id)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
