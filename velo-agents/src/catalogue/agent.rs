use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Division, TaskKind};
use crate::model::Tier;

/// The short name of an agent in documents and tables, such as `prism_lab`.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct AgentId(String);

impl AgentId {
    /// Wraps `id` as it is; whether an agent has that name is for
    /// [`Catalogue::agent`](super::Catalogue::agent) to say.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something an agent knows how to do, and how much of its craft that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "SkillEntry")]
pub struct Skill {
    /// The name that tasks ask for, such as `data-modelling`.
    pub id: String,
    /// From 0 to 1; 1 is a main skill.
    pub weight: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SkillEntry {
    Plain(String),
    Weighted { id: String, weight: f64 },
}

impl From<SkillEntry> for Skill {
    fn from(entry: SkillEntry) -> Self {
        match entry {
            SkillEntry::Plain(id) => Self { id, weight: 1.0 },
            SkillEntry::Weighted { id, weight } => Self { id, weight },
        }
    }
}

/// Something an agent may touch. There is no tool for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tool {
    /// Read any artifact of the project.
    #[serde(rename = "artifact.read")]
    ArtifactRead,
    /// Write artifacts of the kinds that the agent produces.
    #[serde(rename = "artifact.write")]
    ArtifactWrite,
    /// Search what the project knows.
    #[serde(rename = "memory.search")]
    MemorySearch,
    /// Read the files being worked on.
    #[serde(rename = "workspace.read")]
    WorkspaceRead,
    /// Change the files being worked on.
    #[serde(rename = "workspace.write")]
    WorkspaceWrite,
    /// Run an allow-listed command in the sandbox.
    #[serde(rename = "workspace.run")]
    WorkspaceRun,
    /// Run test suites in the sandbox.
    #[serde(rename = "test.run")]
    TestRun,
    /// Write infrastructure definitions; never apply them.
    #[serde(rename = "infra.render")]
    InfraRender,
    /// Give a task to an agent.
    #[serde(rename = "task.assign")]
    TaskAssign,
    /// Send a signal to a run.
    #[serde(rename = "run.signal")]
    RunSignal,
    /// Read what calls consumed and cost.
    #[serde(rename = "usage.read")]
    UsageRead,
}

/// What the agency knows about one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Short name, unique.
    pub id: AgentId,
    /// The name that people read.
    pub name: String,
    /// Its department; in the file, the division that it is listed under.
    #[serde(default = "unlisted")]
    pub division: Division,
    /// What it is hired for, in a few words.
    pub role: String,
    /// What it does and how, in a sentence.
    pub description: String,
    /// What tasks may ask of it.
    pub skills: Vec<Skill>,
    /// Kinds of task that it is at home in.
    pub kinds: Vec<TaskKind>,
    /// All that it may touch.
    pub tools: Vec<Tool>,
    /// Kinds of artifact that it starts from.
    pub consumes: Vec<String>,
    /// Kinds of artifact that it may write.
    pub produces: Vec<String>,
    /// Which class of model answers for it.
    pub tier: Tier,
    /// Sampling temperature, for models that accept one.
    pub temperature: f32,
    /// Who usually takes its result next.
    pub handoff_to: Vec<AgentId>,
    /// Who may review its work.
    pub reviewers: Vec<AgentId>,
}

/// Stands in until the file's enclosing entry has named the division.
fn unlisted() -> Division {
    Division::Specialized
}
