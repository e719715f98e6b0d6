//! The engine as its users see it: start runs, look at them, steer them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::MigrateError;
use sqlx::{PgConnection, PgPool};

use crate::check::Misfit;
use crate::codec::{Codec, SealError};
use crate::events::{self, Event};
use crate::executor::{AdvanceError, Checkpoint};
use crate::gate::BadAllowance;
use crate::graph::Graph;
use crate::history::HistoryStep;
use crate::limits::{Limits, TooLarge};
use crate::near::{Hint, nearest};
use crate::places::Places;
use crate::run_id::RunId;
use crate::start::Start;
use crate::state::State;
use crate::storable::{self, BadValue, NotStorable};
use crate::store;
use crate::turn::checkpoint_of;
use crate::updated::Refusal;
use crate::vault::{Home, Vault};
use crate::why::Why;

use crate::store::child::ChildRun;
pub use crate::store::run::{Run, RunStatus, Step};
pub use crate::store::why::WorkerInfo;

/// Most runs or steps that one call returns.
pub const PAGE_MAX: i64 = 1_000;

/// Runs on one database. Cheap to clone.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use velo_engine::prelude::*;
///
/// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// struct Greeting { name: String, text: String }
///
/// # async fn example(pool: sqlx::PgPool, graph: Graph<Greeting>) -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::migrate_and_connect(pool).await?;
/// let greeting = Greeting { name: "Ada".to_owned(), ..Greeting::default() };
/// let run = engine.start(&graph, greeting).thread("greetings/ada").await?;
/// // Workers do the rest; see the crate velo-worker.
/// engine.wait(run).await?;
/// println!("{}", engine.state::<Greeting>(run).await?.text);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    pool: PgPool,
    places: Places,
    hints: Arc<Hints>,
    vault: Vault,
}

impl Engine {
    /// Creates or upgrades the engine's tables, and connects.
    ///
    /// # Errors
    /// As [`migrate`](crate::migrate).
    ///
    /// # Cancel safety
    /// Each migration is one transaction: call it again.
    pub async fn migrate_and_connect(pool: PgPool) -> Result<Self, MigrateError> {
        crate::migrate(&pool).await?;
        Ok(Self::connect(pool))
    }

    /// Connects to a database whose tables are up to date.
    #[must_use]
    pub fn connect(pool: PgPool) -> Self {
        Self {
            places: Places::of(&pool),
            hints: Arc::default(),
            vault: Vault::default(),
            pool,
        }
    }

