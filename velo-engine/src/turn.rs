//! A turn: what a worker does with a run from claiming it until it gives it back.
//!
//! The only place that sees both sides: it asks the executor what comes next, runs the nodes, and has
//! the store commit what they left.

mod at_work;
mod attempt;
mod begin;
mod commit;
mod fit;
mod handle;
mod parked;
mod place;
mod suspect;
mod update;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::admission::Admission;
use crate::check::Misfit;
use crate::code::Form;
use crate::context::Scene;
use crate::engine::Engine;
use crate::error::{NodeError, NodeErrorKind};
use crate::failpoint;
use crate::family;
use crate::fingerprint;
use crate::gates::Gates;
use crate::graph::Graph;
use crate::lease::{Claim, First, Lease, StepRow, Verdict};
use crate::loader::Loader;
use crate::metrics;
use crate::next::Next;
use crate::observed::{Happening, Observed};
use crate::outline::Outline;
use crate::pieces::Pieces;
use crate::places::Places;
use crate::resources::Resources;
use crate::run_id::RunId;
use crate::state::State;
use crate::store::load::{Halt, Stored};
use crate::store::{self, Backoff};
use crate::stream::{Replay, Replaying};
use crate::trace::{self, TraceContext};
use crate::vault::{Home, Vault};
use crate::wait::NewWait;

use at_work::AtWork;
use attempt::Ended;
use commit::Committed;
pub(crate) use fit::misfits;
pub(crate) use place::checkpoint_of;
use place::{Failures, Place};

/// Most tasks of one step that are at work at once.
const PARALLEL_MAX: usize = 64;
/// How long the nodes of a cancelled run may take to notice.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// How long an attempt that waits beside other work may keep that to itself.
const ASK_LATEST: Duration = Duration::from_millis(100);

/// Commits steps for all turns of a worker, several in one statement when they come together.
#[async_trait]
pub trait Commit: Send + Sync + fmt::Debug {
    /// Commits a step; asks again while the database is away.
    ///
    /// # Errors
    /// The database's, when it refuses the step itself.
    ///
    /// # Cancel safety
    /// Dropped half-way, the step may or may not be committed.
    async fn commit(&self, row: StepRow) -> Result<Verdict, sqlx::Error>;
}

/// What a worker lends to the turns of its runs.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Where the engine's tables are.
    pub pool: PgPool,
    /// How many of its connections nodes may hold.
    pub places: Places,
    /// What is paused or limited by name.
    pub gates: Gates,
    /// How payloads are kept.
    pub vault: Vault,
    /// Reads where runs stand.
    pub load: Loader,
    /// Commits steps.
    pub commit: Arc<dyn Commit>,
    /// Keeps what nodes say for those who watch.
    pub pieces: Pieces,
    /// What nodes can ask for by type.
    pub resources: Arc<Resources>,
    /// Who is told what happens.
    pub observer: Option<broadcast::Sender<Observed>>,
    /// Cancelled when the worker has lost its leases: all turns are dropped.
    pub lost: CancellationToken,
    /// Cancelled when the worker is to stop: turns end after their step.
    pub stop: CancellationToken,
    /// How long a turn may go on while other runs wait for a place.
    pub slice: Duration,
    /// Whether runs wait for a place.
    pub is_crowded: Arc<AtomicBool>,
}

/// How a turn is told of what happens to its run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Cancelled when somebody cancels the run.
    pub cancelled: CancellationToken,
    /// Notified when an answer or a message has come for it.
    pub called: Arc<Notify>,
    /// Cancelled when the run is to stop at its next step boundary.
    pub halted: CancellationToken,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnEnd {
    /// The run has come to its end.
    Finished,
    /// The run needs attention.
    Paused,
    /// The run waits for a time.
    Asleep,
    /// The run waits for an answer or a message.
    Waiting,
    /// The run was given back, for any worker to go on with.
    Yielded,
    /// The run was cancelled.
    Cancelled,
    /// The run needs code that this worker lacks, and was left to one that has it.
    Left,
    /// The lease is gone; somebody else has the run, or it has ended.
    Lost,
}

