//! What a reader of a stream is given.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::position::Position;
use crate::question::Question;
use crate::run_id::RunId;

/// What somebody wants to see of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamMode {
    /// The whole state after each step.
    Values,
    /// What each task wrote, when it has ended.
    Updates,
    /// What nodes [say](crate::Context::say): the tokens of models.
    Messages,
    /// What nodes [emit](crate::Context::emit) and [show](crate::Context::show).
    Custom,
    /// Tasks: planned, ended, failed, asking, starting runs.
    Tasks,
    /// The committed steps.
    Checkpoints,
}

impl StreamMode {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Values,
        Self::Updates,
        Self::Messages,
        Self::Custom,
        Self::Tasks,
        Self::Checkpoints,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::Custom => "custom",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
        }
    }
}

/// One item of a [stream](crate::Engine::stream). `V` is the state's type; JSON for a reader that does not
/// know it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamItem<V = Value> {
    /// How far the stream is read with this item: what to go on from after it.
    pub position: Position,
    /// The run that it tells of.
    pub run: RunId,
    /// How that run came to be, from the run that is read downwards; empty for that run itself.
    pub path: Vec<Level>,
    /// For which of the modes that were asked for it is here.
    pub mode: StreamMode,
    /// When that was, by the database's clock.
    pub at: DateTime<Utc>,
    /// What it tells.
    #[serde(flatten)]
    pub what: Streamed,
    /// The state, with [`Streamed::Values`] alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<V>,
}

/// One step downwards from a run to a child of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Level {
    /// The node that started the child.
    pub node: String,
    /// Which task of its step that was, from zero.
    pub task: i32,
    /// The child's name in that task.
    pub name: String,
    /// The child.
    pub run: RunId,
}

/// What a [`StreamItem`] tells. Steps are counted from zero, the start; tasks of a step from zero, and
/// attempts of a task from one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Streamed {
    /// The state after a step: see [`StreamItem::state`].
    Values {
        /// The step.
        step: i32,
    },
    /// The state of a child run after a step, in a stream that knows its own run's type.
    ChildValues {
        /// The step.
        step: i32,
        /// The state, as JSON.
        state: Value,
    },
    /// A task has ended and written this. The step that it is part of may still fail to be taken.
    Updates {
        /// The step.
        step: i32,
        /// The task; `None` when what several wrote is not told apart any more, and for an edit.
        task: Option<i32>,
        /// The node; for an edit, in whose place it was made.
        nodes: Vec<String>,
        /// `[field, value]` each, or `[field, value, true]` for an overwrite.
        writes: Value,
        /// Whether it was made by hand.
        is_edit: bool,
    },
    /// A task asks something. It may have been answered since.
    Asked {
        /// The question.
        question: Question,
    },
    /// Text that an attempt said.
    Message {
        /// The step that is under way.
        step: i32,
        /// The task.
        task: i32,
        /// The node.
        node: String,
        /// The attempt.
        attempt: i32,
        /// The fence of its lease: an attempt that died with its process is followed by one of the same
        /// number and a greater fence.
        fence: i64,
        /// Which of the attempt's texts it is part of.
        name: String,
        /// How many bytes of that text come before it; zero begins it anew.
        start: i64,
        /// The text.
        text: String,
    },
    /// Something that an attempt showed, perhaps in vain.
    Shown {
        /// The step that is under way.
        step: i32,
        /// The task.
        task: i32,
        /// The node.
        node: String,
        /// The attempt.
        attempt: i32,
        /// The fence of its lease.
        fence: i64,
        /// What the node called it.
        event: String,
        /// What it showed.
        body: Value,
    },
    /// An event that a node emitted, with its step.
    Emitted {
        /// Its place among the run's events, from one.
        seq: i64,
        /// What the node called it.
        event: String,
        /// Its fields.
        body: Value,
    },
    /// A task is to be run.
    Planned {
        /// The step.
        step: i32,
        /// The task.
        task: i32,
        /// The node.
        node: String,
        /// What it was sent.
        input: Option<Value>,
    },
    /// A task has ended.
    Finished {
        /// The step.
        step: i32,
        /// The task.
        task: i32,
        /// The node.
        node: String,
        /// Where it chose to go, if it did.
        goes_to: Option<Vec<String>>,
    },
    /// An attempt has failed.
    Failed {
        /// The step.
        step: i32,
        /// The task.
        task: i32,
        /// The node.
        node: String,
        /// The attempt.
        attempt: i32,
        /// Why.
        error: Value,
        /// When the next one may begin; `None` when there is none.
        retry_at: Option<DateTime<Utc>>,
    },
    /// A task has started a run.
    Child {
        /// The step.
        step: i32,
        /// The task.
        task: i32,
        /// The node.
        node: String,
        /// The child's name in the task.
        name: String,
        /// The child.
        child: RunId,
        /// Its graph and version.
        graph: String,
        /// Whether the task waits for it.
        is_awaited: bool,
    },
    /// A step was committed.
    Checkpoint {
        /// The step.
        step: i32,
        /// The fence of the lease that committed it.
        fence: i64,
        /// Whether it was made by hand.
        is_edit: bool,
        /// The nodes that were at work in it, or in whose place it was made.
        nodes: Vec<String>,
        /// The nodes of the next step; empty at the end.
        next: Vec<String>,
    },
    /// Something is not there to be read any more.
    Gap {
        /// What it was.
        of: Lost,
        /// How many of them; `None` when nobody knows.
        lost: Option<i64>,
    },
}

/// What a reader has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// Things that nodes said or showed: the reader was slow, the worker had too much of them, or the
    /// database crashed.
    Pieces,
    /// Steps whose rows were removed.
    Steps,
}
