//! The task plan, `velo.task_plan/1`.

mod assign;
mod check;
mod estimate;
mod order;
mod render;
mod task;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Envelope, Finding, PrdDraft, Rejected};
use crate::catalogue::Catalogue;
use crate::domain::task::NewTask;
use crate::domain::{ProjectId, TaskId};

pub use assign::{Assignment, assign};
pub use check::{MAX_TASK_TITLE_CHARS, MAX_TASKS, MIN_TASKS};
pub use estimate::Estimate;
pub use task::{Complexity, TaskAcceptance, TaskDraft, TaskPriority};

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
    /// The name by which people know the agent that does it.
    fn agent_name(&self) -> String {
        let id = self.assignment.agent.as_str();
        let agent = Catalogue::built_in().agent(id);
        agent.map_or_else(|| id.to_owned(), |agent| agent.name.clone())
    }

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
            assigned_agent: Some(self.agent_name()),
            depends_on: task.depends_on.clone(),
            requirement_ids: task.requirement_ids.clone(),
            acceptance: serde_json::to_value(&task.acceptance).expect(PLAIN),
            estimate: Some(serde_json::to_value(self.estimate).expect(PLAIN)),
            position: i32::try_from(self.order).expect("a plan has few tasks"),
        }
    }
}