impl TurnEnd {
    /// In one word, as in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Paused => "paused",
            Self::Asleep => "asleep",
            Self::Waiting => "waiting",
            Self::Yielded => "yielded",
            Self::Cancelled => "cancelled",
            Self::Left => "left",
            Self::Lost => "lost",
        }
    }
}

/// A graph whose state type is forgotten: what a worker has a list of.
#[async_trait]
pub trait Serve: fmt::Debug + Send + Sync + 'static {
    /// Name and version of the graph, such as `report@1`.
    fn code(&self) -> &str;

    /// What the queue calls the runs that it goes on with, its own first: of other versions of the state,
    /// and of the graph where it [continues](crate::GraphBuilder::continues) them.
    fn codes(&self) -> Vec<String> {
        vec![self.code().to_owned()]
    }

    /// Whether it goes on with runs that the queue calls so: also those that were left to a worker which
    /// has what another one lacked.
    fn has(&self, code: &str) -> bool {
        self.codes().iter().any(|own| own == code)
    }

    /// What the queue would call runs of it whose state is too old for it to read.
    fn outdated(&self) -> Vec<String> {
        Vec::new()
    }

    /// What keeps it from going on with a run, as a worker would find it; nothing when it can, or there is no
    /// such run.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    async fn misfits(&self, _engine: &Engine, _run: RunId) -> Result<Vec<Misfit>, sqlx::Error> {
        Ok(Vec::new())
    }

    /// Its shape, for later ones to be compared with.
    fn form(&self) -> Option<Form> {
        None
    }

    /// The graphs whose runs its nodes start: who serves this one serves them too.
    fn children(&self) -> Vec<Arc<dyn Serve>> {
        Vec::new()
    }

    /// The graph as data, for who does not have its code.
    fn outline(&self) -> Option<Outline> {
        None
    }

    /// What follows the states of its runs for those who [stream](crate::Engine::stream) them; `None`
    /// when they cannot be told.
    fn replay(&self) -> Option<Box<dyn Replay>> {
        None
    }

    /// Takes a turn with a run of this graph.
    ///
    /// # Cancel safety
    /// Dropped half-way, the lease stays with the worker until that is given up.
    async fn turn(&self, claim: Claim, reach: Reach, setting: &Setting) -> TurnEnd;
}

#[async_trait]
impl<S: State> Serve for Graph<S> {
    fn code(&self) -> &str {
        Self::code(self)
    }

    fn codes(&self) -> Vec<String> {
        Self::codes(self)
    }

    fn has(&self, code: &str) -> bool {
        Self::has(self, code)
    }

    fn outdated(&self) -> Vec<String> {
        Self::outdated(self)
    }

    async fn misfits(&self, engine: &Engine, run: RunId) -> Result<Vec<Misfit>, sqlx::Error> {
        let mut conn = engine.pool().acquire().await?;
        misfits(self, engine.vault(), &mut conn, run).await
    }

    fn form(&self) -> Option<Form> {
        Some(Form::of(self.shape(), self.fingerprint()))
    }

    fn children(&self) -> Vec<Arc<dyn Serve>> {
        self.child_graphs().to_vec()
    }

    fn outline(&self) -> Option<Outline> {
        Some(self.shape().outline())
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        Some(Box::new(Replaying::<S>::default()))
    }

    async fn turn(&self, mut claim: Claim, reach: Reach, setting: &Setting) -> TurnEnd {
        let first = claim.first.take();
        let turn = Turn {
            graph: self,
            lease: claim.lease,
            queue: claim.queue.clone(),
            setting,
            lost: setting.lost.child_token(),
            reach,
            asked: Arc::default(),
            has_family: Arc::default(),
            trace: OnceLock::new(),
            began: Instant::now(),
        };
        // Types of the user are read and written outside of nodes too: a run that has a panic in one must
        // not stay leased with nobody at work on it.
        let whole = async {
            match AssertUnwindSafe(turn.whole(&claim, first))
                .catch_unwind()
                .await
            {
                Ok(end) => end,
                Err(panic) => turn.pause(&of_panic(&*panic)).await,
            }
        };
        tokio::select! {
            biased;
            () = turn.lost.cancelled() => TurnEnd::Lost,
            end = whole => end,
        }
    }
}

