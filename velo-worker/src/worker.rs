//! A worker: claims runs, takes turns with them, stops in order.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use velo_engine::code::{self, Form};
use velo_engine::lease::{Claim, GIVEN_UP, Incarnation, balance, tend_gates};
use velo_engine::{
    Engine, Gates, Loader, Observed, Pieces, Resources, RunId, Serve, Setting, TurnEnd,
    is_transient,
};

use crate::caretaker::{self, Changes};
use crate::claimer::Claimer;
use crate::codes::{self, Codes};
use crate::committer::Committer;
use crate::live::Live;
use crate::{heartbeat, host, metrics};

/// How long a worker's leases outlive its last heartbeat.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(12);
/// Most runs that are claimed at once.
const CLAIM_MAX: usize = 256;
/// Longest time between two looks into the queue.
const POLL: Duration = Duration::from_secs(2);
/// Between two words about what a stopping worker waits for.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Most runs that are named there.
const SAID_MAX: usize = 10;
/// Between two tries to begin again while the database is away.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// Makes a worker; see [`Worker::builder`].
pub struct WorkerBuilder {
    engine: Engine,
    name: String,
    graphs: Vec<Arc<dyn Serve>>,
    resources: Resources,
    concurrency: usize,
    lease: Duration,
    slice: Duration,
    grace: Duration,
    only: Option<RunId>,
    observer: Option<broadcast::Sender<Observed>>,
}

/// A worker of this process.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Begins a worker on `engine`.
    #[must_use]
    pub fn builder(engine: Engine) -> WorkerBuilder {
        WorkerBuilder {
            engine,
            name: format!("process {}", std::process::id()),
            graphs: Vec::new(),
            resources: Resources::default(),
            concurrency: 64,
            lease: DEFAULT_LEASE,
            slice: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            only: None,
            observer: None,
        }
    }
}

/// How a worker stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Runs whose nodes did not end in time. Their steps will be taken again, by other workers.
    pub cut_off: Vec<RunId>,
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The database refused.
    #[error("could not register the worker: is the database reachable and migrated?")]
    Register(#[source] sqlx::Error),
    /// The thread of the heartbeat could not be started.
    #[error("could not start the heartbeat")]
    Heartbeat(#[source] std::io::Error),
    /// Live runs have their state in a version that the code does not read any more.
    #[error(
        "{runs} live runs are of {code}, whose state this code does not read any more: keep the upcasts until they have ended"
    )]
    Outdated {
        /// The graph, and after it the version of the state, from the second on.
        code: String,
        /// How many there are.
        runs: i64,
    },
    /// The database could not say whether there are such runs.
    #[error("could not look for runs of older code")]
    Look(#[source] sqlx::Error),
    /// There is nothing to run.
    #[error("the worker has no graph: give it one with .serve(graph)")]
    NoGraph,
}

impl WorkerBuilder {
    /// Has the worker run this graph, in this version. Call it once for each graph, and for each
    /// version that still has runs. Graphs whose runs its nodes start come with it, where
    /// [`GraphBuilder::child`](velo_engine::GraphBuilder::child) names them; of two that have the same name
    /// and version, the first counts.
    #[must_use]
    pub fn serve(mut self, graph: impl Serve) -> Self {
        self.add(Arc::new(graph));
        self
    }

    fn add(&mut self, graph: Arc<dyn Serve>) {
        if self.graphs.iter().any(|other| other.code() == graph.code()) {
            return;
        }
        let children = graph.children();
        self.graphs.push(graph);
        for child in children {
            self.add(child);
        }
    }

