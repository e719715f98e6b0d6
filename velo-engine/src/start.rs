//! Starting a run.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde_json::json;
use sqlx::{Acquire, PgConnection};
use uuid::Uuid;

use crate::breakpoint::Breakpoints;
use crate::codec::SealError;
use crate::engine::{Engine, EngineError};
use crate::executor::{self, Checkpoint};
use crate::failpoint;
use crate::fork::Origin;
use crate::graph::Graph;
use crate::limits::{Limits, TooLarge};
use crate::near::nearest;
use crate::next::Next;
use crate::node::NodeKey;
use crate::run_id::RunId;
use crate::schema::{ReplayError, decode_state, encode_state, unmark};
use crate::state::{CodecError, ConcurrentUpdate, State};
use crate::store::start::{self, NewRun};
use crate::store::steer::{self, Ending};
use crate::store::thread::{self as rows, NewInput, Written};
use crate::store::{self, Backoff};
use crate::stored::{Control, encode_delta};
use crate::terms::{Terms, terms};
use crate::thread::{Decision, End, IfBusy, IfClosed, LINE_MAX, decide};
use crate::trace::TraceContext;
use crate::vault::{Home, Vault};

/// Draws of an id before chance is no longer believed in.
const DRAWS_MAX: u32 = 8;
/// Calls of a start whose answers are lost.
const CALLS_MAX: u32 = 8;

/// Looks at a thread whose live run changes each time.
const LOOKS_MAX: u32 = 16;

/// A run about to be started. Await it, or [`in_tx`](Self::in_tx).
#[must_use = "nothing is started before it is awaited"]
pub struct Start<'a, S: State> {
    engine: &'a Engine,
    graph: &'a Graph<S>,
    begin: Begin<S>,
    pub(crate) terms: Terms,
    breakpoints: Breakpoints,
    trace: Option<TraceContext>,
}

/// What a run begins with.
enum Begin<S: State> {
    State(S),
    /// Goes on from another run's checkpoint.
    Forked(Checkpoint<S>, Origin),
    /// The thread's state, with this written to it; or the other, if the thread has none.
    Input(S::Update, Result<S, ConcurrentUpdate>),
}

impl<'a, S: State> Start<'a, S> {
    pub(crate) fn new(engine: &'a Engine, graph: &'a Graph<S>, state: S) -> Self {
        Self::beginning(engine, graph, Begin::State(state))
    }

    /// A start that goes on from another run's checkpoint.
    pub(crate) fn forked(
        engine: &'a Engine,
        graph: &'a Graph<S>,
        checkpoint: Checkpoint<S>,
        origin: Origin,
    ) -> Self {
        Self::beginning(engine, graph, Begin::Forked(checkpoint, origin))
    }

    /// A start that goes on from its thread's state.
    pub(crate) fn of_input(
        engine: &'a Engine,
        graph: &'a Graph<S>,
        update: S::Update,
        fresh: Result<S, ConcurrentUpdate>,
    ) -> Self {
        Self::beginning(engine, graph, Begin::Input(update, fresh))
    }

    fn beginning(engine: &'a Engine, graph: &'a Graph<S>, begin: Begin<S>) -> Self {
        Self {
            engine,
            graph,
            begin,
            terms: Terms::default(),
            breakpoints: Breakpoints::default(),
            trace: TraceContext::current(),
        }
    }

