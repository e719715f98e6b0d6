//! What a worker tells those who watch it from the same process.

use std::time::Duration;

use serde_json::Value;

use crate::error::NodeError;
use crate::run_id::RunId;

/// Something that happened to a run in this process. Nothing of it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The run.
    pub run: RunId,
    /// The node.
    pub node: String,
    /// Which of the step's tasks it is, from zero.
    pub task: i32,
    /// What happened.
    pub what: Happening,
}

/// What happened, in an [`Observed`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// An attempt began.
    Started {
        /// Which attempt, from one.
        attempt: u32,
    },
    /// The node said how far it is.
    Progress {
        /// What it said.
        body: Value,
    },
    /// The attempt failed.
    Failed {
        /// Why.
        error: NodeError,
        /// When the next attempt begins; `None` when the run is paused instead.
        again_in: Option<Duration>,
    },
    /// The node's result was committed.
    Finished,
}