    /// What operators see as the worker's name; otherwise the number of the process.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Gives nodes a value that they find with [`Context::resource`](velo_engine::Context::resource).
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.resources.insert(value);
        self
    }

    /// Runs at most this many runs at once, and at least one; 64 unless told otherwise.
    ///
    /// Each node that has called [`Context::tx`](velo_engine::Context::tx) holds a connection of the
    /// engine's pool until it returns, and the worker itself needs a few beside: give the pool more
    /// connections than nodes can hold. A run may have up to 64 tasks of a fan-out at work at once.
    #[must_use]
    pub fn concurrency(mut self, runs: usize) -> Self {
        self.concurrency = runs.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Lets leases outlive the last heartbeat by this long, instead of [`DEFAULT_LEASE`]; at least
    /// 200 ms. Short leases find dead workers sooner, and lose live ones to shorter hiccups.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(200));
        self
    }

    /// Lets nodes finish for this long when the worker is to stop; 30 seconds unless told otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Has the worker run this one run, and leave all others to others.
    #[must_use]
    pub fn only(mut self, run: RunId) -> Self {
        self.only = Some(run);
        self
    }

    /// Tells `observer` what happens in this process.
    ///
    /// ```no_run
    /// # use velo_engine::{Engine, Serve};
    /// # use velo_worker::Worker;
    /// # async fn example(engine: Engine, graph: impl Serve) {
    /// use tokio::sync::broadcast::{self, error::RecvError};
    ///
    /// let (observer, mut seen) = broadcast::channel(1_024);
    /// let worker = Worker::builder(engine).serve(graph).observe(observer);
    /// let print = async move {
    ///     loop {
    ///         match seen.recv().await {
    ///             Ok(seen) => println!("{} {}: {:?}", seen.run, seen.node, seen.what),
    ///             Err(RecvError::Lagged(missed)) => println!("{missed} were missed"),
    ///             Err(RecvError::Closed) => break,
    ///         }
    ///     }
    /// };
    /// # let _ = (worker, print);
    /// # }
    /// ```
    #[must_use]
    pub fn observe(mut self, observer: broadcast::Sender<Observed>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Runs until `shutdown` resolves, or somebody [drains](Engine::drain_worker) the worker from outside. Then
    /// no more is claimed, runs are given back after the step they are at, and nodes that do not end within the
    /// grace are dropped.
    ///
    /// A worker that loses its leases, since it was frozen or cut off from the database, drops what it
    /// was doing and begins again, however long the database is away.
    ///
    /// `shutdown` is any future that may go to another thread. Beside a server, spawn the worker and
    /// tell both by one token. Wait for the worker too, so that it can give its runs back:
    ///
    /// ```no_run
    /// # use velo_engine::{Engine, Serve};
    /// # use velo_worker::Worker;
    /// # async fn serve_requests(_until: impl Future<Output = ()>) {}
    /// # async fn example(engine: Engine, graph: impl Serve) -> Result<(), Box<dyn std::error::Error>> {
    /// let stop = tokio_util::sync::CancellationToken::new();
    /// let worker = Worker::builder(engine).serve(graph).run(stop.clone().cancelled_owned());
    /// let worker = tokio::spawn(worker);
    /// serve_requests(async { drop(tokio::signal::ctrl_c().await) }).await;
    /// stop.cancel();
    /// let stopped = worker.await??;
    /// println!("{} runs were cut off", stopped.cut_off.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WorkerError`] when it cannot start, or when its pool was closed.
    ///
    /// # Cancel safety
    /// Dropped half-way, the runs it has are handed on when its leases end.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Stopped, WorkerError> {
        if self.graphs.is_empty() {
            return Err(WorkerError::NoGraph);
        }
        let outdated = self.graphs.iter().flat_map(|graph| graph.outdated());
        let outdated: Vec<String> = outdated.collect();
        let live = code::live(self.engine.pool(), &outdated).await;
        if let Some((code, runs)) = live.map_err(WorkerError::Look)?.into_iter().next() {
            return Err(WorkerError::Outdated { code, runs });
        }
        let stop = CancellationToken::new();
        let resources = Arc::new(self.resources);
        // On the heap, since it is large and becomes part of the future of whoever calls this.
        let mut whole = Box::pin(async {
            let mut has_begun = false;
            loop {
                let shift = Shift {
                    engine: &self.engine,
                    name: &self.name,
                    graphs: &self.graphs,
                    resources: &resources,
                    concurrency: self.concurrency,
                    lease: self.lease,
                    slice: self.slice,
                    grace: self.grace,
                    only: self.only,
                    observer: &self.observer,
                    stop: &stop,
                };
                let stopped = match shift.run().await {
                    Ok(stopped) => stopped,
                    Err(WorkerError::Register(error)) if has_begun && is_transient(&error) => {
                        tracing::warn!(%error, "the database is away, trying again");
                        stop.run_until_cancelled(tokio::time::sleep(BEGIN_AGAIN))
                            .await;
                        Stopped::default()
                    }
                    Err(error) => return Err(error),
                };
                has_begun = true;
                if stop.is_cancelled() {
                    return Ok(stopped);
                }
                counter!(metrics::LEASES_LOST).increment(1);
            }
        });
        tokio::pin!(shutdown);
        tokio::select! {
            ended = &mut whole => return ended,
            () = shutdown => stop.cancel(),
        }
        whole.await
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("name", &self.name)
            .field("graphs", &self.graphs)
            .finish_non_exhaustive()
    }
}

