//! A task plan as people read it.

use std::fmt::Write as _;

use super::super::markdown::{head, inline, mermaid, row};
use super::{PlannedTask, TaskPlan};
use crate::catalogue::Catalogue;

pub(super) fn markdown(plan: &TaskPlan) -> String {
    let mut page = head(
        &format!("{}: task plan", inline(&plan.prd_title)),
        "velo.task_plan/1",
        &plan.envelope,
    );
    let total = plan.estimate();
    let _ = write!(
        page,
        "\n{} tasks. Together about {} minutes of agents' work, at most {:.2} US dollars for \
         {} tokens read and {} written, by rule of thumb.\n\n## Tasks\n\n",
        plan.tasks.len(),
        total.minutes,
        total.usd_max,
        total.input_tokens,
        total.output_tokens
    );
    page.push_str(&row([
        "Key", "Task", "Kind", "Agent", "Needs", "Serves", "Priority", "Size",
    ]));
    page.push_str(&row([
        "---", "---", "---", "---", "---", "---", "---", "---",
    ]));
    for planned in &plan.tasks {
        let task = &planned.task;
        page.push_str(&row([
            &inline(&task.key),
            &inline(&task.title),
            task.kind.name(),
            &inline(&agent_name(planned)),
            &inline(&task.depends_on.join(", ")),
            &inline(&task.requirement_ids.join(", ")),
            task.priority.name(),
            task.complexity.name(),
        ]));
    }
    graph(&mut page, plan);
    details(&mut page, plan);
    page
}

fn graph(page: &mut String, plan: &TaskPlan) {
    page.push_str("\n## What comes first\n\n```mermaid\nflowchart LR\n");
    for planned in &plan.tasks {
        let _ = writeln!(
            page,
            "  {}[\"{}: {}\"]",
            node(&planned.task.key),
            mermaid(&planned.task.key),
            mermaid(&planned.task.title)
        );
    }
    for planned in &plan.tasks {
        for needed in &planned.task.depends_on {
            let _ = writeln!(page, "  {} --> {}", node(needed), node(&planned.task.key));
        }
    }
    page.push_str("```\n");
}

fn details(page: &mut String, plan: &TaskPlan) {
    page.push_str("\n## The tasks in detail\n");
    for planned in &plan.tasks {
        let task = &planned.task;
        let epic = task.epic.as_deref().and_then(|id| {
            let epic = plan.epics.iter().find(|epic| epic.id == id)?;
            Some(format!("Epic: {}. ", inline(&epic.title)))
        });
        let _ = write!(
            page,
            "\n### {}: {}\n\n{}\n\n{}Assigned because {}.\n\n",
            inline(&task.key),
            inline(&task.title),
            inline(&task.description),
            epic.unwrap_or_default(),
            inline(&planned.assignment.reason)
        );
        for acceptance in &task.acceptance {
            let _ = writeln!(
                page,
                "- **{}** {} *({})*",
                inline(&acceptance.id),
                inline(&acceptance.text),
                acceptance.verify.label()
            );
        }
        if !task.outputs.is_empty() {
            let _ = writeln!(
                page,
                "- Leaves behind: {}",
                inline(&task.outputs.join(", "))
            );
        }
    }
}

fn agent_name(planned: &PlannedTask) -> String {
    let id = planned.assignment.agent.as_str();
    Catalogue::built_in()
        .agent(id)
        .map_or_else(|| id.to_owned(), |agent| agent.name.clone())
}

/// A key as a name that Mermaid can read.
fn node(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).collect()
}
