//! Several workers in the process of a test, on a database whose time can be put forward.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use velo_engine::test_kit::{Clock, database_with_clock};
use velo_engine::{Engine, PAGE_MAX, Run, RunId, RunStatus, Why};

use super::gate::Gate;
use crate::{Stopped, Worker, WorkerBuilder, WorkerError};

/// How soon the workers of a fleet take over from one that was cut off. Longer than a busy machine keeps a
/// process from its heartbeat.
const LEASE: Duration = Duration::from_secs(3);
/// Connections of one worker.
const POOL: u32 = 8;
/// Between two looks at what the fleet does.
const LOOK: Duration = Duration::from_millis(5);
/// A fleet that is busy for longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most times that one call waits for on its way; a run that sleeps that often has no end.
const SKIPS_MAX: u32 = 10_000;

/// Workers of a test, in its own process, on a new database of their own.
///
/// No test has to wait for a time: [`settled`](Self::settled) and [`skip`](Self::skip) put the database's
/// clock forward while all runs are idle, through sleeps, retries, schedules and questions that expire. A
/// worker can be [killed](Self::kill), and [cut off](Self::pause) from the database for a while.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # use velo_engine::prelude::*;
/// # use velo_engine::test_kit::Script;
/// # use velo_worker::test_kit::Fleet;
/// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// # struct Order { is_paid: bool }
/// # const CHARGE: NodeKey<Order> = NodeKey::new("charge");
/// # fn graph() -> Graph<Order> { unimplemented!() }
/// // #[tokio::test]
/// async fn an_order_is_charged_when_the_card_reader_is_back() {
///     let offline = || NodeError::transient("the card reader is offline");
///     let script = Script::new().fail(CHARGE, 1, offline()).fail(CHARGE, 2, offline());
///     let graph = script.on(&graph());
///     let served = graph.clone();
///     let mut fleet = Fleet::start(3, move |worker| worker.serve(served.clone())).await;
///
///     let run = fleet.engine().start(&graph, Order::default()).await.unwrap();
///     fleet.kill(0).await;
///     let run = fleet.settled(run).await; // however long the graph waits between two attempts
///     assert_eq!(run.status, RunStatus::Completed);
///     fleet.no_unexplained().await;
///     fleet.stop().await;
/// }
/// ```
pub struct Fleet {
    engine: Engine,
    clock: Clock,
    options: PgConnectOptions,
    prepare: Box<dyn Fn(WorkerBuilder) -> WorkerBuilder + Send + Sync>,
    workers: Vec<Option<Member>>,
}

struct Member {
    name: String,
    gate: Gate,
    stop: CancellationToken,
    task: JoinHandle<Result<Stopped, WorkerError>>,
}

impl Fleet {
    /// Starts that many workers on a new database. `prepare` gives each its graphs and resources.
    ///
    /// # Panics
    /// When there is no database to be had.
    pub async fn start(
        workers: usize,
        prepare: impl Fn(WorkerBuilder) -> WorkerBuilder + Send + Sync + 'static,
    ) -> Self {
        let (pool, clock) = database_with_clock().await;
        let options = (*pool.connect_options()).clone();
        let engine = Engine::migrate_and_connect(pool)
            .await
            .expect("an empty database takes the engine's tables");
        let mut fleet = Self {
            engine,
            clock,
            options,
            prepare: Box::new(prepare),
            workers: Vec::new(),
        };
        for _ in 0..workers {
            fleet.add().await;
        }
        fleet
    }

