//! Sketches become numbered tasks in epics.

use std::collections::HashMap;

use super::{FOUNDATIONS, MAIN, PROOF, Sketch, WISHES};
use crate::catalogue::{Catalogue, TaskKind};
use crate::document::{Epic, MAX_TASK_TITLE_CHARS, TaskAcceptance, TaskDraft, TaskPlanDraft};

use super::super::words::short;

/// What tasks that write code leave behind.
const CODE: &str = "code_bundle";

pub(super) fn plan(sketches: Vec<Sketch>) -> TaskPlanDraft {
    let titles: Vec<&'static str> = [FOUNDATIONS, MAIN, WISHES, PROOF]
        .into_iter()
        .filter(|title| sketches.iter().any(|sketch| sketch.epic == *title))
        .collect();
    let epic_id = |title: &str| {
        let at = titles.iter().position(|known| *known == title)?;
        Some(format!("E{}", at + 1))
    };
    let epics = titles
        .iter()
        .enumerate()
        .map(|(at, title)| Epic {
            id: format!("E{}", at + 1),
            title: (*title).to_owned(),
            requirement_ids: requirements(&sketches, title),
        })
        .collect();
    let keys: HashMap<String, String> = sketches
        .iter()
        .enumerate()
        .map(|(at, sketch)| (sketch.id.clone(), format!("T-{:03}", at + 1)))
        .collect();
    let tasks = sketches
        .into_iter()
        .map(|sketch| {
            let key = keys[&sketch.id].clone();
            TaskDraft {
                epic: epic_id(sketch.epic),
                title: short(&sketch.title, MAX_TASK_TITLE_CHARS),
                requirement_ids: sketch.requirements,
                kind: sketch.kind,
                description: sketch.description,
                acceptance: sketch
                    .acceptance
                    .into_iter()
                    .enumerate()
                    .map(|(at, (text, verify))| TaskAcceptance {
                        id: format!("{key}.A{}", at + 1),
                        text,
                        verify,
                    })
                    .collect(),
                // A step that makes no sense here is needed by nobody.
                depends_on: sketch
                    .needs
                    .iter()
                    .filter_map(|need| keys.get(need).cloned())
                    .collect(),
                outputs: outputs(&sketch.skills, sketch.kind),
                required_skills: sketch.skills,
                suggested_agent: None,
                priority: sketch.priority,
                complexity: sketch.size,
                key,
            }
        })
        .collect();
    TaskPlanDraft { epics, tasks }
}

fn requirements(sketches: &[Sketch], epic: &str) -> Vec<String> {
    let mut ids: Vec<String> = sketches
        .iter()
        .filter(|sketch| sketch.epic == epic)
        .flat_map(|sketch| sketch.requirements.iter().cloned())
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Code, or the first kind of artifact of whoever suits best.
fn outputs(skills: &[String], kind: TaskKind) -> Vec<String> {
    let is_code = matches!(
        kind,
        TaskKind::Backend
            | TaskKind::Frontend
            | TaskKind::Xr
            | TaskKind::Integration
            | TaskKind::Fix
    );
    if is_code {
        return vec![CODE.to_owned()];
    }
    let staff = Catalogue::built_in();
    let found = staff.best_agent(skills, kind, None);
    staff
        .agent(found.agent.as_str())
        .and_then(|agent| agent.produces.first().cloned())
        .into_iter()
        .collect()
}
