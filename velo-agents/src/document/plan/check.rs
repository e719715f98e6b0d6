//! What makes a plan one that can be carried out.

use std::collections::HashSet;

use super::super::text::{is_numbered, quoted};
use super::super::{RequirementPriority, limits};
use super::{Finding, PrdDraft, TaskDraft, TaskPlanDraft, order};

/// Fewest tasks of a plan.
pub const MIN_TASKS: usize = 5;
/// Most tasks of a plan.
pub const MAX_TASKS: usize = 60;
/// Most characters of a task's title.
pub const MAX_TASK_TITLE_CHARS: usize = 120;

pub(super) fn findings(draft: &TaskPlanDraft, prd: &PrdDraft) -> Vec<Finding> {
    let mut check = Check {
        requirements: prd.requirements.iter().map(|it| it.id.as_str()).collect(),
        epics: draft.epics.iter().map(|epic| epic.id.as_str()).collect(),
        keys: draft.tasks.iter().map(|task| task.key.as_str()).collect(),
        found: Vec::new(),
    };
    limits::check(draft, &mut check.found);
    check.epics(draft);
    let count = draft.tasks.len();
    if !(MIN_TASKS..=MAX_TASKS).contains(&count) {
        check.say(
            "/tasks",
            format!("has {count} tasks; write {MIN_TASKS} to {MAX_TASKS}"),
        );
    }
    let mut seen = HashSet::new();
    for (at, task) in draft.tasks.iter().enumerate() {
        if !seen.insert(task.key.as_str()) {
            let problem = format!("{} is used twice; keys are unique", quoted(&task.key));
            check.say(format!("/tasks/{at}/key"), problem);
        }
        check.task(&format!("/tasks/{at}"), at, task);
    }
    // With a key used twice it is not known which of the two is meant.
    if seen.len() == count
        && count <= MAX_TASKS
        && let Err(circle) = order::positions(&draft.tasks)
    {
        check.say("/tasks", order::told(&circle));
    }
    check.coverage(draft, prd);
    check.found
}

struct Check<'a> {
    requirements: HashSet<&'a str>,
    epics: HashSet<&'a str>,
    keys: HashSet<&'a str>,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn say(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.found.push(Finding::new(path, problem));
    }

    fn epics(&mut self, draft: &TaskPlanDraft) {
        let mut seen = HashSet::new();
        for (at, epic) in draft.epics.iter().enumerate() {
            let place = format!("/epics/{at}/id");
            if !is_numbered(&epic.id, "E", 1) {
                self.say(
                    place,
                    format!("is {}; write it as E{}", quoted(&epic.id), at + 1),
                );
            } else if !seen.insert(epic.id.as_str()) {
                let problem = format!("{} is used twice; ids are unique", quoted(&epic.id));
                self.say(place, problem);
            }
            self.known_requirements(&format!("/epics/{at}"), &epic.requirement_ids);
        }
    }

    fn task(&mut self, path: &str, at: usize, task: &TaskDraft) {
        if !is_numbered(&task.key, "T-", 3) {
            let problem = format!("is {}; write it as T-{:03}", quoted(&task.key), at + 1);
            self.say(format!("{path}/key"), problem);
        }
        let length = task.title.chars().count();
        if length > MAX_TASK_TITLE_CHARS {
            let problem = format!("has {length} characters; write at most {MAX_TASK_TITLE_CHARS}");
            self.say(format!("{path}/title"), problem);
        }
        for (name, text) in [("title", &task.title), ("description", &task.description)] {
            if text.trim().is_empty() {
                self.say(format!("{path}/{name}"), "is empty; say what is to be done");
            }
        }
        if let Some(epic) = task
            .epic
            .as_deref()
            .filter(|epic| !self.epics.contains(epic))
        {
            let problem = format!("{} is not an epic of this plan", quoted(epic));
            self.say(format!("{path}/epic"), problem);
        }
        self.known_requirements(path, &task.requirement_ids);
        for (at, key) in task.depends_on.iter().enumerate() {
            if !self.keys.contains(key.as_str()) {
                let problem = format!("{} is not a task of this plan", quoted(key));
                self.say(format!("{path}/depends_on/{at}"), problem);
            }
        }
        self.acceptance(path, task);
    }

    fn acceptance(&mut self, path: &str, task: &TaskDraft) {
        if task.acceptance.is_empty() {
            self.say(
                format!("{path}/acceptance"),
                "is empty; say how somebody else finds out that the task is done",
            );
        }
        let prefix = format!("{}.A", task.key);
        let mut seen = HashSet::new();
        for (at, acceptance) in task.acceptance.iter().enumerate() {
            let place = format!("{path}/acceptance/{at}");
            if !is_numbered(&acceptance.id, &prefix, 1) {
                let problem = format!(
                    "is {}; write it as {prefix}{}",
                    quoted(&acceptance.id),
                    at + 1
                );
                self.say(format!("{place}/id"), problem);
            } else if !seen.insert(acceptance.id.as_str()) {
                let problem = format!("{} is used twice; ids are unique", quoted(&acceptance.id));
                self.say(format!("{place}/id"), problem);
            }
            if acceptance.text.trim().is_empty() {
                self.say(format!("{place}/text"), "is empty; say what must hold");
            }
        }
    }

    fn known_requirements(&mut self, path: &str, ids: &[String]) {
        for (at, id) in ids.iter().enumerate() {
            if !self.requirements.contains(id.as_str()) {
                let problem = format!("{} is not a requirement of the document", quoted(id));
                self.say(format!("{path}/requirement_ids/{at}"), problem);
            }
        }
    }

    /// What the first release needs has somebody who does it.
    fn coverage(&mut self, draft: &TaskPlanDraft, prd: &PrdDraft) {
        let covered: HashSet<&str> = draft
            .tasks
            .iter()
            .flat_map(|task| task.requirement_ids.iter().map(String::as_str))
            .collect();
        for requirement in &prd.requirements {
            if requirement.priority != RequirementPriority::P2
                && !covered.contains(requirement.id.as_str())
            {
                self.say(
                    "/tasks",
                    format!(
                        "no task serves {} ({}); name it in a task's requirement_ids",
                        quoted(&requirement.id),
                        requirement.priority.name()
                    ),
                );
            }
        }
    }
}
