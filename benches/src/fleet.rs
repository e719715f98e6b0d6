//! Workers in processes of their own, which can be killed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use velo_engine::Engine;
use velo_engine::prelude::RunId;
use velo_worker::Worker;

use crate::Outcome;
use crate::database::Database;
use crate::work::{self, Ended, STEPS, Watch, Writes};

/// Tells this program, started again, that it is a worker, and of which database.
pub(crate) const DATABASE: &str = "VELO_BENCH_WORKER_DATABASE";
/// Where such a worker notes each step that it begins.
const STEP_LOG: &str = "VELO_BENCH_STEP_LOG";
/// How many runs it has at once.
const IN_FLIGHT: &str = "VELO_BENCH_IN_FLIGHT";
/// Connections of such a worker.
const CONNECTIONS: u32 = 10;

/// A worker process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts this program again as a worker; returns when it is about to register.
    pub(crate) async fn start(
        database: &Database<'_>,
        log: &StepLog,
        in_flight: usize,
    ) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(DATABASE, database.options.to_url_lossy().as_str())
            .env(STEP_LOG, &log.path)
            .env(IN_FLIGHT, in_flight.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let told = child.stdout.take().ok_or("the worker has no output")?;
        let mut line = String::new();
        if BufReader::new(told).read_line(&mut line).await? == 0 {
            return Err("the worker ended before it began".into());
        }
        Ok(Self(child))
    }

    /// Kills it as the kernel would: nothing in it runs any more.
    pub(crate) async fn kill(mut self) -> Outcome {
        Ok(self.0.kill().await?)
    }
}

/// What such a process does, until it is killed.
pub(crate) async fn work_for_ever(url: &str) -> Outcome {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(PgConnectOptions::from_str(url)?)
        .await?;
    let path = std::env::var(STEP_LOG)?;
    let file = OpenOptions::new().append(true).open(path)?;
    let watch = Arc::new(Noted(Mutex::new(file)));
    let graph = work::chain(Writes::Item, &Ended::default(), &watch)?;
    let in_flight = std::env::var(IN_FLIGHT)?.parse()?;
    println!("ready");
    let worker = Worker::builder(Engine::connect(pool)).serve(graph);
    worker
        .concurrency(in_flight)
        .run(std::future::pending())
        .await?;
    Ok(())
}

struct Noted(Mutex<File>);

impl Watch for Noted {
    fn begins(&self, id: i64, step: usize, fence: i64) {
        let line = format!("{id} {step} {fence}\n");
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
            .expect("the log of steps can be written to, or nothing can be said about them");
    }
}

/// The steps that worker processes began, written down before each step does anything.
#[derive(Debug)]
pub(crate) struct StepLog {
    path: PathBuf,
}

/// What the log says about the steps of all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Steps that no worker ever took.
    pub(crate) lost: usize,
    /// Steps taken again, since their commit had not come before the death.
    pub(crate) again: usize,
    /// Steps taken again under a later lease than the one that had committed them.
    pub(crate) repeated: usize,
}

impl StepLog {
    pub(crate) fn new() -> Outcome<Self> {
        let name = format!("velo-bench-{}.log", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        File::create(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Steps begun so far.
    pub(crate) fn len(&self) -> Outcome<usize> {
        Ok(fs::read_to_string(&self.path)?.lines().count())
    }

    /// Compares what was begun with what was committed.
    pub(crate) async fn audit(&self, database: &Database<'_>, runs: &[RunId]) -> Outcome<Audit> {
        let committed: Vec<(i64, i32, i64)> =
            sqlx::query_as("select run_id, seq, fence from velo.step where seq > 0")
                .fetch_all(&database.pool)
                .await?;
        let committed: HashMap<(i64, i32), i64> = committed
            .into_iter()
            .map(|(run, seq, fence)| ((run, seq), fence))
            .collect();
        let mut times: HashMap<(usize, usize), usize> = HashMap::new();
        let mut repeated = 0;
        for line in fs::read_to_string(&self.path)?.lines() {
            let fields: Vec<i64> = line
                .split(' ')
                .filter_map(|field| field.parse().ok())
                .collect();
            let [number, step, fence] = fields[..] else {
                return Err(format!("the log of steps has the line `{line}`").into());
            };
            let (number, step) = (usize::try_from(number)?, usize::try_from(step)?);
            *times.entry((number, step)).or_default() += 1;
            let key = (runs[number].as_i64(), i32::try_from(step)? + 1);
            repeated += usize::from(committed.get(&key).is_some_and(|by| fence > *by));
        }
        Ok(Audit {
            lost: runs.len() * STEPS - times.len(),
            again: times.values().map(|times| times - 1).sum(),
            repeated,
        })
    }
}

impl Drop for StepLog {
    fn drop(&mut self) {
        // A small file that is left over does no harm.
        let _ = fs::remove_file(&self.path);
    }
}