    terms!();

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
    /// [`EngineError::ThreadBusy`], [`EngineError::ThreadClosed`], [`EngineError::LineFull`],
    /// [`EngineError::IdTaken`], [`EngineError::Unstorable`], [`EngineError::BadInput`],
    /// [`EngineError::BadValue`], [`EngineError::TooLarge`], [`EngineError::UnknownNode`] when a breakpoint is none
    /// of the graph, or the database's. The transaction can go on after all but the last.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transaction may or may not hold the run: roll it back.
    pub async fn in_tx(self, conn: &mut PgConnection) -> Result<RunId, EngineError> {
        let encoded = self.encoded()?;
        let mut draws = 0;
        loop {
            let id = self.terms.id.unwrap_or_else(RunId::random);
            draws += 1;
            // A savepoint, so that a refused insert does not spoil the caller's transaction.
            let mut savepoint = conn.begin().await.map_err(EngineError::on(STARTING))?;
            let sealed = encoded
                .sealed(self.engine.vault(), id)
                .map_err(EngineError::sealed(STARTING))?;
            match self.insert(&mut savepoint, id, &sealed).await {
                Ok(started) => {
                    savepoint
                        .commit()
                        .await
                        .map_err(EngineError::on(STARTING))?;
                    store::run::notify(&mut *conn)
                        .await
                        .map_err(EngineError::on(STARTING))?;
                    return Ok(started);
                }
                Err(NotStarted::Refused(refused)) => return Err(refused),
                Err(NotStarted::Database(error)) if is_taken(&error) && self.terms.id.is_some() => {
                    return Err(EngineError::IdTaken(id));
                }
                Err(NotStarted::Database(error)) if is_taken(&error) && draws < DRAWS_MAX => {}
                Err(NotStarted::Database(sqlx::Error::RowNotFound)) if draws < DRAWS_MAX => {}
                Err(NotStarted::Database(error)) if is_taken(&error) => {
                    return Err(EngineError::IdTaken(id));
                }
                Err(NotStarted::Database(error)) => return Err(EngineError::on(STARTING)(error)),
            }
        }
    }

