//! The task plan, `velo.task_plan/1`.

mod assign;
mod check;
mod estimate;
mod order;
mod render;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Envelope, Finding, PrdDraft, Rejected, Verify};
use crate::catalogue::{Catalogue, TaskKind};
use crate::domain::task::{NewTask, Priority};
use crate::domain::{ProjectId, TaskId};

pub use assign::{Assignment, assign};
pub use check::{MAX_TASK_TITLE_CHARS, MAX_TASKS, MIN_TASKS};
pub use estimate::Estimate;

/// A task plan whose draft passed every check, with an agent for each task. Tasks stand in an
/// order in which they could be done.
///
/// ```
/// use velo_agents::catalogue::Catalogue;
/// use velo_agents::document::{Envelope, PrdDraft, Rejected, TaskPlan, TaskPlanDraft};
/// use velo_agents::domain::{ProjectId, task::NewTask};
///
/// fn tasks(
///     draft: TaskPlanDraft,
///     prd: &PrdDraft,
///     envelope: Envelope,
///     project: ProjectId,
/// ) -> Result<Vec<NewTask>, Rejected> {
///     let plan = TaskPlan::new(draft, prd, Catalogue::built_in(), envelope)?;
///     Ok(plan.new_tasks(project))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// The shape of the document.
    pub schema: TaskPlanSchema,
    /// Where it comes from.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Title of the PRD that it carries out.
    pub prd_title: String,
    /// Groups of tasks.
    pub epics: Vec<Epic>,
    /// The tasks, each behind those that it depends on.
    pub tasks: Vec<PlannedTask>,
}

/// The one shape of a [`TaskPlan`]; reading another one is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskPlanSchema {
    /// `velo.task_plan/1`
    #[default]
    #[serde(rename = "velo.task_plan/1")]
    V1,
}

/// A task, and what the program adds to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTask {
    /// The task as it was written.
    #[serde(flatten)]
    pub task: TaskDraft,
    /// Who does it, and why.
    pub assignment: Assignment,
    /// What it is thought to take.
    pub estimate: Estimate,
    /// Its place in the plan, from zero.
    pub order: u32,
}

/// A PRD, broken down into tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskPlanDraft {
    /// Groups of tasks
    pub epics: Vec<Epic>,
    /// 5 to 60 tasks, in an order in which they could be done
    pub tasks: Vec<TaskDraft>,
}

/// A group of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Epic {
    /// E1, E2, …
    pub id: String,
    /// What the group is about
    pub title: String,
    /// The requirements that it serves
    pub requirement_ids: Vec<String>,
}

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

impl TaskPlanDraft {
    /// Everything that is wrong with the draft of a plan for `prd`. An agent that does not exist
    /// is not: the catalogue finds another.
    #[must_use]
    pub fn check(&self, prd: &PrdDraft) -> Vec<Finding> {
        check::findings(self, prd)
    }
}

impl TaskPlan {
    /// The plan of `draft`, if nothing is wrong with it, with agents of `staff`.
    ///
    /// # Errors
    /// [`Rejected`] with all that [`TaskPlanDraft::check`] found.
    pub fn new(
        draft: TaskPlanDraft,
        prd: &PrdDraft,
        staff: &Catalogue,
        envelope: Envelope,
    ) -> Result<Self, Rejected> {
        let findings = draft.check(prd);
        if !findings.is_empty() {
            return Err(Rejected { findings });
        }
        let order = order::positions(&draft.tasks).map_err(|circle| Rejected {
            findings: vec![Finding::new("/tasks", order::told(&circle))],
        })?;
        let mut tasks: Vec<PlannedTask> = draft
            .tasks
            .into_iter()
            .zip(order)
            .map(|(task, order)| {
                let assignment = assign(&task, staff);
                let tier = staff
                    .agent(assignment.agent.as_str())
                    .map(|agent| agent.tier);
                PlannedTask {
                    estimate: Estimate::of(task.complexity, tier),
                    assignment,
                    order,
                    task,
                }
            })
            .collect();
        tasks.sort_by_key(|task| task.order);
        Ok(Self {
            schema: TaskPlanSchema::V1,
            envelope,
            prd_title: prd.title.clone(),
            epics: draft.epics,
            tasks,
        })
    }

    /// All the estimates together.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        self.tasks.iter().map(|task| task.estimate).sum()
    }

    /// The tasks as rows of `project`. The same plan always gives the same rows, ids included.
    #[must_use]
    pub fn new_tasks(&self, project: ProjectId) -> Vec<NewTask> {
        self.tasks
            .iter()
            .map(|planned| planned.new_task(project))
            .collect()
    }

    /// The document as people read it.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        render::markdown(self)
    }
}

impl PlannedTask {
    fn new_task(&self, project: ProjectId) -> NewTask {
        const PLAIN: &str = "texts, numbers and lists are JSON";
        let task = &self.task;
        NewTask {
            id: TaskId::named(project.0, &task.key),
            key: task.key.clone(),
            title: task.title.clone(),
            description: task.description.clone(),
            kind: task.kind.name().to_owned(),
            priority: task.priority.into(),
            assigned_agent: Some(self.assignment.agent.as_str().to_owned()),
            depends_on: task.depends_on.clone(),
            requirement_ids: task.requirement_ids.clone(),
            acceptance: serde_json::to_value(&task.acceptance).expect(PLAIN),
            estimate: Some(serde_json::to_value(self.estimate).expect(PLAIN)),
            position: i32::try_from(self.order).expect("a plan has few tasks"),
        }
    }
}
