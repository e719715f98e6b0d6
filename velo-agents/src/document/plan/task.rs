use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::TaskKind;
use crate::document::Verify;
use crate::domain::task::Priority;

/// One result that one agent can hand over and another can check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskDraft {
    /// T-001, T-002, …
    pub key: String,
    /// What is made, beginning with a verb, at most 120 characters
    pub title: String,
    /// The epic that it is part of
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epic: Option<String>,
    /// The requirements that it serves
    pub requirement_ids: Vec<String>,
    /// The craft it needs
    pub kind: TaskKind,
    /// What to do, within which limits, and what is not part of it
    pub description: String,
    /// How somebody else finds out that it is done; at least one
    pub acceptance: Vec<TaskAcceptance>,
    /// Keys of the tasks whose results are needed first
    pub depends_on: Vec<String>,
    /// Skills, spelled as the staff list spells them
    pub required_skills: Vec<String>,
    /// Id of the agent that suits best
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_agent: Option<String>,
    /// How urgent it is
    pub priority: TaskPriority,
    /// S about an hour, M half a day, L a day of a person's work
    pub complexity: Complexity,
    /// Kinds of artifact that it leaves behind
    pub outputs: Vec<String>,
}

/// How somebody else finds out that a task is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskAcceptance {
    /// T-001.A1, T-001.A2, …
    pub id: String,
    /// What must hold
    pub text: String,
    /// Who can tell
    pub verify: Verify,
}

/// How urgent a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum TaskPriority {
    Urgent,
    High,
    Medium,
    Low,
}

impl TaskPriority {
    /// The word used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

impl From<TaskPriority> for Priority {
    fn from(priority: TaskPriority) -> Self {
        match priority {
            TaskPriority::Urgent => Self::Urgent,
            TaskPriority::High => Self::High,
            TaskPriority::Medium => Self::Medium,
            TaskPriority::Low => Self::Low,
        }
    }
}

/// How much work a task is for a person: about an hour, half a day, a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum Complexity {
    S,
    M,
    L,
}

impl Complexity {
    /// The letter used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::M => "M",
            Self::L => "L",
        }
    }
}
