//! How far a run is, node by node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError};
use crate::run_id::RunId;
use crate::store;
use crate::store::progress::StoredTaskState;
use crate::store::run::{Run, RunStatus};
use crate::stored::Control;
use crate::vault::Home;

/// Steps that are looked at: those before the last so many are not counted.
pub const PROGRESS_STEPS_MAX: i32 = 100_000;
/// Steps that one statement reads.
const PAGE: i64 = 1_000;

const READING: &str = "read how far the run is";

/// How far a run is, node by node, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunProgress {
    /// The run.
    pub run: RunId,
    /// Its graph, such as `report@1`.
    pub code: String,
    /// How it stands.
    pub status: RunStatus,
    /// The nodes that it has come to, by name. All others have not been reached.
    pub nodes: BTreeMap<String, NodeProgress>,
}

/// How far a node of a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeProgress {
    /// Tasks that have finished, in all steps.
    pub done: u64,
    /// Tasks of the step under way that a worker is at.
    pub running: u64,
    /// Tasks that wait for an answer, a time, a message or a child run.
    pub waiting: u64,
    /// Tasks that have failed and will be tried again.
    pub retrying: u64,
    /// Tasks that have failed for good.
    pub failed: u64,
    /// Tasks that are next and that nobody is at, those put off included.
    pub next: u64,
}

/// How a node of a run stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// A task has failed for good.
    Failed,
    /// A task has failed and will be tried again.
    Retrying,
    /// A worker is at it.
    Running,
    /// It waits.
    Waiting,
    /// It is next.
    Next,
    /// It has finished, perhaps more than once.
    Done,
    /// The run has not come to it.
    NotReached,
}

impl NodeState {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Retrying => "retrying",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Next => "next",
            Self::Done => "done",
            Self::NotReached => "not reached",
        }
    }
}

impl NodeProgress {
    /// The state that most needs to be seen.
    #[must_use]
    pub fn state(&self) -> NodeState {
        let states = [
            (self.failed, NodeState::Failed),
            (self.retrying, NodeState::Retrying),
            (self.running, NodeState::Running),
            (self.waiting, NodeState::Waiting),
            (self.next, NodeState::Next),
            (self.done, NodeState::Done),
        ];
        let seen = states.iter().find(|(tasks, _)| *tasks > 0);
        seen.map_or(NodeState::NotReached, |(_, state)| *state)
    }

    /// All of it in words, such as `running, done ×3`.
    #[must_use]
    pub fn words(&self) -> String {
        let states = [
            (self.failed, NodeState::Failed),
            (self.retrying, NodeState::Retrying),
            (self.running, NodeState::Running),
            (self.waiting, NodeState::Waiting),
            (self.next, NodeState::Next),
            (self.done, NodeState::Done),
        ];
        let words = states.iter().filter(|(tasks, _)| *tasks > 0);
        let words = words.map(|(tasks, state)| match tasks {
            1 => state.as_str().to_owned(),
            tasks => format!("{} ×{tasks}", state.as_str()),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

impl RunProgress {
    /// How a node stands.
    #[must_use]
    pub fn state(&self, node: &str) -> NodeState {
        self.nodes
            .get(node)
            .map_or(NodeState::NotReached, NodeProgress::state)
    }
}

impl Engine {
    /// How far a run is, node by node: for a picture of it, see [`Outline::layout_of`](crate::Outline::layout_of).
    /// Of a run with more than [`PROGRESS_STEPS_MAX`] steps, the last ones are counted.
    ///
    /// # Errors
    /// [`EngineError::NoRun`], [`EngineError::Unreadable`] when a step cannot be read, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn progress(&self, run: RunId) -> Result<RunProgress, EngineError> {
        let failed = EngineError::on;
        let unreadable = |source| EngineError::Unreadable {
            run,
            source: Box::new(source),
        };
        // One moment for all that is read.
        let begin = self
            .pool()
            .begin_with("begin isolation level repeatable read, read only");
        let mut tx = begin.await.map_err(failed(READING))?;
        let found = store::run::get(&mut *tx, run).await;
        let found = found
            .map_err(failed(READING))?
            .ok_or(EngineError::NoRun(run))?;
        let mut tally = Tally::default();
        let mut after = found.steps.saturating_sub(PROGRESS_STEPS_MAX) - 1;
        loop {
            let page = store::progress::controls(&mut tx, run, after, PAGE).await;
            let mut page = page.map_err(failed(READING))?;
            for step in &mut page {
                let home = Home::of_step(run, step.seq, "control");
                self.vault()
                    .open(home, &mut step.control)
                    .map_err(EngineError::sealed(READING))?;
            }
            let Some(last) = page.last() else { break };
            after = last.seq;
            for stored in &page {
                tally.step(Control::decode(&stored.control).map_err(unreadable)?);
            }
        }
        let tasks = store::progress::tasks(&mut tx, run, found.steps + 1).await;
        let tasks = tasks.map_err(failed(READING))?;
        Ok(RunProgress {
            run,
            code: format!("{}@{}", found.graph, found.version),
            status: found.status,
            nodes: tally.end(&found, &tasks),
        })
    }
}

/// What is counted while the steps go by.
#[derive(Debug, Default)]
struct Tally {
    nodes: BTreeMap<String, NodeProgress>,
    /// What came next after the newest step so far.
    newest: Option<Control>,
}

impl Tally {
    /// Takes in what came next after a step.
    fn step(&mut self, control: Control) {
        let before = self.newest.replace(control);
        let newest = self.newest.as_ref();
        // A step that was made by hand did none of what was to be done.
        let is_edit = newest.is_some_and(|control| control.edited().is_some());
        if let Some(before) = before.filter(|_| !is_edit) {
            for node in before.nodes() {
                self.nodes.entry(node).or_default().done += 1;
            }
        }
    }

    /// Takes in the tasks of the step under way.
    fn end(mut self, run: &Run, tasks: &[StoredTaskState]) -> BTreeMap<String, NodeProgress> {
        let Some(newest) = self.newest else {
            return self.nodes;
        };
        for (task, node) in (0..).zip(newest.nodes()) {
            let is = |state: &str| tasks.iter().any(|it| it.task == task && it.state == state);
            let progress = self.nodes.entry(node).or_default();
            if is("done") {
                progress.done += 1;
            } else if is("failed") {
                progress.failed += 1;
            } else if run.status.is_terminal() {
                // It will not come to it any more.
            } else if is("waiting") {
                progress.waiting += 1;
            } else if is("retrying") {
                progress.retrying += 1;
            } else if run.is_leased {
                progress.running += 1;
            } else {
                progress.next += 1;
            }
        }
        if !run.status.is_terminal() {
            for node in newest.deferred() {
                self.nodes.entry(node).or_default().next += 1;
            }
        }
        self.nodes
    }
}
