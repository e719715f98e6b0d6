//! For tests of graphs: a [`Fleet`] of workers whose time is put forward; and what becomes of a run when its
//! process dies, freezes or loses an answer, at every place where it writes anything.

mod fleet;
mod gate;

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::process::{Child, Command};
use velo_engine::events::Event;
use velo_engine::{Engine, Graph, RunId, RunStatus, State, failpoint, test_kit};

use crate::Worker;

pub use fleet::Fleet;

/// In the environment of a process that is to run the run: the database.
const DATABASE: &str = "VELO_CRASH_DATABASE";
/// In the environment of a process that is to run the run: the run.
const RUN: &str = "VELO_CRASH_RUN";
/// What [`failpoint`] reads.
const FAILPOINT: &str = "VELO_FAILPOINT";
/// How such a process ends when it never came to its place.
const NOT_REACHED: i32 = 17;
/// How often a process may come to one place; a graph of a test has fewer steps.
const HITS_MAX: u32 = 200;
/// How long one run may take in all; longer means that it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Runs that are tried at once.
const AT_ONCE: usize = 6;
/// How soon a frozen process is given up.
const LEASE: Duration = Duration::from_secs(1);
/// Between two looks whether a process has frozen itself.
const LOOK: Duration = Duration::from_millis(10);
/// Connections of one process.
const POOL: u32 = 8;
/// Most steps and events of one run that are compared.
const COMPARED: i64 = 1_000;

/// What was done to the process that had the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It was killed, and another one started.
    Kill,
    /// It was frozen until another one had taken over and finished; then it went on, too late. On Linux only.
    Freeze,
    /// The answer to a commit was lost, so that the commit was sent again.
    Repeat,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "stop",
            Self::Repeat => "repeat",
        }
    }
}

/// A fault, and where it struck.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The place, one of [`failpoint::PLACES`] or [`failpoint::REPEATABLE`].
    pub place: &'static str,
    /// At which time that the process came to the place, from one.
    pub hit: u32,
    /// What was done.
    pub fault: Fault,
}

/// Such as `kill at step.before, time 3`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {}, time {}",
            self.fault.word(),
            self.place,
            self.hit
        )
    }
}

/// What was tried, all of it with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The faults.
    pub cases: Vec<Case>,
}

impl Report {
    /// The places where something was done.
    #[must_use]
    pub fn places(&self) -> BTreeSet<&'static str> {
        self.cases.iter().map(|case| case.place).collect()
    }
}

