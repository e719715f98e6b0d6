//! Workers in this process, and a graph that most tests can use.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use velo_engine::prelude::*;
use velo_engine::{Run, Serve, Why};
use velo_worker::{Stopped, Worker, WorkerBuilder, WorkerError};

/// Longer than anything here takes, so that a test that hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Log {
    #[state(append)]
    pub(crate) lines: Vec<String>,
    pub(crate) turns: u32,
}

pub(crate) fn line(text: impl Into<String>) -> LogUpdate {
    Log::update().lines(vec![text.into()])
}

/// A worker that runs beside the test.
pub(crate) struct Beside {
    stop: CancellationToken,
    task: JoinHandle<Result<Stopped, WorkerError>>,
}

impl Beside {
    pub(crate) fn start(worker: WorkerBuilder) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
        Self { stop, task }
    }

    /// Asks it to stop, and does not wait.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn stop(self) -> Stopped {
        self.stop.cancel();
        within(self.task).await.unwrap().unwrap()
    }

    /// Waits until it has ended because of somebody else.
    pub(crate) async fn ended(self) -> Stopped {
        within(self.task).await.unwrap().unwrap()
    }

    /// Waits until the one worker has been asked to stop for so long that it knows.
    pub(crate) async fn is_stopping(&self, engine: &Engine) {
        heard(engine).await;
        assert!(!self.task.is_finished());
    }

    /// As if the process had died: nothing is given back.
    pub(crate) async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) fn worker(engine: &Engine, graph: impl Serve) -> WorkerBuilder {
    Worker::builder(engine.clone())
        .serve(graph)
        .lease(Duration::from_secs(1))
}

/// As [`worker`], on a machine that may be busy: its lease is not lost to a hiccup.
pub(crate) fn steady(engine: &Engine, graph: impl Serve) -> WorkerBuilder {
    worker(engine, graph).lease(Duration::from_secs(5))
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the test waited longer than it ever should")
}

pub(crate) async fn settled(engine: &Engine, run: RunId) -> Run {
    let settled = within(engine.wait(run)).await.unwrap();
    let why = engine.why(run).await.unwrap();
    assert_ne!(why, Why::Unexplained, "{settled:?}");
    settled
}

/// Waits until the one worker has looked for what has come for its runs: what was said before is heard.
pub(crate) async fn heard(engine: &Engine) {
    // The look follows the beat: with the second beat, the look after the first is over.
    for _ in 0..2 {
        let beat = async || {
            let beat: (chrono::DateTime<chrono::Utc>,) =
                sqlx::query_as("select expires_at from velo.worker")
                    .fetch_one(engine.pool())
                    .await
                    .unwrap();
            beat
        };
        let before = beat().await;
        until(async || beat().await != before).await;
    }
}

/// A node that the test holds until it opens the gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    pub(crate) came: Arc<Notify>,
    pub(crate) open: Arc<Notify>,
}

impl Gate {
    pub(crate) async fn pass(&self) {
        self.came.notify_one();
        self.open.notified().await;
    }
}

/// Tries until it is so: for what has no event to wait for.
pub(crate) async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    within(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