    /// Seals all that it writes from now on with `codec`, and opens with it what is sealed. Workers take the
    /// codec of the engine that they are given, so give all processes one that has the same keys.
    ///
    /// ```no_run
    /// # #[cfg(feature = "encryption")]
    /// # async fn example(pool: sqlx::PgPool, key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
    /// use velo_engine::{Engine, codec::Keyring};
    ///
    /// let engine = Engine::connect(pool).with_codec(Keyring::new("2026-11", &key)?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_codec(mut self, codec: impl Codec) -> Self {
        self.vault.set_codec(Arc::new(codec));
        self
    }

    /// Refuses what is larger than `limits` say. Workers take the limits of the engine that they are given.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.vault.set_limits(limits);
        self
    }

    /// How it keeps payloads, for its workers.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// What all its workers share, so that nodes do not hold every connection of the pool.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Starts a run of `graph` with `state`; await what is returned, or name a thread first, or start
    /// in a transaction of your own. The process that starts it need not be one that runs it: any
    /// worker that serves the graph's [`code`](Graph::code) does.
    pub fn start<'a, S: State>(&'a self, graph: &'a Graph<S>, state: S) -> Start<'a, S> {
        Start::new(self, graph, state)
    }

    /// How a run stands.
    ///
    /// # Errors
    /// [`EngineError::NoRun`] when there is no such run, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn run(&self, run: RunId) -> Result<Run, EngineError> {
        let found = store::run::get(&self.pool, run).await;
        let mut found = found
            .map_err(EngineError::on("read the run"))?
            .ok_or(EngineError::NoRun(run))?;
        self.vault.show_run(&mut found);
        Ok(found)
    }

    /// What a run is doing, or why it is doing nothing.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn why(&self, run: RunId) -> Result<Why, EngineError> {
        let facts = store::why::facts(&self.pool, run).await;
        let facts = facts.map_err(EngineError::on("read why the run is as it is"))?;
        let mut facts = facts.ok_or(EngineError::NoRun(run))?;
        self.vault.show_facts(run, &mut facts);
        Ok(Why::of(facts))
    }

    /// The registered workers, oldest first; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn workers(&self, limit: i64) -> Result<Vec<WorkerInfo>, EngineError> {
        store::why::workers(&self.pool, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the workers"))
    }

    /// Runs that have not ended, newest first, older than `before`; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn unfinished(
        &self,
        before: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<Run>, EngineError> {
        let found = store::run::unfinished(&self.pool, before, limit.clamp(0, PAGE_MAX)).await;
        self.shown(found)
    }

    /// Runs of these statuses, newest first, older than `before`; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn runs(
        &self,
        statuses: &[RunStatus],
        before: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<Run>, EngineError> {
        let found = store::run::list(&self.pool, statuses, before, limit.clamp(0, PAGE_MAX)).await;
        self.shown(found)
    }

    fn shown(&self, found: Result<Vec<Run>, sqlx::Error>) -> Result<Vec<Run>, EngineError> {
        let mut runs = found.map_err(EngineError::on("list the runs"))?;
        runs.iter_mut().for_each(|run| self.vault.show_run(run));
        Ok(runs)
    }

    /// What a run has done after step `after`, oldest step first, with all that was written; at most
    /// `limit` steps and [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`EngineError::Unreadable`] when a step cannot be read, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn history(
        &self,
        run: RunId,
        after: i32,
        limit: i64,
    ) -> Result<Vec<HistoryStep>, EngineError> {
        let stored = store::run::history(&self.pool, run, after, limit.clamp(0, PAGE_MAX)).await;
        let mut stored = stored.map_err(EngineError::on("read the run's history"))?;
        self.vault
            .open_history(run, &mut stored)
            .map_err(EngineError::sealed("read the run's history"))?;
        let steps: Result<Vec<_>, _> = stored.iter().map(HistoryStep::of).collect();
        steps.map_err(|source| EngineError::Unreadable {
            run,
            source: Box::new(source),
        })
    }

    /// The committed steps of a run after step `after`, oldest first; at most `limit` and [`PAGE_MAX`].
    /// Step zero is the start, so all of them come after -1.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn steps(
        &self,
        run: RunId,
        after: i32,
        limit: i64,
    ) -> Result<Vec<Step>, EngineError> {
        store::run::steps(&self.pool, run, after, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the run's steps"))
    }

    /// The state of a run after its newest committed step, with the [updates](Self::update) that were accepted since.
    ///
    /// # Errors
    /// [`EngineError::NoRun`] when there is no such run, [`EngineError::NotBegun`] when it is to begin from
    /// its thread's state and no worker has had it yet, [`EngineError::Unreadable`] when its state is none of
    /// `S`, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn state<S: State>(&self, run: RunId) -> Result<S, EngineError> {
        Ok(self.checkpoint(run).await?.state)
    }

    /// Where a run stands after its newest committed step: state, next tasks, joins.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn checkpoint<S: State>(&self, run: RunId) -> Result<Checkpoint<S>, EngineError> {
        let mut steps = store::load::steps(&self.pool, run)
            .await
            .map_err(EngineError::on("read the run's steps"))?;
        self.vault
            .open_steps(run, &mut steps)
            .map_err(EngineError::sealed("read the run's steps"))?;
        if steps.is_empty() {
            self.run(run).await?;
            return Err(EngineError::NotBegun(run));
        }
        checkpoint_of(&steps).map_err(|source| EngineError::Unreadable {
            run,
            source: Box::new(source),
        })
    }

    /// Waits until a run ends, is paused, or waits for an answer or a message, itself or in a child run
    /// that it waits for; returns how it then stands. It looks again and again,
    /// up to twice a second: for a few runs, such as in a test.
    ///
    /// # Errors
    /// As [`run`](Self::run). Does not end by itself while the run goes on: bound it with a timeout.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn wait(&self, run: RunId) -> Result<Run, EngineError> {
        let (mut pause, longest) = (Duration::from_millis(10), Duration::from_millis(500));
        loop {
            let found = self.run(run).await?;
            let is_stuck = match found.status {
                RunStatus::Active => false,
                RunStatus::Waiting => store::child::is_stuck(&self.pool, run)
                    .await
                    .map_err(EngineError::on("read what the run waits for"))?,
                _ => true,
            };
            if is_stuck {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Sends a message to a run, whether or not it waits for one. Messages of one name are taken in the
    /// order of their arrival, each once. With a `key`, a message that is sent again is the same one.
    ///
    /// # Errors
    /// [`EngineError::Ended`] when the run has ended, [`EngineError::NoRun`] when it never was;
    /// [`EngineError::Unstorable`]; or the database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the message may or may not be sent: send it again with the same key.
    pub async fn signal(
        &self,
        run: RunId,
        name: &str,
        payload: &impl Serialize,
        key: Option<&str>,
    ) -> Result<(), EngineError> {
        let mut conn = self
            .pool
            .acquire()
            .await
            .map_err(EngineError::on("send the message"))?;
        self.signal_in_tx(&mut conn, run, name, payload, key)
            .await?;
        drop(conn);
        self.hint();
        Ok(())
    }

    /// As [`signal`](Self::signal), in the caller's transaction: the message is sent when that commits.
    /// Until then the run is neither claimed nor given back.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    ///
    /// # Cancel safety
    /// Part of the caller's transaction.
    pub async fn signal_in_tx(
        &self,
        conn: &mut PgConnection,
        run: RunId,
        name: &str,
        payload: &impl Serialize,
        key: Option<&str>,
    ) -> Result<(), EngineError> {
        let home = Home::named_of_run(run, "signal", name);
        let payload = self
            .vault
            .seal_json(home, self.storable("message", payload)?)
            .map_err(EngineError::sealed("send the message"))?;
        let sent = store::wait::send(&mut *conn, run, name, &payload, key)
            .await
            .map_err(EngineError::on("send the message"))?;
        if sent {
            return Ok(());
        }
        let found = store::run::get(conn, run).await;
        match found.map_err(EngineError::on("send the message"))? {
            Some(_) => Err(EngineError::Ended(run)),
            None => Err(EngineError::NoRun(run)),
        }
    }

    /// The runs that nodes of this run have started, in the order of its steps; at most `limit` and
    /// [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn children(&self, run: RunId, limit: i64) -> Result<Vec<ChildRun>, EngineError> {
        store::child::of(&self.pool, run, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the run's children"))
    }

    /// How a run came to be: which node of which run started it, and so on upwards, the topmost first.
    /// Empty for a run that no node has started.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn path(&self, run: RunId) -> Result<Vec<ChildRun>, EngineError> {
        store::child::path(&self.pool, run)
            .await
            .map_err(EngineError::on("read what started the run"))
    }

    /// The events that the run's nodes emitted after the place `after`, oldest first; zero is before
    /// the first. At most `limit` and [`events::PAGE_MAX`](crate::events::PAGE_MAX).
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn events(
        &self,
        run: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, EngineError> {
        const READING: &str = "read the run's events";
        let mut found = events::read(&self.pool, &events::run_stream(run), after, limit)
            .await
            .map_err(EngineError::on(READING))?;
        found
            .iter_mut()
            .try_for_each(|event| self.vault.open_event(run, event))
            .map_err(EngineError::sealed(READING))?;
        Ok(found)
    }

    /// The value as it can be stored.
    pub(crate) fn storable(
        &self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<serde_json::Value, EngineError> {
        let value = storable::to_value(name, value)?;
        self.vault.limits().check_json(name, None, &value)?;
        Ok(value)
    }

    /// Wakes workers that wait. What is lost here is found by their own looking.
    ///
    /// Many callers at once share one message: each wakes every idle worker.
    pub(crate) fn hint(&self) {
        if self.hints.ask() {
            let (pool, hints) = (self.pool.clone(), Arc::clone(&self.hints));
            tokio::spawn(async move {
                loop {
                    if let Err(error) = store::run::hint(&pool).await {
                        tracing::debug!(%error, "could not wake the workers");
                    }
                    if !hints.go_on() {
                        return;
                    }
                }
            });
        }
    }
}

/// Whether a message to the workers is under way, and whether another one was asked for since it left.
#[derive(Debug, Default)]
struct Hints {
    state: Mutex<(bool, bool)>,
}

impl Hints {
    /// Asks for a message; whether the caller is to send it.
    fn ask(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_under_way, is_asked_again) = &mut *state;
        *is_asked_again = *is_under_way;
        !std::mem::replace(is_under_way, true)
    }

    /// A message was sent; whether another one is to follow.
    fn go_on(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_under_way, is_asked_again) = &mut *state;
        *is_under_way = std::mem::take(is_asked_again);
        *is_under_way
    }
}

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The database refused or was away.
    #[error("could not {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// There is no run of this id.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The run has not committed this step.
    #[error("run {run} has no step {seq}: see its history")]
    NoStep {
        /// The run.
        run: RunId,
        /// The step.
        seq: i32,
    },
    /// The graph has no node of this name.
    #[error("the graph {graph} has no node `{node}`{}", Hint(.near.as_deref()))]
    NoNode {
        /// The graph's name and version.
        graph: String,
        /// The node.
        node: String,
        /// The one that was probably meant.
        near: Option<String>,
    },
    /// The run is one of another graph than the given one.
    #[error("run {run} is one of the graph `{graph}` and not of `{given}`: give that graph")]
    OtherGraph {
        /// The run.
        run: RunId,
        /// Its graph.
        graph: String,
        /// The graph that was given.
        given: String,
    },
    /// The state of a run after a step cannot be edited as asked, or cannot be gone on from.
    #[error("could not go on from step {seq} of run {run}")]
    Refused {
        /// The run.
        run: RunId,
        /// The step.
        seq: i32,
        /// Why.
        #[source]
        source: AdvanceError,
    },
    /// There is no operation of this number.
    #[error("there is no operation {0}: see the list")]
    NoBulk(i64),
    /// A gate cannot be limited like this.
    #[error("could not set the limit")]
    Allowance(#[source] BadAllowance),
    /// A worker has the run at this moment.
    #[error("run {0} is at work: wait until it is paused or waits, or try again")]
    AtWork(RunId),
    /// The code cannot go on with the run.
    #[error("{graph} cannot go on with run {run}: {}", .misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unfit {
        /// The run.
        run: RunId,
        /// The graph and version.
        graph: String,
        /// Why.
        misfits: Vec<Misfit>,
    },
    /// The run has ended.
    #[error("run {0} has ended: fork it instead")]
    Ended(RunId),
    /// The run has not ended.
    #[error("run {0} has not ended: wait for it, or cancel it first")]
    NotEnded(RunId),
    /// The run has committed steps since it was looked at.
    #[error("run {run} has gone on to step {newest}: look at it again")]
    MovedOn {
        /// The run.
        run: RunId,
        /// Its newest step.
        newest: i32,
    },
    /// The document is no export that can be imported, or the run cannot be exported.
    #[error("the export cannot be used")]
    BadExport(#[source] crate::export::BadExport),
    /// A fork would have no task to begin with.
    #[error(
        "nothing comes after step {seq} of run {run}: fork an earlier step, or edit as a node that something follows"
    )]
    NothingToDo {
        /// The run.
        run: RunId,
        /// The step.
        seq: i32,
    },
    /// The graph refused the update, and nothing was written. The same id is refused again.
    #[error("run {run} refused the update `{name}`: {refusal}")]
    UpdateRefused {
        /// The run.
        run: RunId,
        /// The update.
        name: String,
        /// What the handler said.
        refusal: Box<Refusal>,
    },
    /// The update was not answered in time.
    #[error(
        "run {run} has not answered the update `{id}` in time, but may yet ({why}): ask again with the same id to see what becomes of it"
    )]
    UpdateOpen {
        /// The run.
        run: RunId,
        /// The id of the request.
        id: String,
        /// What the run is doing, or why it is doing nothing.
        why: String,
    },
    /// The run was not asked for an update of this id.
    #[error(
        "run {run} was not asked for an update with the id `{id}`: see the list of its updates"
    )]
    NoUpdate {
        /// The run.
        run: RunId,
        /// The id.
        id: String,
    },
    /// Another update was asked for with the same id.
    #[error("run {run} was asked for another update with the id `{id}`: take another id")]
    UpdateIdTaken {
        /// The run.
        run: RunId,
        /// The id.
        id: String,
    },
    /// The id of an update cannot be stored.
    #[error("the id of an update has 1 to 500 bytes and no NUL: take another id")]
    BadUpdateId,
    /// Too many updates of the run are not answered.
    #[error("{most} updates of run {run} are not answered yet: ask again when some are")]
    TooManyUpdates {
        /// The run.
        run: RunId,
        /// How many may be open.
        most: usize,
    },
    /// The run is paused, and answers nothing.
    #[error("run {0} is paused: resume it, then ask again")]
    RunPaused(RunId),
    /// The graph has no such query.
    #[error("the graph {graph} has no query `{name}`: declare it with .on_query(…)")]
    NoQuery {
        /// The graph.
        graph: String,
        /// The query.
        name: &'static str,
    },
    /// What is asked, or the answer, cannot be handed over.
    #[error(
        "could not ask the query `{name}`: what is asked or the answer has no JSON form that can be read back"
    )]
    BadQuery {
        /// The query.
        name: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A breakpoint is at a node that the graph does not have.
    #[error("the graph {graph} has no node `{node}`: give a breakpoint at one that it has{}", Hint(.near.as_deref()))]
    UnknownNode {
        /// The graph.
        graph: String,
        /// The node.
        node: String,
        /// The one that was probably meant.
        near: Option<String>,
    },
    /// The question is not open.
    #[error(
        "the question `{name}` of run {run} is not open: it was answered, has expired, or the run went on; \
         open now: {}{}", listed(.open), Hint(nearest(.name, .open.iter().map(String::as_str)))
    )]
    NotOpen {
        /// The run.
        run: RunId,
        /// The question; empty when any would have done.
        name: String,
        /// The questions of the run that are open now.
        open: Vec<String>,
    },
    /// Several questions are open, and the answer does not say which one it is for.
    #[error("run {run} asks several questions: answer one of {}", listed(.open))]
    SeveralOpen {
        /// The run.
        run: RunId,
        /// Their names, or their ids where several have one name.
        open: Vec<String>,
    },
    /// The answer is none that the question's schema allows. The question stays open.
    #[error("the answer to `{name}` of run {run} does not fit: {}", .problems.join("; "))]
    BadAnswer {
        /// The run.
        run: RunId,
        /// The question.
        name: String,
        /// What is wrong, each with the JSON pointer of its place.
        problems: Vec<String>,
    },
    /// The thread has a run that has not ended.
    #[error("thread `{thread}` is busy with run {run}: wait for it, or cancel it")]
    ThreadBusy {
        /// The thread.
        thread: String,
        /// Its live run.
        run: RunId,
    },
    /// The thread has had a run, and was not to have another.
    #[error("thread `{thread}` had run {run}, which has ended ({})", .status.as_str())]
    ThreadClosed {
        /// The thread.
        thread: String,
        /// Its last run.
        run: RunId,
        /// How that has ended.
        status: RunStatus,
    },
    /// Too many runs wait for their turn on the thread.
    #[error(
        "{waiting} runs wait for their turn on thread `{thread}`: try again when some have begun"
    )]
    LineFull {
        /// The thread.
        thread: String,
        /// How many wait.
        waiting: usize,
    },
    /// The run waits for its turn on its thread, or for a worker to make its first step.
    #[error("run {0} has not begun: see why it waits")]
    NotBegun(RunId),
    /// No task of the run has failed.
    #[error("no task of run {0} has failed: see why it waits, or resume it")]
    NothingFailed(RunId),
    /// An input of a thread cannot be written to its state.
    #[error("the input cannot be written to the state")]
    BadInput {
        /// Why.
        #[source]
        source: crate::ConcurrentUpdate,
    },
    /// There is no worker of this id.
    #[error("there is no worker {0}: it has stopped, or was given up")]
    NoWorker(i32),
    /// The thread that is to be copied to has runs.
    #[error("thread `{0}` has runs: copy to one that has none")]
    ThreadNotEmpty(String),
    /// The thread that is to be copied has too many runs.
    #[error(
        "thread `{thread}` has more than {most} runs: copy its runs one by one, or prune it first"
    )]
    ThreadTooLong {
        /// The thread.
        thread: String,
        /// The limit.
        most: usize,
    },
    /// Another run has the id that was asked for.
    #[error("another run was started with the id {0}: take another id")]
    IdTaken(RunId),
    /// A value could not be read back as it was.
    #[error(transparent)]
    BadValue(#[from] BadValue),
    /// A value is larger than it may be.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A state, an answer or a message has no JSON form.
    #[error("could not store the value: it has no JSON form that can be read back")]
    Unstorable {
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Something cannot be sealed or opened; see [`codec`](crate::codec).
    #[error("could not {doing}")]
    Sealed {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: SealError,
    },
    /// What is stored does not fit the type.
    #[error(
        "could not read the state of run {run}: is it a run of another graph, or did the type change?"
    )]
    Unreadable {
        /// The run.
        run: RunId,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EngineError {
    pub(crate) fn on(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    pub(crate) fn sealed(doing: &'static str) -> impl FnOnce(SealError) -> Self {
        move |source| Self::Sealed { doing, source }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database { source, .. } => store::is_transient(source),
            Self::ThreadBusy { .. }
            | Self::LineFull { .. }
            | Self::AtWork(_)
            | Self::UpdateOpen { .. }
            | Self::TooManyUpdates { .. }
            | Self::RunPaused(_)
            | Self::NotBegun(_) => true,
            _ => false,
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

impl From<NotStorable> for EngineError {
    fn from(error: NotStorable) -> Self {
        match error {
            NotStorable::Bad(bad) => Self::BadValue(bad),
            NotStorable::Json(source) => Self::Unstorable { source },
        }
    }
}

pub(crate) fn has_nul(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
