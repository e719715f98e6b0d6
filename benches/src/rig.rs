//! Starting runs, having a worker in this process run them, and looking whether all is right.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use velo_engine::prelude::*;
use velo_engine::{RunStatus, Serve};
use velo_worker::{Stopped, Worker, WorkerBuilder, WorkerError};

use crate::Outcome;
use crate::database::Database;
use crate::work::{Ended, STEPS, Work};

/// Starts, or looks, under way at once.
const AT_ONCE: usize = 24;
/// How often the database is asked whether the last commits are in, once the last nodes have begun.
const LOOK: Duration = Duration::from_millis(1);
/// How long the last commits may take.
const LAST_COMMITS: Duration = Duration::from_secs(60);

/// A worker that runs beside the measurement.
pub(crate) struct Beside {
    engine: Engine,
    stop: CancellationToken,
    task: JoinHandle<Result<Stopped, WorkerError>>,
}

impl Beside {
    /// Starts a worker with connections of its own.
    pub(crate) async fn start(
        database: &Database<'_>,
        connections: u32,
        set: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Outcome<Self> {
        let engine = database.worker_engine(connections).await?;
        let stop = CancellationToken::new();
        let worker = set(Worker::builder(engine.clone()));
        let task = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
        Ok(Self { engine, stop, task })
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) -> Outcome {
        self.stop.cancel();
        self.task.await??;
        self.engine.pool().close().await;
        Ok(())
    }
}

/// Starts runs of `graph` whose states `state` makes from their numbers; returns their ids.
pub(crate) async fn start<S: State>(
    engine: &Engine,
    graph: &Graph<S>,
    runs: usize,
    state: impl Fn(i64) -> S,
) -> Outcome<Vec<RunId>> {
    let numbers = stream::iter(0..i64::try_from(runs)?);
    let started = numbers
        .map(|number| engine.start(graph, state(number)).into_future())
        .buffered(AT_ONCE)
        .try_collect();
    Ok(started.await?)
}

/// Has a worker run what was started, from its very beginning to the last commit; returns how long
/// that took.
pub(crate) async fn drain(
    database: &Database<'_>,
    graph: impl Serve,
    ended: &Ended,
    runs: usize,
    in_flight: usize,
    connections: u32,
) -> Outcome<Duration> {
    let engine = database.worker_engine(connections).await?;
    let stop = CancellationToken::new();
    let worker = Worker::builder(engine.clone())
        .serve(graph)
        .concurrency(in_flight);
    let began = Instant::now();
    let task = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
    let beside = Beside { engine, stop, task };
    ended.wait(runs).await?;
    none_live(database).await?;
    let took = began.elapsed();
    beside.stop().await?;
    Ok(took)
}

/// Waits until no run is live.
pub(crate) async fn none_live(database: &Database<'_>) -> Outcome {
    let since = Instant::now();
    loop {
        let is_over: bool = sqlx::query_scalar("select not exists (select from velo.queue)")
            .fetch_one(&database.pool)
            .await?;
        if is_over {
            return Ok(());
        }
        if since.elapsed() > LAST_COMMITS {
            return Err("the last runs were not committed".into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks whether all chains have ended, in the right state, with the right number of steps.
pub(crate) async fn verify(database: &Database<'_>, runs: &[RunId]) -> Outcome {
    let looks = (0_i64..).zip(runs).map(|(number, run)| async move {
        let (state, run) = tokio::try_join!(
            database.engine.state::<Work>(*run),
            database.engine.run(*run)
        )?;
        let is_right = state == Work::done(number)
            && run.status == RunStatus::Completed
            && usize::try_from(run.steps).ok() == Some(STEPS);
        if !is_right {
            return Err(format!("run {} ended wrong: {state:?}", run.id).into());
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    });
    stream::iter(looks)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}
