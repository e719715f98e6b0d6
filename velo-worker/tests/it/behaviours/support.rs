//! A state that adds up, and what most of these tests ask of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;
use velo_engine::{HistoryStep, Question, Serve};
use velo_worker::Worker;

use crate::support::{Beside, settled, until};

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
    said(text).into()
}

/// As [`line()`], for what wants an update.
pub(crate) fn said(text: impl Into<String>) -> SumUpdate {
    Sum::update().lines(vec![text.into()])
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

/// A worker with the usual lease: a busy machine does not lose it, so that calls can be counted.
pub(crate) fn serve(engine: &Engine, graph: impl Serve) -> Beside {
    Beside::start(Worker::builder(engine.clone()).serve(graph))
}

/// A worker with a short lease, after which another one can go on.
pub(crate) fn serve_briefly(engine: &Engine, graph: impl Serve) -> Beside {
    let worker = Worker::builder(engine.clone()).serve(graph);
    Beside::start(worker.lease(Duration::from_secs(2)))
}

pub(crate) async fn completed(engine: &Engine, run: RunId) {
    let ended = settled(engine, run).await;
    assert_eq!(ended.status, RunStatus::Completed, "{:?}", ended.error);
}

/// The lines of a run that has come to its end.
pub(crate) async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    completed(engine, run).await;
    engine.state::<Sum>(run).await.unwrap().lines
}

/// Why a run is paused.
pub(crate) async fn reason(engine: &Engine, run: RunId) -> String {
    let error = settled(engine, run).await.error.unwrap();
    error["message"].as_str().unwrap().to_owned()
}

pub(crate) async fn steps(engine: &Engine, run: RunId) -> usize {
    engine.steps(run, 0, 100).await.unwrap().len()
}

pub(crate) async fn history(engine: &Engine, run: RunId) -> Vec<HistoryStep> {
    engine.history(run, -1, 100).await.unwrap()
}

/// The nodes of the next step.
pub(crate) async fn next(engine: &Engine, run: RunId) -> Vec<String> {
    let at = engine.checkpoint::<Sum>(run).await.unwrap();
    at.tasks.into_iter().map(|task| task.node).collect()
}

/// The run's only open question, once it is asked, by whatever run below.
pub(crate) async fn asked(engine: &Engine, run: RunId) -> Question {
    until(async || engine.questions(Some(run), 10).await.unwrap().len() == 1).await;
    engine.questions(Some(run), 10).await.unwrap().remove(0)
}