    /// The engine, on the test's own way to the database.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The database's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Adds a worker like the others, and returns its number.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn add(&mut self) -> usize {
        let number = self.workers.len();
        let gate = Gate::before(&self.options).await;
        let pool = PgPoolOptions::new()
            .max_connections(POOL)
            .connect_with(gate.way(&self.options))
            .await
            .expect("the way to the test's database is open");
        let name = format!("fleet {number}");
        let worker = Worker::builder(Engine::connect(pool))
            .name(&name)
            .lease(LEASE);
        let worker = (self.prepare)(worker);
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
        self.until_registered(&name).await;
        self.workers.push(Some(Member {
            name,
            gate,
            stop,
            task,
        }));
        number
    }

    /// Ends a worker as if its process had been killed: nothing is given back or told to anybody. The
    /// others take over at once: the time of its lease is not waited for.
    ///
    /// # Panics
    /// When there is no such worker any more.
    pub async fn kill(&mut self, worker: usize) {
        let member = self.taken(worker);
        member.task.abort();
        let _ = member.task.await;
        drop(member.gate);
        self.expire(&member.name).await;
    }

    /// Cuts a worker off from the database: what it says is kept back, and so is what it is told. The
    /// others take its runs over when its lease has ended; [`resume`](Self::resume) lets through what it
    /// had said, too late.
    ///
    /// # Panics
    /// When there is no such worker any more.
    pub fn pause(&self, worker: usize) {
        self.member(worker).gate.set_open(false);
    }

    /// As [`pause`](Self::pause), with the lease over at once.
    ///
    /// # Panics
    /// When there is no such worker any more.
    pub async fn pause_past_lease(&self, worker: usize) {
        self.pause(worker);
        self.expire(&self.member(worker).name).await;
    }

    /// Lets a worker that was cut off go on.
    ///
    /// # Panics
    /// When there is no such worker any more.
    pub fn resume(&self, worker: usize) {
        self.member(worker).gate.set_open(true);
    }

    /// Waits until the run has ended, is paused, or waits for an answer or a message; returns how it then
    /// stands. While all runs are idle the time is put forward to when the next one has to do something:
    /// sleeps and retries of days pass at once. A question that expires is not waited out: see
    /// [`skip`](Self::skip).
    ///
    /// # Panics
    /// When the fleet is busy for a minute of real time, or the run sleeps without end.
    pub async fn settled(&self, run: RunId) -> Run {
        let mut stuck_since = None;
        for _ in 0..SKIPS_MAX {
            let next_in = self.idle(Some(run)).await;
            let found = self.run(run).await;
            let why = self.why(run).await;
            let is_outside = match &why {
                Why::Asleep {
                    questions, signals, ..
                }
                | Why::AwaitingChildren {
                    questions, signals, ..
                } => !questions.is_empty() || !signals.is_empty(),
                _ => false,
            };
            if found.status.is_terminal() || found.status == RunStatus::Paused || is_outside {
                return found;
            }
            if matches!(why, Why::Waiting { .. }) {
                return found;
            }
            // A worker that has lost its lease is back in a moment.
            if matches!(why, Why::NoCapableWorker { .. } | Why::LacksCode { .. }) {
                if stuck_since.get_or_insert_with(Instant::now).elapsed() > LEASE {
                    return found;
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            // Something has happened between the two looks.
            if matches!(
                why,
                Why::Running { .. } | Why::InLine { .. } | Why::WorkerSilent { .. }
            ) {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            match next_in {
                Some(time) => self.clock.jump(time).await,
                None if matches!(why, Why::AwaitingChildren { .. }) => return found,
                None => panic!("run {run} can do nothing more: {why}"),
            }
            self.nudge().await;
        }
        panic!("run {run} has slept {SKIPS_MAX} times and goes on sleeping");
    }

    /// Lets this much time pass in the database: whatever is due meanwhile, of runs, schedules and
    /// questions, happens at its time and in its order.
    ///
    /// # Panics
    /// When the fleet is busy for a minute of real time.
    pub async fn skip(&self, time: Duration) {
        let mut left = time;
        for _ in 0..SKIPS_MAX {
            let next_in = self.idle(None).await;
            let step = next_in.filter(|next| *next < left);
            self.clock.jump(step.unwrap_or(left)).await;
            self.nudge().await;
            let Some(step) = step else {
                self.idle(None).await;
                return;
            };
            left -= step;
        }
        panic!("more than {SKIPS_MAX} times were due meanwhile");
    }

    /// Asserts that each run which has not ended is at work, or says for what reason it is not, and
    /// returns the reasons.
    ///
    /// # Panics
    /// When a run has none, and names it.
    pub async fn no_unexplained(&self) -> Vec<(RunId, Why)> {
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let page = self.engine.unfinished(before, PAGE_MAX).await;
            let page = page.expect("the test's database answers");
            let Some(last) = page.last() else {
                return found;
            };
            before = Some(last.id);
            for run in page {
                let why = self.why(run.id).await;
                assert_ne!(
                    why,
                    Why::Unexplained,
                    "run {} stands still: {run:?}",
                    run.id
                );
                found.push((run.id, why));
            }
        }
    }

    /// Stops all workers in order.
    ///
    /// # Panics
    /// When one of them has failed.
    pub async fn stop(mut self) {
        for member in self.workers.iter_mut().filter_map(Option::take) {
            member.gate.set_open(true);
            member.stop.cancel();
            let stopped = member.task.await.expect("a worker does not panic");
            stopped.expect("a worker of a fleet can work");
        }
    }

    /// Waits until nobody is at work and nothing is ready, or the run has settled; returns how long until
    /// something is due.
    async fn idle(&self, run: Option<RunId>) -> Option<Duration> {
        let looked = tokio::time::timeout(PATIENCE, async {
            loop {
                let look = self.clock.look().await;
                if !look.is_busy {
                    return look.next_in;
                }
                // Others may be busy for ever.
                if let Some(run) = run {
                    let status = self.run(run).await.status;
                    if status.is_terminal() || status == RunStatus::Paused {
                        return look.next_in;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        match looked.await {
            Ok(next_in) => next_in,
            Err(_) => {
                let runs = self.no_unexplained().await;
                let runs: Vec<String> = runs
                    .iter()
                    .map(|(run, why)| format!("run {run}: {why}"))
                    .collect();
                panic!("the fleet is busy without end: {}", runs.join("; "))
            }
        }
    }

    /// Does at once what the workers would do within two seconds.
    async fn nudge(&self) {
        velo_engine::lease::wake(self.engine.pool())
            .await
            .expect("the test's database answers");
        velo_engine::schedule::fire_due(&self.engine)
            .await
            .expect("the test's database answers");
        sqlx::query("select pg_notify($1, '')")
            .bind(velo_engine::QUEUE_CHANNEL)
            .execute(self.engine.pool())
            .await
            .expect("the test's database answers");
    }

    async fn until_registered(&self, name: &str) {
        let sql = "select exists (select from velo.worker where name = $1 and codes <> '{}')";
        let registered = tokio::time::timeout(PATIENCE, async {
            loop {
                let found: bool = sqlx::query_scalar(sql)
                    .bind(name)
                    .fetch_one(self.engine.pool())
                    .await
                    .expect("the test's database answers");
                if found {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        registered.await.expect("a worker of a fleet can start");
    }

    async fn expire(&self, name: &str) {
        let sql = "update velo.worker set expires_at = clock_timestamp() - interval '1 second' where name = $1";
        sqlx::query(sql)
            .bind(name)
            .execute(self.engine.pool())
            .await
            .expect("the test's database answers");
    }

    async fn run(&self, run: RunId) -> Run {
        self.engine.run(run).await.expect("the run is there")
    }

    async fn why(&self, run: RunId) -> Why {
        self.engine.why(run).await.expect("the run is there")
    }

    fn member(&self, worker: usize) -> &Member {
        let member = self.workers.get(worker).and_then(Option::as_ref);
        member.expect("the worker was neither killed nor stopped")
    }

    fn taken(&mut self, worker: usize) -> Member {
        let member = self.workers.get_mut(worker).and_then(Option::take);
        member.expect("the worker was neither killed nor stopped")
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}