    async fn now(self) -> Result<RunId, EngineError> {
        let encoded = self.encoded()?;
        let mut id = self.terms.id.unwrap_or_else(RunId::random);
        let (mut draws, mut calls, mut backoff) = (1, 1, Backoff::default());
        let started = loop {
            let sealed = encoded
                .sealed(self.engine.vault(), id)
                .map_err(EngineError::sealed(STARTING))?;
            let error = match self.insert_now(id, &sealed).await {
                Ok(started) => break started,
                // Perhaps because of this very run: its first answer was lost.
                Err(NotStarted::Refused(refused)) => {
                    if self.is_ours(id, encoded.nonce).await? {
                        break id;
                    }
                    return Err(refused);
                }
                Err(NotStarted::Database(error)) => error,
            };
            if is_taken(&error) {
                if self.is_ours(id, encoded.nonce).await? {
                    break id;
                }
                if self.terms.id.is_some() || draws >= DRAWS_MAX {
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
        };
        if let Some(queue) = &self.terms.queue
            && let Err(error) = store::gate::balance(self.engine.pool(), queue).await
        {
            // The next look of a worker makes up for it.
            tracing::debug!(run.id = %id, %error, "could not look at the run's queue yet");
        }
        self.engine.hint();
        Ok(started)
    }

    /// Inserts the run in a transaction of its own.
    async fn insert_now(&self, id: RunId, encoded: &Encoded) -> Result<RunId, NotStarted> {
        let pool = self.engine.pool();
        if self.is_plain() {
            // One statement, and so one round trip.
            return match start::insert(pool, &encoded.row(self, id)).await? {
                true => Ok(id),
                false => {
                    let mut conn = pool.acquire().await?;
                    Err(self.busy(&mut conn).await)
                }
            };
        }
        let mut tx = store::begin(pool).await?;
        let started = self.insert(&mut tx, id, encoded).await?;
        failpoint::hit("start.before_commit");
        tx.commit().await?;
        failpoint::hit("start.after_commit");
        Ok(started)
    }

    /// Whether nothing has to be decided that one statement cannot.
    fn is_plain(&self) -> bool {
        let Terms {
            thread,
            if_busy,
            if_closed,
            ..
        } = &self.terms;
        let is_input = matches!(self.begin, Begin::Input(..));
        thread.is_none()
            || (!is_input && *if_busy == IfBusy::Reject && *if_closed == IfClosed::Allow)
    }

    /// Inserts the run; returns the one that was started, or the one that is there in its place. After an
    /// error the transaction holds a part of it: roll it back.
    async fn insert(
        &self,
        conn: &mut PgConnection,
        id: RunId,
        encoded: &Encoded,
    ) -> Result<RunId, NotStarted> {
        let row = encoded.row(self, id);
        let thread = match &self.terms.thread {
            Some(thread) if !self.is_plain() => thread,
            _ if start::insert(&mut *conn, &row).await? => return Ok(id),
            _ => return Err(self.busy(conn).await),
        };
        for _ in 0..LOOKS_MAX {
            // Who ends a run holds its place in the queue, then the thread. So does who will end it here.
            let mut held = None;
            if self.terms.if_busy.ends()
                && let Some(live) = rows::live_run(&mut *conn, thread).await?
            {
                steer::hold(&mut *conn, live).await?;
                held = Some(live);
            }
            let seen = rows::lock(conn, thread, id).await?;
            let last = match &seen {
                Some(seen) if !seen.is_live => rows::status(&mut *conn, seen.run_id).await?,
                _ => None,
            };
            let decided = decide(
                seen.as_ref(),
                last,
                self.terms.if_busy,
                self.terms.if_closed,
            );
            let refused = match decided {
                Decision::Use(run) => return Ok(run),
                Decision::Displace(_) if held != seen.map(|seen| seen.run_id) => continue,
                Decision::Take => {
                    let head = seen.as_ref().and_then(rows::Locked::head);
                    self.take(conn, row, encoded, head).await?;
                    return Ok(id);
                }
                Decision::Join | Decision::Displace(_) => {
                    let live = seen.map_or(id, |seen| seen.run_id);
                    self.join(conn, row, encoded, decided, live).await?;
                    return Ok(id);
                }
                Decision::Busy(run) => EngineError::ThreadBusy {
                    thread: thread.clone(),
                    run,
                },
                Decision::Closed(run, status) => EngineError::ThreadClosed {
                    thread: thread.clone(),
                    run,
                    status,
                },
            };
            return Err(NotStarted::Refused(refused));
        }
        Err(sqlx::Error::RowNotFound.into())
    }

    /// Makes the run the thread's live one.
    async fn take(
        &self,
        conn: &mut PgConnection,
        row: NewRun<'_>,
        encoded: &Encoded,
        head: Option<RunId>,
    ) -> Result<(), sqlx::Error> {
        let (id, thread) = (row.id, row.thread.unwrap_or_default());
        // A thread without a state has its first run begin like any other.
        let waits = encoded.delta.is_some() && head.is_some();
        let own = NewRun {
            thread: None,
            state: if waits { &[] } else { row.state },
            ..row
        };
        start::insert(&mut *conn, &own).await?;
        rows::take(conn, id, thread, head).await?;
        if waits {
            let input = encoded.input(id, thread, head);
            rows::add_input(conn, &input).await?;
        }
        Ok(())
    }

    /// Has the run wait in line; if it is to take the place of others, those are asked to end.
    async fn join(
        &self,
        conn: &mut PgConnection,
        row: NewRun<'_>,
        encoded: &Encoded,
        decided: Decision,
        live: RunId,
    ) -> Result<(), NotStarted> {
        let (id, thread) = (row.id, row.thread.unwrap_or_default());
        let limit = i64::try_from(LINE_MAX).unwrap_or(i64::MAX);
        let line = rows::line(&mut *conn, thread, limit).await?;
        let end = match decided {
            Decision::Displace(end) => Some(end),
            _ if line.len() >= LINE_MAX => {
                return Err(NotStarted::Refused(EngineError::LineFull {
                    thread: thread.to_owned(),
                    waiting: line.len(),
                }));
            }
            _ => None,
        };
        let own = NewRun {
            thread: None,
            state: if encoded.delta.is_some() {
                &[]
            } else {
                row.state
            },
            ..row
        };
        start::insert(&mut *conn, &own).await?;
        rows::join(conn, id, thread, end == Some(End::Undone)).await?;
        rows::add_input(conn, &encoded.input(id, thread, None)).await?;
        let Some(end) = end else {
            return Ok(());
        };
        let (kind, did) = match end {
            End::AtBoundary => ("interrupted", "interrupted it"),
            End::Undone => ("rolled_back", "rolled it back"),
            End::AtOnce => ("terminated", "terminated it"),
        };
        let message = format!("run {id}, which was started on its thread, {did}");
        let reason = json!({ "kind": kind, "message": message, "by": id });
        for run in line {
            steer::end(conn, run, Ending::now(&reason)).await?;
        }
        let how = Ending {
            is_at_boundary: end == End::AtBoundary,
            ..Ending::now(&reason)
        };
        // The last thing: when no worker has the run, its end starts this one.
        steer::end(conn, live, how).await?;
        Ok(())
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

    /// What keeps the thread; an error that is worth another call when it has ended this moment.
    async fn busy(&self, conn: &mut PgConnection) -> NotStarted {
        let thread = self.terms.thread.clone().unwrap_or_default();
        match rows::live_run(conn, &thread).await {
            Ok(Some(run)) => NotStarted::Refused(EngineError::ThreadBusy { thread, run }),
            Ok(None) => NotStarted::Database(sqlx::Error::RowNotFound),
            Err(error) => NotStarted::Database(error),
        }
    }
}

/// Why a run was not started.
enum NotStarted {
    Refused(EngineError),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for NotStarted {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

const STARTING: &str = "start the run";

impl<S: State> Start<'_, S> {
    /// A run that begins with this state.
    fn fresh(&self, state: &S) -> Result<Encoded, EngineError> {
        Encoded::new(state, |state| {
            let mut checkpoint = executor::begin(self.graph.shape(), state);
            checkpoint.step_limit = self.terms.step_limit;
            checkpoint.breakpoints = self.breakpoints.clone();
            checkpoint
        })
    }

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
                near: nearest(node, shape.nodes()).map(str::to_owned),
            });
        }
        let step_limit = self.terms.step_limit;
        let encoded = match &self.begin {
            Begin::State(state) => self.fresh(state),
            Begin::Forked(checkpoint, _) => Encoded::new(&checkpoint.state, |_| Checkpoint {
                step_limit: step_limit.or(checkpoint.step_limit),
                ..checkpoint.clone()
            }),
            Begin::Input(update, fresh) => {
                let unstorable = |error| EngineError::Unstorable {
                    source: serde::ser::Error::custom(error),
                };
                let fresh = fresh.as_ref();
                let fresh = fresh.map_err(|source| EngineError::BadInput {
                    source: source.clone(),
                })?;
                let delta = encode_delta(&[Next::<S>::none().and_update(update.clone())]);
                Ok(Encoded {
                    delta: Some(delta.map_err(unstorable)?),
                    ..self.fresh(fresh)?
                })
            }
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
    /// What is written to the thread's state.
    delta: Option<Vec<u8>>,
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
            delta: None,
        })
    }

    pub(crate) fn check(&self, limits: Limits) -> Result<(), TooLarge> {
        limits.check_input(unmark(&self.state).1)?;
        match &self.delta {
            Some(delta) => limits.check_writes(None, unmark(delta).1),
            None => Ok(()),
        }
    }

    /// As it is stored of the run `id`.
    pub(crate) fn sealed(&self, vault: &Vault, id: RunId) -> Result<Self, SealError> {
        let seal = |what, plain: &[u8]| vault.seal(Home::of_step(id, 0, what), plain.to_vec());
        let delta = self.delta.as_deref();
        Ok(Self {
            control: seal("control", &self.control)?,
            state: seal("snapshot", &self.state)?,
            nonce: self.nonce,
            delta: delta.map(|delta| seal("delta", delta)).transpose()?,
        })
    }

    fn row<'a, S: State>(&'a self, start: &'a Start<'_, S>, id: RunId) -> NewRun<'a> {
        NewRun {
            thread: start.terms.thread.as_deref(),
            priority: start.terms.priority,
            lane: start.terms.queue.as_deref(),
            trace: start.trace.as_ref().map(TraceContext::as_str),
            origin: match &start.begin {
                Begin::Forked(_, origin) => Some(*origin),
                _ => None,
            },
            ..self.row_of(start.graph, id)
        }
    }

    fn input<'a>(&'a self, run: RunId, thread: &'a str, turn: Option<RunId>) -> NewInput<'a> {
        let written = self.delta.as_deref().map(|delta| Written {
            delta,
            control: &self.control,
            fresh: &self.state,
        });
        NewInput {
            run,
            thread,
            written,
            turn,
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
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
