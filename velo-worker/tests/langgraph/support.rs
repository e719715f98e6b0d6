//! One worker beside the test, and a state that adds up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use velo_engine::prelude::*;
use velo_engine::{Run, RunStatus, Serve};
use velo_worker::{Stopped, Worker, WorkerBuilder, WorkerError};

/// Longer than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    #[state(reduce = add)]
    pub(crate) value: i64,
    #[state(append)]
    pub(crate) lines: Vec<String>,
    pub(crate) owner: String,
}

fn add(sum: &mut i64, more: i64) {
    *sum += more;
}

pub(crate) fn line(text: impl Into<String>) -> Next<Sum> {
    Sum::update().lines(vec![text.into()]).into()
}

/// Counts its calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<AtomicU32>);

impl Calls {
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn made(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A worker that runs beside the test.
pub(crate) struct Beside {
    stop: CancellationToken,
    task: JoinHandle<Result<Stopped, WorkerError>>,
}

impl Beside {
    /// With the usual lease: a busy machine does not lose it, so that calls can be counted.
    pub(crate) fn serve(engine: &Engine, graph: impl Serve) -> Self {
        Self::start(Worker::builder(engine.clone()).serve(graph))
    }

    /// With a short lease, after which another worker can go on.
    pub(crate) fn serve_briefly(engine: &Engine, graph: impl Serve) -> Self {
        let worker = Worker::builder(engine.clone()).serve(graph);
        Self::start(worker.lease(Duration::from_secs(2)))
    }

    fn start(worker: WorkerBuilder) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap().unwrap();
    }

    /// As if the process had died: nothing is given back.
    pub(crate) async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the test waited longer than it ever should")
}

pub(crate) async fn settled(engine: &Engine, run: RunId) -> Run {
    within(engine.wait(run)).await.unwrap()
}

pub(crate) async fn completed(engine: &Engine, run: RunId) {
    let ended = settled(engine, run).await;
    assert_eq!(ended.status, RunStatus::Completed, "{:?}", ended.error);
}

/// Why a run is paused.
pub(crate) async fn reason(engine: &Engine, run: RunId) -> String {
    let error = settled(engine, run).await.error.unwrap();
    error["message"].as_str().unwrap().to_owned()
}

pub(crate) async fn steps(engine: &Engine, run: RunId) -> usize {
    engine.steps(run, 0, 100).await.unwrap().len()
}
