//! The tasks that a wish takes, known or not.

use super::super::knowledge::Work;
use super::super::product::Named;
use super::super::words::short;
use crate::catalogue::TaskKind;
use crate::document::{Complexity, PrdDraft, ProjectType};

/// Most characters of a wish in a title.
const MAX_INSIDE_CHARS: usize = 70;

/// A task of a chain.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) kind: TaskKind,
    pub(super) title: String,
    pub(super) skills: Vec<String>,
    pub(super) size: Complexity,
}

/// The tasks of a wish that the rules know.
pub(super) fn known(work: &[Work], named: &Named) -> Vec<Part> {
    work.iter()
        .map(|Work(kind, title, skills, size)| Part {
            kind: *kind,
            title: named.fill(title),
            skills: skills.clone(),
            size: *size,
        })
        .collect()
}

/// What a wish takes that the rules do not know.
pub(super) fn other(prd: &PrdDraft, text: &str) -> Vec<Part> {
    let inside = short(text, MAX_INSIDE_CHARS);
    let part = |kind, title: String, skills: &[&str]| Part {
        kind,
        title,
        skills: skills.iter().map(|skill| (*skill).to_owned()).collect(),
        size: Complexity::M,
    };
    match prd.project_type {
        ProjectType::Software => vec![
            part(
                TaskKind::Backend,
                format!("Build what is behind “{inside}”"),
                &["backend-code", "system-design"],
            ),
            part(
                TaskKind::Frontend,
                format!("Build the screens for “{inside}”"),
                &["ui-components", "state-management"],
            ),
        ],
        ProjectType::Marketing => vec![part(
            TaskKind::Content,
            format!("Write what is needed for “{inside}”"),
            &["copywriting", "storytelling"],
        )],
        ProjectType::Content => vec![part(
            TaskKind::Content,
            format!("Write the part about “{inside}”"),
            &["long-form", "storytelling"],
        )],
        ProjectType::Design => vec![part(
            TaskKind::Design,
            format!("Design “{inside}”"),
            &["layout", "visual-hierarchy"],
        )],
        ProjectType::Business => vec![part(
            TaskKind::Analysis,
            format!("Work out “{inside}”"),
            &["market-research", "positioning"],
        )],
    }
}

/// Without screens there is nothing to draw; what remains is code.
pub(super) fn fitting(mut parts: Vec<Part>, named: &Named) -> Vec<Part> {
    let is_software = named.kind.project_type == ProjectType::Software;
    if !is_software || !named.kind.headless || parts.is_empty() {
        return parts;
    }
    let first = parts[0].clone();
    parts.retain(|part| !matches!(part.kind, TaskKind::Frontend | TaskKind::Design));
    if parts.is_empty() {
        parts.push(Part {
            kind: TaskKind::Backend,
            skills: vec!["backend-code".to_owned()],
            ..first
        });
    }
    parts
}