/// Whether this worker can claim no more: it was given up, or its pool was closed.
fn is_final(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::PoolClosed)
        || error
            .as_database_error()
            .is_some_and(|error| error.code().as_deref() == Some(GIVEN_UP))
}

/// Says now and then what a worker that stops waits for, until dropped.
async fn say_what_is_left(incarnation: Incarnation, live: &Live) {
    loop {
        let runs = live.runs();
        if !runs.is_empty() {
            let named: Vec<String> = runs.iter().take(SAID_MAX).map(RunId::to_string).collect();
            tracing::info!(
                worker.id = incarnation.id(),
                runs = runs.len(),
                named = named.join(", "),
                "stopping, and waiting for the steps of runs to end"
            );
        }
        tokio::time::sleep(SAY_EVERY).await;
    }
}

/// A worker's life between registering and stopping, or losing its leases.
struct Shift<'a> {
    engine: &'a Engine,
    name: &'a str,
    graphs: &'a [Arc<dyn Serve>],
    resources: &'a Arc<Resources>,
    concurrency: usize,
    lease: Duration,
    slice: Duration,
    grace: Duration,
    only: Option<RunId>,
    observer: &'a Option<broadcast::Sender<Observed>>,
    stop: &'a CancellationToken,
}

impl Shift<'_> {
    async fn run(&self) -> Result<Stopped, WorkerError> {
        let pool = self.engine.pool();
        let host = host::id();
        let pid = std::process::id().cast_signed();
        let incarnation = Incarnation::register(pool, self.name, &host, pid, self.lease)
            .await
            .map_err(WorkerError::Register)?;
        let mut codes = Codes::of(self.graphs, self.lease / 4);
        if let Err(error) = incarnation.advertise(pool, codes.own()).await {
            tracing::warn!(%error, "could not say what the worker has code for");
        }
        for graph in self.graphs {
            if let Err(error) = self.engine.publish(&**graph).await {
                tracing::warn!(graph = graph.code(), %error, "could not tell what the graph is like");
            }
        }
        let (lost, retired) = (CancellationToken::new(), CancellationToken::new());
        // When this future is dropped, turns and heartbeat end too: a heartbeat without anybody behind
        // it would keep the runs from others for ever.
        let _dropped = [lost.clone().drop_guard(), retired.clone().drop_guard()];
        let live = Arc::new(Live::default());
        let changes = Arc::new(Changes::default());
        let heart = heartbeat::start(
            incarnation,
            pool.connect_options(),
            Arc::clone(&live),
            Arc::clone(&changes),
            lost.clone(),
            retired.clone(),
            self.stop.clone(),
        );
        let heart = heart.map_err(WorkerError::Heartbeat)?;
        tracing::info!(
            worker.id = incarnation.id(),
            worker.name = self.name,
            "worker started"
        );
        let forms: Vec<Form> = self
            .graphs
            .iter()
            .filter_map(|graph| graph.form())
            .collect();
        let kept = lost.run_until_cancelled(code::keep(pool, &forms)).await;
        if let Some(Err(error)) = kept {
            tracing::warn!(%error, "could not keep the shapes of the graphs");
        }

        let gates = Gates::default();
        // Before the first run, so that a node which is paused does not begin.
        if let Err(error) = tend_gates(pool, "", &gates).await {
            tracing::warn!(%error, "could not look what is paused or limited");
        }
        let tend = caretaker::tend(
            self.engine.clone(),
            host.clone(),
            codes.own().to_vec(),
            self.lease / 4,
            gates.clone(),
            Arc::clone(&changes),
        );
        let listen = caretaker::listen(pool.clone(), Arc::clone(&changes));
        let do_bulk = caretaker::do_bulk(self.engine.clone(), Arc::clone(&changes));
        let delete_old = caretaker::delete_old(self.engine.clone(), Arc::clone(&changes));
        let _aides = [
            AbortOnDropHandle::new(tokio::spawn(tend)),
            AbortOnDropHandle::new(tokio::spawn(listen)),
            AbortOnDropHandle::new(tokio::spawn(do_bulk)),
            AbortOnDropHandle::new(tokio::spawn(delete_old)),
        ];
        let setting = Setting {
            pool: pool.clone(),
            places: self.engine.places().clone(),
            gates,
            vault: self.engine.vault().clone(),
            load: Loader::start(pool, &lost),
            commit: Arc::new(Committer::start(pool, incarnation.id(), &lost)),
            pieces: Pieces::start(pool, self.engine.vault()),
            resources: Arc::clone(self.resources),
            observer: self.observer.clone(),
            lost: lost.clone(),
            stop: self.stop.clone(),
            slice: self.slice,
            is_crowded: Arc::new(AtomicBool::new(false)),
        };
        let turns = TaskTracker::new();
        self.claim(incarnation, &setting, &mut codes, &changes, &live, &turns)
            .await;

        turns.close();
        let mut stopped = Stopped::default();
        let waited = tokio::time::timeout(self.grace, turns.wait());
        let waited = tokio::select! {
            biased;
            waited = waited => waited,
            () = say_what_is_left(incarnation, &live) => unreachable!("it never ends by itself"),
        };
        if waited.is_err() {
            stopped.cut_off = live.runs();
            tracing::error!(
                worker.id = incarnation.id(),
                runs = stopped.cut_off.len(),
                "nodes did not end in time and are dropped"
            );
        }
        lost.cancel();
        turns.wait().await;
        // No turn needs the lease any more, and a heartbeat after the end would look like a take-over.
        retired.cancel();
        match tokio::time::timeout(self.lease, incarnation.retire(pool)).await {
            Ok(Ok(_)) => (),
            Ok(Err(error)) => {
                tracing::warn!(worker.id = incarnation.id(), %error, "could not give the leases back: they end by themselves");
            }
            Err(_) => tracing::warn!(
                worker.id = incarnation.id(),
                "could not give the leases back in time: they have ended by themselves"
            ),
        }
        if tokio::task::spawn_blocking(move || heart.join())
            .await
            .is_err()
        {
            tracing::warn!("the heartbeat's thread did not end in order");
        }
        tracing::info!(worker.id = incarnation.id(), "worker stopped");
        Ok(stopped)
    }

    /// Claims and begins turns until the worker is to stop or has lost its leases.
    async fn claim(
        &self,
        incarnation: Incarnation,
        setting: &Setting,
        codes: &mut Codes,
        changes: &Arc<Changes>,
        live: &Arc<Live>,
        turns: &TaskTracker,
    ) {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let mut claimer = Claimer::new(incarnation, &setting.pool);
        let mut audit_at = Instant::now() + self.lease;
        loop {
            // Claim no more than can begin at once, so that no lease ages in a queue of our own.
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = setting.lost.cancelled() => return,
                permit = Arc::clone(&slots).acquire_owned() => permit.expect("never closed"),
            };
            let free = (1 + slots.available_permits()).min(CLAIM_MAX);
            let look = codes.look(self.graphs, &setting.pool, incarnation);
            setting.lost.run_until_cancelled(look).await;
            let next = self.next(
                &mut claimer,
                setting,
                live,
                codes.all(),
                free,
                &mut audit_at,
            );
            // What a claim that is dropped has leased goes with all the other leases.
            let Some(found) = setting.lost.run_until_cancelled(next).await else {
                return;
            };
            match found {
                Ok(claims) if !claims.is_empty() => {
                    setting
                        .is_crowded
                        .store(claims.len() == free, Ordering::Relaxed);
                    let more = Arc::clone(&slots).try_acquire_many_owned(
                        u32::try_from(claims.len() - 1).expect("bounded by CLAIM_MAX"),
                    );
                    let mut permits = first;
                    permits.merge(more.expect("only this loop takes permits"));
                    for claim in claims {
                        let permit = permits.split(1).expect("as many as claims");
                        self.begin(claim, permit, setting, changes, live, turns);
                    }
                    continue;
                }
                Ok(_) => setting.is_crowded.store(false, Ordering::Relaxed),
                Err(error) if is_final(&error) => return setting.lost.cancel(),
                Err(error) => {
                    tracing::warn!(worker.id = incarnation.id(), %error, "could not claim runs");
                    claimer.begin_anew();
                }
            }
            drop(first);
            // A hint that came since the last look is kept, so nothing is missed in between.
            tokio::select! {
                () = changes.ready.notified() => (),
                () = tokio::time::sleep(claimer.patience(POLL)) => (),
                () = self.stop.cancelled() => return,
                () = setting.lost.cancelled() => return,
            }
        }
    }

    /// Up to `limit` runs to begin with: those that it has leased without knowing, or newly leased ones.
    async fn next(
        &self,
        claimer: &mut Claimer,
        setting: &Setting,
        live: &Live,
        codes: &[String],
        limit: usize,
        audit_at: &mut Instant,
    ) -> Result<Vec<Claim>, sqlx::Error> {
        let incarnation = claimer.incarnation();
        if *audit_at <= Instant::now() {
            // Known before the question is asked: what ends meanwhile is then still known, and nothing
            // begins meanwhile.
            let known = live.leases();
            let mut unknown = incarnation.held(&setting.pool).await?;
            unknown.retain(|claim| !known.contains(&claim.lease));
            unknown.truncate(limit);
            if !unknown.is_empty() {
                tracing::warn!(
                    worker.id = incarnation.id(),
                    runs = unknown.len(),
                    "found leases that nobody was at work on"
                );
                return Ok(unknown);
            }
            *audit_at = Instant::now() + self.lease;
        }
        let began = Instant::now();
        let claimed = claimer.claim(codes, limit, self.only).await;
        histogram!(metrics::CLAIM_SECONDS).record(began.elapsed());
        if let Ok(claims) = &claimed {
            counter!(metrics::CLAIMED).increment(claims.len() as u64);
        }
        if claimed.is_err() {
            // Perhaps the answer alone was lost.
            *audit_at = Instant::now();
        }
        claimed
    }

    fn begin(
        &self,
        claim: Claim,
        permit: OwnedSemaphorePermit,
        setting: &Setting,
        changes: &Arc<Changes>,
        live: &Arc<Live>,
        turns: &TaskTracker,
    ) {
        let (setting, changes, live) = (setting.clone(), Arc::clone(changes), Arc::clone(live));
        let lease = claim.lease;
        let queue = claim.queue.clone();
        let graph = codes::serving(self.graphs, &claim.code);
        let graph = Arc::clone(graph.expect("only what is served was claimed"));
        let reach = live.begin(lease);
        turns.spawn(async move {
            gauge!(metrics::TURNS_NOW).increment(1.0);
            let end = graph.turn(claim, reach, &setting).await;
            gauge!(metrics::TURNS_NOW).decrement(1.0);
            let code = graph.code().to_owned();
            counter!(metrics::TURNS, "graph" => code, "end" => end.as_str()).increment(1);
            live.end(lease);
            drop(permit);
            tracing::debug!(run.id = %lease.run, end = ?end, "turn ended");
            if let Some(queue) = queue {
                match balance(&setting.pool, &queue).await {
                    Ok(0) => (),
                    Ok(_) => changes.ready.notify_one(),
                    Err(error) => {
                        tracing::debug!(queue.name = queue, %error, "could not let others in yet");
                    }
                }
            }
            match end {
                // A run that waits may wait for a time too.
                TurnEnd::Asleep | TurnEnd::Waiting => changes.timers.notify_one(),
                TurnEnd::Yielded => changes.ready.notify_one(),
                _ => (),
            }
        });
    }
}
