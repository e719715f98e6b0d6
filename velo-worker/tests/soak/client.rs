//! Those who start runs, send them messages and answer their questions, over connections that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use velo_engine::prelude::*;
use velo_engine::{EngineError, Run, RunStatus};

use crate::load::{self, Mixed};

/// Runs under way at once.
const CLIENTS: usize = 12;
/// How long what is under way may take when the faults have ended.
const PATIENCE: Duration = Duration::from_secs(120);
/// Wait before what failed is tried again, and between two looks.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Client {
    clients: JoinSet<Vec<RunId>>,
    until: Instant,
    resumed: Arc<AtomicU64>,
}

/// What became of all runs.
pub(crate) struct Ended {
    pub(crate) runs: Vec<RunId>,
    /// How long after the faults the last one ended.
    pub(crate) late: Duration,
    /// How often one was resumed, since workers that had it died again and again.
    pub(crate) resumed: u64,
}

impl Client {
    /// Begins to start runs, each client one after the other, for some time.
    pub(crate) fn start(direct: &Engine, broken: &Engine, time: Duration) -> Self {
        let until = Instant::now() + time;
        let graph = Arc::new(load::graph());
        let resumed: Arc<AtomicU64> = Arc::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (direct, broken, graph) = (direct.clone(), broken.clone(), Arc::clone(&graph));
            let resumed = Arc::clone(&resumed);
            clients.spawn(async move {
                let mut ended = Vec::new();
                while Instant::now() < until {
                    ended.push(one(&direct, &broken, &graph, &resumed).await);
                }
                ended
            });
        }
        Self {
            clients,
            until,
            resumed,
        }
    }

    /// Waits for all that is under way.
    pub(crate) async fn finish(self) -> Ended {
        let all = tokio::time::timeout(PATIENCE, self.clients.join_all()).await;
        let all = all.expect("all that was started ends, without anybody's help");
        Ended {
            runs: all.concat(),
            late: self.until.elapsed(),
            resumed: self.resumed.load(Ordering::Relaxed),
        }
    }
}

/// One run, from its start to its end.
async fn one(direct: &Engine, broken: &Engine, graph: &Graph<Mixed>, resumed: &AtomicU64) -> RunId {
    let id = RunId::random();
    loop {
        match broken.start(graph, Mixed::default()).id(id).await {
            // Taken by a start of ours whose answer was lost.
            Ok(_) | Err(EngineError::IdTaken(_)) => break,
            Err(error) => again(&error).await,
        }
    }
    let key = id.to_string();
    while let Err(error) = broken.signal(id, "word", &"please", Some(&key)).await {
        again(&error).await;
    }
    loop {
        match broken.questions(Some(id), 1).await {
            Ok(mut open) => {
                if let Some(question) = open.pop() {
                    match broken.answer(&question, &true).await {
                        // Perhaps by an answer of ours before.
                        Ok(()) | Err(EngineError::NotOpen { .. }) => (),
                        Err(error) => again(&error).await,
                    }
                }
            }
            Err(error) => again(&error).await,
        }
        match direct.run(id).await {
            Ok(run) if run.status == RunStatus::Completed => return id,
            // Five workers in a row died with it at the same step. Here it was not to blame, and an operator
            // would say so.
            Ok(run) if run.status == RunStatus::Paused && is_suspect(&run) => {
                match broken.resume(id).await {
                    Ok(_) => drop(resumed.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => again(&error).await,
                }
            }
            Ok(run) => assert_ne!(run.status, RunStatus::Paused, "{run:?}"),
            Err(error) => again(&error).await,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn is_suspect(run: &Run) -> bool {
    let kind = run.error.as_ref().and_then(|error| error.get("kind"));
    kind.is_some_and(|kind| kind == "crashed")
}

async fn again(error: &EngineError) {
    assert!(error.is_transient(), "a fault is told as one: {error}");
    tokio::time::sleep(AGAIN).await;
}