/// Runs `graph` once undisturbed, then again for every place where it writes to the database and every time that it
/// comes there: killing the process, freezing it until another one has finished the run, and losing the answer of a
/// commit. Each time the outcome must be the same: the status, the state, what each step wrote and led to, the
/// events, and what `drive` returns.
///
/// The faults are real: each run is at work in a process of its own, which is this test, started again. So call it
/// from a test, once in that test, and before anything that is not to be done by those processes.
///
/// `prepare` is given each new database before the run starts, for tables of your own. `drive` is given each run, and
/// is what comes from outside: it answers questions and sends messages, waits until the run has
/// [settled](Engine::wait), and returns what must be the same besides, such as the rows that the nodes have written.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # use velo_engine::prelude::*;
/// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// # struct Order { id: i64, paid: bool }
/// # const CHARGE: NodeKey<Order> = NodeKey::new("charge");
/// use serde_json::json;
/// use velo_worker::test_kit::crash_everywhere;
///
/// async fn charge(mut cx: Context<Order>) -> NodeResult<Order> {
///     let tx = cx.tx().await?;
///     # let _ = tx;
///     // sqlx::query("insert into charge …").execute(&mut *tx).await?;
///     Ok(Order::update().paid(true).into())
/// }
///
/// // #[tokio::test]
/// async fn an_order_is_charged_once_whatever_happens() {
///     let graph = Graph::builder("order", 1).node(CHARGE, charge).start(CHARGE).compile().unwrap();
///     let report = crash_everywhere(
///         &graph,
///         Order { id: 7, paid: false },
///         async |engine| {
///             let table = "create table charge (order_id bigint)";
///             sqlx::query(table).execute(engine.pool()).await.unwrap();
///         },
///         async |engine, run| {
///             engine.wait(run).await.unwrap();
///             let charges = "select count(*) from charge";
///             let charges: i64 = sqlx::query_scalar(charges).fetch_one(engine.pool()).await.unwrap();
///             json!(charges)
///         },
///     )
///     .await;
///     assert!(report.places().contains("step.inside"));
/// }
/// ```
///
/// # Panics
/// When an outcome differs, a run hangs, or a process ends otherwise than it should; the message names the case.
/// Also when the test does not run on a thread of its own, for its name is found there.
///
/// # Cancel safety
/// Dropped half-way, the processes are killed.
pub async fn crash_everywhere<S, P, D>(graph: &Graph<S>, state: S, prepare: P, drive: D) -> Report
where
    S: State,
    P: AsyncFn(&Engine),
    D: AsyncFn(&Engine, RunId) -> Value,
{
    if let Ok(url) = env::var(DATABASE) {
        be_the_process(graph, &url).await;
    }
    let trial = Trial {
        graph,
        state,
        prepare,
        drive,
        test: name_of_the_test(),
    };
    let undisturbed = trial.outcome(None).await;
    let undisturbed = undisturbed.expect("without a fault nothing is missed");
    let kills = failpoint::PLACES.iter().map(|place| (*place, Fault::Kill));
    let freezes = failpoint::PLACES
        .iter()
        .filter(|_| cfg!(target_os = "linux"))
        .map(|place| (*place, Fault::Freeze));
    let repeats = failpoint::REPEATABLE
        .iter()
        .map(|place| (*place, Fault::Repeat));
    let (trial, undisturbed) = (&trial, &undisturbed);
    let all = kills.chain(freezes).chain(repeats);
    let struck = all.map(|(place, fault)| async move {
        let mut cases = Vec::new();
        for hit in 1..=HITS_MAX {
            let case = Case { place, hit, fault };
            let Some(outcome) = trial.outcome(Some(&case)).await else {
                break;
            };
            assert_eq!(&outcome, undisturbed, "the outcome differs after {case}");
            cases.push(case);
        }
        cases
    });
    // Most of the time is waiting for leases to end.
    let struck = futures::stream::iter(struck).buffered(AT_ONCE);
    let cases = struck.concat().await;
    Report { cases }
}

/// The test that calls this, as the test program's arguments name it.
fn name_of_the_test() -> String {
    let name = std::thread::current().name().map(str::to_owned);
    name.filter(|name| name != "main")
        .expect("the test has a thread of its own: run tests with more than one thread")
}

struct Trial<'a, S: State, P, D> {
    graph: &'a Graph<S>,
    state: S,
    prepare: P,
    drive: D,
    test: String,
}

