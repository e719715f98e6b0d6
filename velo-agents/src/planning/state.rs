use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use velo_engine::State;

use crate::document::{PrdDraft, TaskPlanDraft};
use crate::domain::{ProjectId, TenantId, UserId};
use crate::model::ChatReply;

/// What a planning run knows.
#[derive(State, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planning {
    /// Whose project it is.
    pub tenant: TenantId,
    /// Who asked for it.
    pub user: UserId,
    /// The project.
    pub project: ProjectId,
    /// What was asked for, word for word.
    pub brief: String,
    /// What the model answered when it was asked for the PRD, oldest first.
    #[state(append)]
    pub prd_replies: Vec<Reply>,
    /// The PRD, once it passed every check.
    pub prd: Option<PrdDraft>,
    /// What the model answered when it was asked for the plan, oldest first.
    #[state(append)]
    pub plan_replies: Vec<Reply>,
    /// The plan, once it passed every check.
    pub plan: Option<TaskPlanDraft>,
    /// What was stored at the end.
    pub stored: Option<Stored>,
}

impl Planning {
    /// What a run begins with.
    #[must_use]
    pub fn new(tenant: TenantId, user: UserId, project: ProjectId, brief: String) -> Self {
        Self {
            tenant,
            user,
            project,
            brief,
            prd_replies: Vec::new(),
            prd: None,
            plan_replies: Vec::new(),
            plan: None,
            stored: None,
        }
    }
}

/// A model's reply, and what is to be known of it later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What was answered.
    pub reply: ChatReply,
    /// Whether rules answered rather than a model.
    pub offline: bool,
    /// When it had arrived.
    pub at: DateTime<Utc>,
}

/// What a planning run leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Tasks of the project.
    pub tasks: u32,
    /// Documents of the project.
    pub artifacts: u32,
}
