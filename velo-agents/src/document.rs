//! The documents of planning: [`Prd`] says what is wanted, [`TaskPlan`] who does what for it.
//!
//! Each comes in two shapes. The *draft* is what a model writes: few levels, no open values, and
//! nothing that the program knows better. The *document* is the draft once it has passed every
//! check, with what the program adds. A document can only be made from a draft that passed.

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