impl<S, P, D> Trial<'_, S, P, D>
where
    S: State,
    P: AsyncFn(&Engine),
    D: AsyncFn(&Engine, RunId) -> Value,
{
    /// The outcome of one run; `None` when it never came to the place.
    async fn outcome(&self, case: Option<&Case>) -> Option<Value> {
        let url = test_kit::database_url().await;
        let engine = Engine::migrate_and_connect(pool(&url).await)
            .await
            .expect("an empty database takes the engine's tables");
        (self.prepare)(&engine).await;
        let run = engine
            .start(self.graph, self.state.clone())
            .await
            .expect("the run can be started");
        let processes = async {
            let first = self.process(&url, run, case);
            let is_struck = match case {
                None => ended(first, "undisturbed").await == Some(0),
                Some(case) => self.strike(first, case, &url, run).await,
            };
            assert!(
                is_struck || case.is_some(),
                "the undisturbed process failed"
            );
            is_struck
        };
        let both = async { tokio::join!(processes, (self.drive)(&engine, run)) };
        let Ok((is_struck, driven)) = tokio::time::timeout(PATIENCE, both).await else {
            let told = case.map_or_else(|| "undisturbed".to_owned(), ToString::to_string);
            let why = engine.why(run).await.expect("the run is there");
            panic!("the run hangs ({told}): {why}");
        };
        let outcome = match is_struck {
            true => Some(written(&engine, run, driven).await),
            false => None,
        };
        engine.pool().close().await;
        outcome
    }

    /// Lets the first process be struck and has a second one finish; `false` when it never came to the place.
    async fn strike(&self, first: Child, case: &Case, url: &str, run: RunId) -> bool {
        let told = case.to_string();
        match case.fault {
            Fault::Kill => {
                if ended(first, &told).await.is_some() {
                    return false;
                }
                self.finish(url, run, &told).await;
            }
            Fault::Freeze => {
                let mut first = first;
                let pid = first.id().expect("it was not waited for");
                loop {
                    if let Some(status) = first.try_wait().expect("its end can be seen") {
                        must_be_well(status, &told);
                        return false;
                    }
                    if is_frozen(pid) {
                        break;
                    }
                    tokio::time::sleep(LOOK).await;
                }
                self.finish(url, run, &told).await;
                let pid =
                    rustix::process::Pid::from_raw(pid.cast_signed()).expect("no process is 0");
                rustix::process::kill_process(pid, rustix::process::Signal::CONT)
                    .expect("it can go on");
                ended(first, &told).await;
            }
            Fault::Repeat => return ended(first, &told).await == Some(0),
        }
        true
    }

    async fn finish(&self, url: &str, run: RunId, told: &str) {
        let end = ended(self.process(url, run, None), told).await;
        assert_eq!(end, Some(0), "the second process failed: {told}");
    }

    fn process(&self, url: &str, run: RunId, case: Option<&Case>) -> Child {
        let own = env::current_exe().expect("the test program has a path");
        let mut command = Command::new(own);
        command
            .args([&self.test, "--exact", "--nocapture", "--test-threads=2"])
            .env(DATABASE, url)
            .env(RUN, run.to_string())
            .env_remove(FAILPOINT)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if let Some(case) = case {
            let wanted = format!("{}:{}:{}", case.place, case.hit, case.fault.word());
            command.env(FAILPOINT, wanted);
        }
        command.spawn().expect("the test program can be started")
    }
}

/// Waits for the end; its code, or `None` when it was killed.
async fn ended(mut process: Child, told: &str) -> Option<i32> {
    let status = process.wait().await.expect("its end can be seen");
    must_be_well(status, told);
    status.code()
}

fn must_be_well(status: ExitStatus, told: &str) {
    let is_well = matches!(status.code(), Some(0 | NOT_REACHED) | None);
    assert!(is_well, "a process ended with {status}: {told}");
}

/// Whether the process has stopped itself.
fn is_frozen(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the program's name, which is in brackets and may have any character.
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('T'))
}

/// Runs the run until it has ended or is paused, and ends the process.
async fn be_the_process<S: State>(graph: &Graph<S>, url: &str) -> ! {
    let run: RunId = env::var(RUN)
        .ok()
        .and_then(|run| run.parse().ok())
        .expect("who names the database names the run");
    let engine = Engine::connect(pool(url).await);
    let ended = async {
        loop {
            match engine.run(run).await {
                Ok(run) if run.status.is_terminal() || run.status == RunStatus::Paused => break,
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(error) => panic!("could not see how the run stands: {error}"),
            }
        }
    };
    let worker = Worker::builder(engine.clone())
        .serve(graph.clone())
        .lease(LEASE)
        .run(ended);
    let code = match worker.await {
        Ok(_) if failpoint::was_reached() => 0,
        Ok(_) => NOT_REACHED,
        Err(error) => {
            eprintln!("the worker failed: {error}");
            1
        }
    };
    std::process::exit(code)
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(POOL)
        .connect(url)
        .await
        .expect("the database was created for this run")
}

/// All that must be the same. Not the fences, which grow with each process, nor times.
async fn written(engine: &Engine, run: RunId, driven: Value) -> Value {
    let stood = engine.run(run).await.expect("the run is there");
    let steps = engine
        .history(run, -1, COMPARED)
        .await
        .expect("its steps can be read");
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| json!([step.seq, step.nodes, step.writes, step.next]))
        .collect();
    let events: Vec<Event> = engine
        .events(run, 0, COMPARED)
        .await
        .expect("its events can be read");
    // Tasks that are side by side emit in the order in which they finish.
    let mut events: Vec<String> = events
        .iter()
        .map(|event| format!("{} {}", event.kind, event.body))
        .collect();
    events.sort();
    json!({
        "status": stood.status,
        "error": stood.error,
        "steps": steps,
        "events": events,
        "driven": driven,
    })
}