struct Turn<'a, S: State> {
    graph: &'a Graph<S>,
    lease: Lease,
    queue: Option<String>,
    setting: &'a Setting,
    /// Of this turn alone: cancelled also when a write was refused.
    lost: CancellationToken,
    reach: Reach,
    /// Notified when an attempt begins to wait.
    asked: Arc<Notify>,
    /// Whether the run has a parent or children, who are to be told of its end.
    has_family: Arc<AtomicBool>,
    /// The trace that the run belongs to, once it was read.
    trace: OnceLock<TraceContext>,
    began: Instant,
}

/// What is written about a run beside its steps. Each may be written a second time, when the first
/// answer was lost.
enum Note<'a> {
    Failure(store::failure::NewFailure<'a>),
    Sleep(Duration),
    Waits {
        seq: i32,
        task: i32,
        node: &'a str,
        waits: &'a [NewWait],
        /// Names of those that had come when the attempt began.
        come: &'a [String],
    },
    Park {
        seq: i32,
        again_in: Option<Duration>,
    },
    /// Why, as stored, and what of it anybody may know.
    Pause(&'a serde_json::Value, &'a serde_json::Value),
    /// The node that begins, of a run whose workers have died; `None` before the first one.
    Suspect(Option<&'a str>),
    /// With the run's own error: somebody has asked for it.
    Halt,
    Adopt,
    Lack {
        code: &'a str,
        lacks: &'a str,
    },
    EndCancelled,
    /// The first step of a run that begins from its thread's state.
    Begin(&'a [u8]),
}

/// What follows a step.
enum Flow {
    /// The next one.
    On,
    /// An answer was lost: see in the database where the run stands.
    Reload,
    End(TurnEnd),
}

impl<S: State> Turn<'_, S> {
    async fn whole(&self, claim: &Claim, mut first: Option<First>) -> TurnEnd {
        if claim.is_cancelled {
            return self.end_cancelled().await;
        }
        let stored = loop {
            let loaded = match first.take() {
                Some(first) => self.opened(first.into()).map(Some),
                None => self.load().await,
            };
            match loaded {
                Ok(Some(stored)) => break stored,
                Ok(None) => match self.begin_from_thread(claim).await {
                    Ok(true) => (),
                    Ok(false) => return TurnEnd::Lost,
                    Err(end) => return end,
                },
                Err(error) => return self.pause(&described(&error, None)).await,
            }
        };
        // Before it is looked at whether this code can go on with it.
        if let Some(halt) = stored.halt {
            return self.halt(halt).await;
        }
        let mut place = match self.take_up(claim, stored).await {
            Ok(place) => place,
            Err(end) => return end,
        };
        let span = tracing::info_span!(
            trace::TURN,
            { trace::RUN_ID } = %self.lease.run,
            { trace::GRAPH } = self.graph.code(),
            { trace::FENCE } = self.lease.fence,
        );
        trace::link(&span, self.trace.get());
        self.go_on(&mut place).instrument(span).await
    }

    async fn go_on(&self, place: &mut Place<S>) -> TurnEnd {
        loop {
            if let Some(halt) = place.halt {
                return self.halt(halt).await;
            }
            let flow = if place.updates.is_empty() {
                self.step(place).await
            } else {
                self.answer_updates(place).await
            };
            match flow {
                // What has come may be an update, which is answered between two steps.
                Flow::On if self.reach.called.notified().now_or_never().is_none() => (),
                Flow::End(end) => return end,
                Flow::On | Flow::Reload => match self.reload(place).await {
                    Ok(Some(again)) => *place = again,
                    Ok(None) => return TurnEnd::Lost,
                    Err(error) => return self.pause(&described(&error, None)).await,
                },
            }
        }
    }

    /// Reads where the run stands after an answer was lost; `None` when the lease is gone, perhaps by
    /// what was asked for: the run may have ended, or been given back.
    async fn reload(&self, before: &Place<S>) -> Result<Option<Place<S>>, NodeError> {
        let mut backoff = Backoff::default();
        loop {
            match store::lease::is_held(&self.setting.pool, self.lease).await {
                Ok(true) => break,
                Ok(false) => return Ok(None),
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => return Err(NodeError::of(NodeErrorKind::Refused, &error)),
            }
        }
        let stored = self.load().await?;
        let again = stored.map(|stored| Place::restore(self.graph.shape(), stored));
        let mut again = again
            .transpose()
            .map_err(|error| NodeError::of(NodeErrorKind::Refused, &error))?;
        if let Some(again) = &mut again
            && again.seq == before.seq
        {
            again.losses = before.losses;
        }
        Ok(again)
    }

    /// Reads where the run stands, however long the database is away while the lease may hold.
    async fn load(&self) -> Result<Option<Stored>, NodeError> {
        let mut backoff = Backoff::default();
        loop {
            match self.setting.load.stored(self.lease.run).await {
                Ok(None) => return Ok(None),
                // Noted first, then read again: what comes after the note is noticed before the run is
                // given back.
                Ok(Some(stored)) if stored.is_poked => {
                    match store::lease::heard(&self.setting.pool, self.lease).await {
                        Ok(()) => (),
                        Err(_) => backoff.wait().await,
                    }
                }
                Ok(Some(stored)) => return self.opened(stored).map(Some),
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => return Err(NodeError::of(NodeErrorKind::Refused, &error)),
            }
        }
    }

    /// What is stored, made readable; and with it what the turn knows of its run.
    fn opened(&self, mut stored: Stored) -> Result<Stored, NodeError> {
        let opened = self.setting.vault.open_stored(self.lease.run, &mut stored);
        opened.map_err(|error| error.of_node())?;
        if let Some(trace) = stored.trace.as_deref().and_then(|text| text.parse().ok()) {
            // It is the same each time.
            let _ = self.trace.set(trace);
        }
        if stored.has_family {
            self.has_family.store(true, Ordering::Relaxed);
        }
        Ok(stored)
    }

    /// Runs what is left of the step, and commits it when all of it is there.
    async fn step(&self, place: &mut Place<S>) -> Flow {
        if let Err(error) = place.checkpoint.may_step(self.graph.shape()) {
            let node = place
                .checkpoint
                .tasks
                .first()
                .map(|task| task.node.as_str());
            let error = NodeError::of(NodeErrorKind::Refused, &error);
            return Flow::End(self.pause(&described(&error, node)).await);
        }
        if place.is_complete() {
            return self.commit_stored(place).await;
        }
        if let Some(stop) = place.stop(self.graph.shape()) {
            // Names of nodes are in the clear anyway.
            let why = stop.described();
            self.write(&Note::Pause(&why, &fingerprint::failed_as(&why)))
                .await;
            tracing::info!(run.id = %self.lease.run, %stop, "run paused as asked");
            return Flow::End(TurnEnd::Paused);
        }
        let alone = self.stand_alone(place).await;
        let parallel_max = if alone.is_some() { 1 } else { PARALLEL_MAX };
        let due = place.due(Instant::now());
        let mut waiting = Admission::new(self.graph.shape(), &place.checkpoint.tasks, due);
        let mut running = AtWork::new();
        let mut scenes: Vec<Arc<Scene>> = Vec::new();
        let mut ask_at = None;
        loop {
            while running.len() < parallel_max
                && self.failed_fast(place).is_none()
                && let Some(index) = waiting.admit()
            {
                if alone.is_some() {
                    self.note_suspect(place, index).await;
                }
                match self.begin(place, index, &mut running) {
                    Ok(scene) => scenes.push(scene),
                    Err(error) => {
                        waiting.leave(index);
                        let node = place.checkpoint.tasks[index].node.clone();
                        self.fail(place, index, &node, error).await;
                    }
                }
            }
            if let Some((index, failures)) = self.failed_fast(place) {
                running.shutdown().await;
                scenes.iter().for_each(|scene| scene.undo());
                return Flow::End(self.pause_at(place, index, &failures).await);
            }
            let joined = tokio::select! {
                biased;
                () = self.reach.cancelled.cancelled() => {
                    let drained = async {
                        while let Some(joined) = running.next().await {
                            if let Ok(ended) = joined {
                                ended.scene.undo();
                            }
                        }
                    };
                    let _ = tokio::time::timeout(CANCEL_GRACE, drained).await;
                    running.shutdown().await;
                    return Flow::End(self.end_cancelled().await);
                }
                joined = running.next() => joined,
                () = self.asked.notified() => {
                    ask_at = Some(Instant::now() + ASK_LATEST);
                    continue;
                }
                () = tokio::time::sleep_until(ask_at.unwrap_or_else(Instant::now)), if ask_at.is_some() => {
                    ask_at = None;
                    for scene in scenes.iter().filter(|scene| scene.is_waiting()) {
                        self.note_waits(place, scene, &scene.waits()).await;
                    }
                    continue;
                }
                // Tasks that are held up have nothing at work: they ask again, and the others go on.
                () = self.reach.called.notified(), if !place.held_up.is_empty() => {
                    while let Some(index) = place.let_on() {
                        waiting.wait(index);
                    }
                    continue;
                }
                // An attempt that waits beside other work sees the answer when it begins again.
                () = self.reach.called.notified(), if scenes.iter().any(|scene| scene.is_waiting()) => {
                    running.shutdown().await;
                    return Flow::Reload;
                }
            };
            let Some(joined) = joined else { break };
            // What has finished meanwhile goes together into one statement.
            let mut plain = Vec::new();
            for joined in std::iter::once(joined).chain(std::iter::from_fn(|| running.ended())) {
                let ended = match joined {
                    Ok(ended) => ended,
                    // Panics of nodes are caught inside, and nothing here aborts a task: this is one of
                    // dropping what a node had.
                    Err(error) => {
                        let panic = error.into_panic();
                        return Flow::End(self.pause(&of_panic(&*panic)).await);
                    }
                };
                waiting.leave(ended.index);
                self.count(&ended);
                scenes.retain(|other| !Arc::ptr_eq(other, &ended.scene));
                // What it gives back may be what a task of the same step waits for.
                if ended.scene.may_have_permits()
                    && let Some(index) = place.let_on()
                {
                    waiting.wait(index);
                }
                match ended {
                    Ended {
                        index,
                        result: Some(Ok(outcome)),
                        scene,
                        ..
                    } if scene.is_plain() => {
                        plain.push((index, outcome, scene));
                    }
                    ended => match self.take_in(place, ended, &mut waiting).await {
                        Some(flow) => return flow,
                        None => continue,
                    },
                }
            }
            if let Some(flow) = self.take_in_plain(place, plain, &mut waiting).await {
                return flow;
            }
        }
        self.hand_over(place).await;
        if place.is_complete() {
            return self.commit_stored(place).await;
        }
        Flow::End(self.park(place).await)
    }

    /// Takes in attempts that left nothing but their outcomes; what follows, if that was the last of the
    /// step.
    async fn take_in_plain(
        &self,
        place: &mut Place<S>,
        mut plain: Vec<(usize, Next<S>, Arc<Scene>)>,
        waiting: &mut Admission,
    ) -> Option<Flow> {
        // The last one's outcome goes with the step itself.
        let last = (plain.len() == place.missing())
            .then(|| plain.pop())
            .flatten();
        if !plain.is_empty() {
            let mut finished = Vec::new();
            let mut shown = Vec::new();
            for (index, outcome, scene) in plain {
                scene.undo();
                shown.push((index, scene));
                finished.push((index, outcome));
            }
            let refused = self.commit_outcomes(place, finished).await;
            for (index, scene) in shown {
                match refused.iter().find(|(refused, _)| *refused == index) {
                    Some((_, error)) => self.fail(place, index, &scene.node, error.clone()).await,
                    None => scene.observe(Happening::Finished),
                }
            }
        }
        let (index, outcome, scene) = last?;
        let ended = Ended {
            index,
            result: Some(Ok(outcome)),
            scene,
            took: Duration::ZERO,
        };
        self.take_in(place, ended, waiting).await
    }

    /// Takes in one attempt that came to its end; what follows, if that was the last of the step.
    async fn take_in(
        &self,
        place: &mut Place<S>,
        ended: Ended<S>,
        waiting: &mut Admission,
    ) -> Option<Flow> {
        let Ended {
            index,
            result,
            scene,
            took: _,
        } = ended;
        let outcome = match result {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => {
                scene.undo();
                self.fail(place, index, &scene.node, error).await;
                return None;
            }
            None => {
                scene.undo();
                self.wait(place, &scene).await;
                return None;
            }
        };
        let committed = if place.lacks_only(index) {
            self.commit_step(place, index, outcome, &scene).await
        } else {
            self.commit_outcome(place, index, outcome, &scene).await
        };
        match committed {
            Committed::Outcome => scene.observe(Happening::Finished),
            Committed::Step(flow) => return Some(flow),
            Committed::Again if place.forgives() => {
                scene.undo();
                place.memos.insert(task_number(index), scene.kept());
                waiting.wait(index);
            }
            Committed::Unknown if place.forgives() => return Some(Flow::Reload),
            Committed::Again => {
                scene.undo();
                self.fail(place, index, &scene.node, too_many_losses())
                    .await;
            }
            Committed::Unknown => {
                self.fail(place, index, &scene.node, too_many_losses())
                    .await;
                return Some(Flow::Reload);
            }
            Committed::Failed(error) => {
                scene.undo();
                self.fail(place, index, &scene.node, error).await;
            }
        }
        None
    }

    fn count(&self, ended: &Ended<S>) {
        let outcome = match ended.result {
            Some(Ok(_)) => "finished",
            Some(Err(_)) => "failed",
            None => "parked",
        };
        metrics::attempt(self.graph.code(), &ended.scene.node, outcome, ended.took);
    }

    /// Records a failed attempt, and when the next one may begin.
    async fn fail(&self, place: &mut Place<S>, index: usize, node: &str, error: NodeError) {
        let mut error = error.storable();
        let task = task_number(index);
        let age = place.age();
        let failures = place.failures.entry(task).or_default();
        let policy = self.graph.retry(node, &error);
        let delay = policy.delay(failures.counted + 1, &error);
        let limit = self.graph.handling().limit(node);
        let again_in = delay
            .map(|delay| delay.min(store::failure::LONGEST))
            .filter(|delay| !limit.is_over_by(age.saturating_add(*delay)));
        if delay.is_some() && again_in.is_none() {
            let left = "the next attempt would begin after the node's schedule_to_close limit";
            error.causes.push(left.to_owned());
        }
        tracing::warn!(
            run.id = %self.lease.run, node.name = node, task.attempt = failures.counted + 1, %error,
            retry_ms = again_in.map(|wait| wait.as_millis()), "node failed"
        );
        if again_in.is_some() {
            metrics::retry(self.graph.code(), node);
        }
        *failures = Failures {
            number: failures.number + 1,
            counted: failures.counted + 1,
            due: again_in.map(|wait| Instant::now() + wait),
            error: Some(error.clone()),
        };
        let stored = self.sealed_error("failure", described(&error, None));
        let failure = store::failure::NewFailure {
            seq: place.seq + 1,
            task,
            number: failures.number,
            error: &stored,
            again_in,
        };
        self.write(&Note::Failure(failure)).await;
        self.observe(node, task, Happening::Failed { error, again_in });
    }

    /// Notes what an attempt waits for. It is dropped: when that has come, the node runs again.
    async fn wait(&self, place: &mut Place<S>, scene: &Scene) {
        let is_held_up = scene.is_held_up();
        self.note_waits(place, scene, &scene.take_waits()).await;
        if is_held_up {
            place.hold_up(scene.task, scene.kept());
        } else {
            place.parked(scene.task);
        }
    }

    async fn note_waits(&self, place: &Place<S>, scene: &Scene, waits: &[NewWait]) {
        let note = Note::Waits {
            seq: place.seq + 1,
            task: scene.task,
            node: &scene.node,
            waits,
            come: &scene.come(),
        };
        self.write(&note).await;
    }

    /// Gives the run back until its next attempt is due, something has come for it, or somebody resumes
    /// it.
    async fn park(&self, place: &Place<S>) -> TurnEnd {
        let rest = place.rest();
        if let Some((index, failures)) = rest.exhausted {
            return self.pause_at(place, index, &failures).await;
        }
        let again_in = rest
            .again_at
            .map(|due| due.saturating_duration_since(Instant::now()));
        match again_in {
            Some(wait) if !rest.is_waiting => {
                self.write(&Note::Sleep(wait)).await;
                TurnEnd::Asleep
            }
            _ => {
                let seq = place.seq + 1;
                self.write(&Note::Park { seq, again_in }).await;
                TurnEnd::Waiting
            }
        }
    }

    /// The task that fails fast and has no further attempt, if there is one.
    fn failed_fast(&self, place: &Place<S>) -> Option<(usize, Failures)> {
        place
            .exhausted()
            .find(|(index, failures)| {
                let node = &place.checkpoint.tasks[*index].node;
                self.graph.handling().fails_fast(node) && self.handler(node, failures).is_none()
            })
            .map(|(index, failures)| (index, failures.clone()))
    }

    /// Pauses the run because one of its tasks has no further attempt.
    async fn pause_at(&self, place: &Place<S>, index: usize, failures: &Failures) -> TurnEnd {
        let unknown = NodeError::permanent("the step has nothing to do and cannot be taken");
        let error = failures.error.as_ref().unwrap_or(&unknown);
        let task = place.checkpoint.tasks.get(index);
        let mut why = described(error, task.map(|task| task.node.as_str()));
        why["attempt"] = json!(failures.counted);
        why["task"] = json!(index);
        self.pause(&why).await
    }

    /// Pauses the run because its step cannot be taken: the code must be mended.
    async fn refuse(
        &self,
        place: &mut Place<S>,
        index: usize,
        node: &str,
        mut error: NodeError,
    ) -> TurnEnd {
        error.kind = NodeErrorKind::Refused;
        let mut why = described(&error, Some(node));
        why["task"] = json!(index);
        self.fail(place, index, node, error).await;
        self.pause(&why).await
    }

    async fn pause(&self, why: &serde_json::Value) -> TurnEnd {
        // What cannot be read is told to those who cannot read it either.
        let is_open = why["kind"] == "unreadable";
        let stored = match is_open {
            true => why.clone(),
            false => self.sealed_error("error", why.clone()),
        };
        self.write(&Note::Pause(&stored, &fingerprint::failed_as(why)))
            .await;
        metrics::paused(self.graph.code());
        tracing::warn!(run.id = %self.lease.run, reason = %why, "run paused");
        TurnEnd::Paused
    }

    /// Stops at a step boundary, as somebody has asked.
    async fn halt(&self, halt: Halt) -> TurnEnd {
        match halt {
            Halt::Pause => {
                self.write(&Note::Halt).await;
                TurnEnd::Paused
            }
            Halt::End => self.end_cancelled().await,
        }
    }

    /// An error as stored. One that cannot be sealed is not stored at all: the run is to be paused all the same.
    fn sealed_error(&self, what: &'static str, error: serde_json::Value) -> serde_json::Value {
        let home = Home::of_run(self.lease.run, what);
        self.setting
            .vault
            .seal_json(home, error)
            .unwrap_or_else(|error| described(&error.of_node(), None))
    }

    async fn end_cancelled(&self) -> TurnEnd {
        self.write(&Note::EndCancelled).await;
        self.tell_family().await;
        TurnEnd::Cancelled
    }

    /// Tells parent and children that the run has ended. What is lost here is made up for by the next
    /// look of any worker.
    async fn tell_family(&self) {
        if let Err(error) = family::tell(&self.setting.pool, self.lease.run).await {
            tracing::warn!(run.id = %self.lease.run, %error, "could not tell of the run's end yet");
        }
    }

    /// Writes under the lease, again while the database is away. Does not return when the lease is
    /// lost.
    async fn write(&self, note: &Note<'_>) {
        let mut backoff = Backoff::default();
        loop {
            match self.try_write(note).await {
                Ok(true) => return,
                Ok(false) => {
                    self.lost.cancel();
                    return std::future::pending().await;
                }
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %self.lease.run, %error, "could not write yet");
                }
                Err(error) => {
                    tracing::error!(run.id = %self.lease.run, %error, "the database refuses to give the run back");
                }
            }
            metrics::write_again(self.graph.code());
            backoff.wait().await;
        }
    }

    async fn try_write(&self, note: &Note<'_>) -> Result<bool, sqlx::Error> {
        failpoint::hit("note.before");
        let mut transaction = store::begin(&self.setting.pool).await?;
        let conn = &mut *transaction;
        if !store::lease::hold(conn, self.lease).await? {
            return Ok(false);
        }
        match note {
            Note::Failure(failure) => store::failure::record(conn, self.lease, failure).await?,
            Note::Sleep(wait) => drop(store::lease::sleep(conn, self.lease, *wait).await?),
            Note::Waits {
                seq,
                task,
                node,
                waits,
                come,
            } => store::wait::add(conn, self.lease, *seq, *task, node, waits, come).await?,
            Note::Park { seq, again_in } => {
                store::wait::park(conn, self.lease, *seq, *again_in).await?;
            }
            Note::Halt => drop(store::lease::pause(conn, self.lease, None).await?),
            Note::Begin(state) => store::thread::begin(conn, self.lease, state).await?,
            Note::Pause(why, failed_as) => {
                store::lease::pause(&mut *conn, self.lease, Some(why)).await?;
                store::failure_group::note(conn, self.lease.run, failed_as).await?;
            }
            Note::Adopt => {
                store::code::pin(conn, self.lease.run, self.graph.pinned()).await?;
            }
            Note::Lack { code, lacks } => {
                store::code::lack(conn, self.lease, code, lacks).await?;
            }
            Note::Suspect(node) => store::lease::suspect(conn, self.lease, *node).await?,
            Note::EndCancelled => drop(store::lease::finish_cancelled(conn, self.lease).await?),
        }
        failpoint::hit("note.inside");
        transaction.commit().await?;
        failpoint::hit("note.after");
        Ok(true)
    }

    fn observe(&self, node: &str, task: i32, what: Happening) {
        if let Some(observer) = &self.setting.observer {
            // Nobody listening is no failure.
            let _ = observer.send(Observed {
                run: self.lease.run,
                node: node.to_owned(),
                task,
                what,
            });
        }
    }

    /// Whether other runs are to have this one's place.
    fn is_over(&self) -> bool {
        self.setting.stop.is_cancelled()
            || self.reach.halted.is_cancelled()
            || self
                .setting
                .gates
                .stops(self.graph.code(), self.queue.as_deref())
            || (self.setting.is_crowded.load(Ordering::Relaxed)
                && self.began.elapsed() >= self.setting.slice)
    }
}

/// A task's place in its step, as stored.
fn task_number(index: usize) -> i32 {
    i32::try_from(index).expect("a step has fewer tasks than that: its row would not fit")
}

fn of_panic(panic: &(dyn std::any::Any + Send)) -> serde_json::Value {
    let who = "the code of the state, of a payload or of what a node dropped";
    described(&NodeError::panic(who, panic), None)
}

fn too_many_losses() -> NodeError {
    NodeError::transient("the connection broke each time the result was to be committed")
}

/// Why a run is paused, as stored.
fn described(error: &NodeError, node: Option<&str>) -> serde_json::Value {
    let mut why = serde_json::to_value(error).expect("texts and numbers are always JSON");
    if let Some(node) = node {
        why["node"] = json!(node);
    }
    why
}
