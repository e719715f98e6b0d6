//! Places where a run is paused on purpose: before a node's work, or after it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::{Engine, EngineError};
use crate::executor::Checkpoint;
use crate::graph::GraphBuilder;
use crate::node::NodeKey;
use crate::run_id::RunId;
use crate::shape::Shape;
use crate::state::State;
use crate::store;

/// What a run is paused for, as stored.
pub(crate) const KIND: &str = "breakpoint";

/// The nodes before and after whose work a run is paused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakpoints {
    /// Those before whose step it is paused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub before: BTreeSet<String>,
    /// Those after whose step it is paused, unless it has ended with that.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<String>,
}

impl Breakpoints {
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// Why a run is paused between two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Nodes whose work comes next.
    before: Vec<String>,
    /// Nodes whose work was done.
    after: Vec<String>,
}

impl Stop {
    /// As the reason why the run is paused.
    pub(crate) fn described(&self) -> Value {
        json!({
            "kind": KIND,
            "message": self.to_string(),
            "before": self.before,
            "after": self.after,
        })
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a breakpoint")?;
        if !self.after.is_empty() {
            write!(f, " after {}", self.after.join(", "))?;
        }
        if !self.before.is_empty() {
            write!(f, " before {}", self.before.join(", "))?;
        }
        Ok(())
    }
}

impl<S: State> Checkpoint<S> {
    /// What the run is to be paused for before its next step, if that is so.
    pub(crate) fn stop(&self, shape: &Shape<S>) -> Option<Stop> {
        let declared = shape.breakpoints();
        if self.tasks.is_empty() || (declared.is_empty() && self.breakpoints.is_empty()) {
            return None;
        }
        let is_before =
            |node: &str| declared.before.contains(node) || self.breakpoints.before.contains(node);
        let mut before: Vec<String> = Vec::new();
        for task in &self.tasks {
            if is_before(&task.node) && before.last() != Some(&task.node) {
                before.push(task.node.clone());
            }
        }
        let after = self.halted_after.clone();
        let is_any = !before.is_empty() || !after.is_empty();
        is_any.then_some(Stop { before, after })
    }

    /// Those of the tasks' nodes after whose work the run is to be paused.
    pub(crate) fn to_halt_after(&self, shape: &Shape<S>) -> Vec<String> {
        let declared = &shape.breakpoints().after;
        let own = &self.breakpoints.after;
        if declared.is_empty() && own.is_empty() {
            return Vec::new();
        }
        let nodes: BTreeSet<&String> = self.tasks.iter().map(|task| &task.node).collect();
        let is_after = |node: &&String| declared.contains(*node) || own.contains(*node);
        nodes.into_iter().filter(is_after).cloned().collect()
    }
}

impl Engine {
    /// Has a run go on that is paused at a breakpoint, and each of the child runs that it waits for, however
    /// deep, that is. Returns how many there were; a run that failed stays paused.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, some may go on and others not: call it again.
    pub async fn resume_all(&self, run: RunId) -> Result<usize, EngineError> {
        let halted = store::breakpoint::halted(self.pool(), run)
            .await
            .map_err(EngineError::on("look for runs at breakpoints"))?;
        let mut resumed = 0;
        for run in halted {
            resumed += usize::from(self.resume(run).await?);
        }
        Ok(resumed)
    }
}

impl<S: State> GraphBuilder<S> {
    /// Pauses each run before a step in which `node` has work to do, with nothing of that step begun:
    /// [`Engine::resume`](crate::Engine::resume), or [`Engine::resume_all`](crate::Engine::resume_all) where
    /// it is a child's, lets it go on, once; the next time it comes there, it is paused again.
    ///
    /// [`Start::pause_before`](crate::Start::pause_before) is for one run. Breakpoints are no part of a
    /// graph's fingerprint.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::prelude::*;
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Report { text: String }
    ///
    /// const WRITE: NodeKey<Report> = NodeKey::new("write");
    /// const SEND: NodeKey<Report> = NodeKey::new("send");
    ///
    /// async fn work(_: Context<Report>) -> NodeResult<Report> { Ok(Next::none()) }
    ///
    /// let graph = Graph::builder("report", 1)
    ///     .node(WRITE, work).node(SEND, work)
    ///     .start(WRITE).edge(WRITE, SEND)
    ///     .pause_before(SEND)
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn pause_before<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.shape = self.shape.pause_before(node);
        self
    }

    /// Pauses each run after a step in which `node` has done work, once that is committed; not when the run
    /// has ended with it. Otherwise as [`pause_before`](Self::pause_before).
    #[must_use]
    pub fn pause_after<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.shape = self.shape.pause_after(node);
        self
    }

    /// Pauses each run before every step.
    #[must_use]
    pub fn pause_before_all(mut self) -> Self {
        self.shape = self.shape.pause_before_all();
        self
    }

    /// Pauses each run after every step but the last.
    #[must_use]
    pub fn pause_after_all(mut self) -> Self {
        self.shape = self.shape.pause_after_all();
        self
    }
}
