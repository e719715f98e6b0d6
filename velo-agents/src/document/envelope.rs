use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use velo_engine::RunId;

use crate::catalogue::AgentId;
use crate::domain::ProjectId;
use crate::prompt::Prompt;

/// Where a document comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The project that it is about.
    pub project_id: ProjectId,
    /// The run that made it; in JSON as text.
    pub run_id: RunId,
    /// Who wrote it, and with what.
    pub produced_by: ProducedBy,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Who wrote a document, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProducedBy {
    /// The agent.
    pub agent: AgentId,
    /// The model that answered, as its provider names it.
    pub model: String,
    /// Whether rules wrote it rather than a model.
    pub offline: bool,
    /// SHA-256 of the prompt, in hexadecimal.
    pub prompt_hash: String,
}

impl ProducedBy {
    /// `agent`, asking with `prompt`, answered by `model`
    /// ([`ChatReply::model`](crate::model::ChatReply::model)); `offline` is
    /// [`ChatModel::is_offline`](crate::model::ChatModel::is_offline).
    pub fn new(
        agent: impl Into<String>,
        model: impl Into<String>,
        offline: bool,
        prompt: &Prompt,
    ) -> Self {
        Self {
            agent: AgentId::new(agent),
            model: model.into(),
            offline,
            prompt_hash: prompt.sha256().to_owned(),
        }
    }
}
