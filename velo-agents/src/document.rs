//! The documents of planning: [`Prd`] says what is wanted, [`TaskPlan`] who does what for it.
//!
//! Each comes in two shapes. The *draft* is what a model writes: few levels, no open values, and
//! nothing that the program knows better. The *document* is the draft once it has passed every
//! check, with what the program adds. A document can only be made from a draft that passed.
//!
//! From a brief to the rows of a plan, here with the offline model:
//!
//! ```
//! use velo_agents::catalogue::Catalogue;
//! use velo_agents::document::{
//!     Envelope, Prd, PrdDraft, ProducedBy, TaskPlan, TaskPlanDraft,
//! };
//! use velo_agents::domain::ProjectId;
//! use velo_agents::model::offline::OfflineModel;
//! use velo_agents::model::structured::{Progress, Structured};
//! use velo_agents::model::{ChatModel, ChatReply, ModelError};
//! use velo_agents::prompt;
//! use velo_engine::RunId;
//!
//! /// Asks until there is an answer. A node keeps each reply with `cx.step`.
//! async fn answer<T>(
//!     model: &dyn ChatModel,
//!     mut asked: Structured<T>,
//! ) -> Result<(T, ChatReply), ModelError>
//! where
//!     T: serde::de::DeserializeOwned + schemars::JsonSchema,
//! {
//!     loop {
//!         let reply = model.complete(asked.request(), &mut |_| {}).await?;
//!         match asked.take(&reply) {
//!             Progress::Done(answer) => return Ok((answer, reply)),
//!             Progress::Ask => {}
//!             Progress::Failed(error) => return Err(error),
//!         }
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let (brief, model, staff) = ("A habit tracker with streaks", OfflineModel, Catalogue::built_in());
//! let (project_id, run_id, created_at) = (ProjectId::new(), RunId::from_i64(1), chrono::Utc::now());
//! let envelope = |agent: &str, reply: &ChatReply, prompt: &prompt::Prompt| Envelope {
//!     project_id,
//!     run_id,
//!     produced_by: ProducedBy::new(agent, &reply.model, model.is_offline(), prompt),
//!     created_at,
//! };
//!
//! let asked = prompt::draft_prd(brief, &[]);
//! let wanted = Structured::new(asked.request, |draft: &PrdDraft| draft.check(brief))
//!     .with_repair(prompt::oracle_repair());
//! let (draft, reply) = answer(&model, wanted).await?;
//! let prd = Prd::new(draft, brief, envelope("oracle", &reply, asked.prompt))?;
//!
//! let asked = prompt::break_down(&prd.draft, staff, &[]);
//! let checked = prd.draft.clone();
//! let wanted = Structured::new(asked.request, move |draft: &TaskPlanDraft| draft.check(&checked))
//!     .with_repair(prompt::neuron_repair());
//! let (draft, reply) = answer(&model, wanted).await?;
//! let plan = TaskPlan::new(draft, &prd.draft, staff, envelope("neuron", &reply, asked.prompt))?;
//!
//! assert!(plan.new_tasks(project_id).len() >= 5);
//! assert!(prd.to_markdown().contains("streak"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod envelope;
mod limits;
mod markdown;
mod plan;
mod prd;
mod text;

use std::fmt;

pub use crate::model::structured::Finding;
pub use envelope::{Envelope, ProducedBy};
pub use plan::{
    Assignment, Complexity, Epic, Estimate, MAX_TASK_TITLE_CHARS, MAX_TASKS, MIN_TASKS,
    PlannedTask, TaskAcceptance, TaskDraft, TaskPlan, TaskPlanDraft, TaskPlanSchema, TaskPriority,
    assign,
};
pub use prd::{
    Acceptance, Goal, Level, MAX_GOALS, MAX_OPEN_QUESTIONS, MAX_REQUIREMENTS, MAX_SUMMARY_WORDS,
    MAX_TITLE_CHARS, OpenQuestion, Persona, Prd, PrdDraft, PrdSchema, ProjectType, Requirement,
    RequirementKind, RequirementPriority, Risk, SuccessCriterion, Verify,
};

/// A draft in which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejected {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not accept the draft: ")?;
        match self.findings.as_slice() {
            [] => f.write_str("no reason was recorded"),
            [only] => write!(f, "{only}"),
            [first, more @ ..] => write!(f, "{first}; and {} more", more.len()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
