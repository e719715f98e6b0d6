//! The tasks of a chain, with what they rest on and how they are accepted.

use super::super::product::Named;
use super::chain::Chain;
use super::{MAIN, Sketch, WISHES, priority};
use crate::catalogue::TaskKind;
use crate::document::{Acceptance, Requirement, RequirementPriority, Verify};

/// The tasks of `chain`, one of `all`; `known` are the steps that are there already.
pub(super) fn of(
    chain: &Chain<'_>,
    all: &[Chain<'_>],
    named: &Named,
    known: &[String],
) -> Vec<Sketch> {
    let requirement = chain.requirement;
    let main = all.iter().find(|other| other.is_main);
    let mut before: Option<String> = None;
    let mut sketches = Vec::new();
    for (at, part) in chain.parts.iter().enumerate() {
        let mut needs: Vec<String> = foundation(part.kind, known).into_iter().collect();
        if let Some(main) = main.filter(|_| !chain.is_main) {
            needs.extend(same_craft(main, part.kind));
        }
        needs.extend(before.take());
        needs.dedup();
        let id = part_id(requirement, at);
        before = Some(id.clone());
        sketches.push(Sketch {
            id,
            epic: if chain.is_main { MAIN } else { WISHES },
            title: part.title.clone(),
            description: format!(
                "{}. {}",
                requirement.statement.trim_end_matches('.'),
                limits(part.kind)
            ),
            kind: part.kind,
            skills: part.skills.clone(),
            size: part.size,
            priority: match chain.is_main {
                true => priority(RequirementPriority::P0),
                false => priority(requirement.priority),
            },
            requirements: vec![requirement.id.clone()],
            acceptance: accepted(requirement, at, chain.parts.len(), named),
            needs,
        });
    }
    sketches
}

fn part_id(requirement: &Requirement, at: usize) -> String {
    format!("{}/{at}", requirement.id)
}

/// The step that a task of this craft rests on.
fn foundation(kind: TaskKind, known: &[String]) -> Option<String> {
    let steps: &[&str] = match kind {
        TaskKind::Backend | TaskKind::Integration | TaskKind::Fix => &["api", "architecture"],
        TaskKind::Frontend => &["look", "direction", "concept"],
        TaskKind::Design => &["flows", "concept", "direction"],
        TaskKind::Schema => &["data"],
        TaskKind::Infra => &["pipeline"],
        TaskKind::Xr | TaskKind::Architecture | TaskKind::Api => &["architecture"],
        TaskKind::Test => &["test_plan"],
        TaskKind::Content | TaskKind::Docs | TaskKind::Research | TaskKind::Analysis => {
            &["direction", "concept", "flows", "architecture"]
        }
    };
    steps
        .iter()
        .find(|step| known.iter().any(|known| known == *step))
        .map(|step| (*step).to_owned())
}

/// The main task that a further one of this craft builds on.
fn same_craft(main: &Chain<'_>, kind: TaskKind) -> Option<String> {
    let last = main.parts.len().checked_sub(1)?;
    let at = match kind {
        TaskKind::Test | TaskKind::Xr => Some(last),
        kind => main.parts.iter().position(|part| part.kind == kind),
    };
    at.map(|at| part_id(main.requirement, at))
}

/// What is a part of such a task, and what is not.
fn limits(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Backend => {
            "This task is the rules, the storage and the calls, with tests that fail without them; the screens are another task."
        }
        TaskKind::Frontend => {
            "This task is the screens, built against the described interface, with their empty, loading and failing states; new rules are not part of it."
        }
        TaskKind::Xr => {
            "This task is what happens in the headset; menus outside of it are not part of it."
        }
        TaskKind::Design => {
            "This task is the design with its reasons and all its states or forms; building it is another task."
        }
        TaskKind::Test => {
            "This task is tests and their results; mending what they find is another task."
        }
        TaskKind::Infra => {
            "This task is definitions that can be applied again at any time; applying them is up to a person."
        }
        TaskKind::Research | TaskKind::Analysis => {
            "Every statement has a source or is marked as a guess; the decision is up to the founder."
        }
        TaskKind::Content | TaskKind::Docs => {
            "This task is the finished text in the agreed voice; pictures and publishing are not part of it."
        }
        TaskKind::Architecture
        | TaskKind::Schema
        | TaskKind::Api
        | TaskKind::Integration
        | TaskKind::Fix => "What the requirement does not name is not part of it.",
    }
}

/// The first task answers for what programs can test, the last for what people must try; a task
/// that would be left with nothing answers for all.
fn accepted(
    requirement: &Requirement,
    at: usize,
    count: usize,
    named: &Named,
) -> Vec<(String, Verify)> {
    let is_first = at == 0;
    let is_last = at + 1 == count;
    let text = |it: &Acceptance| {
        let (given, when) = (
            it.given.trim_end_matches('.'),
            it.when.trim_end_matches('.'),
        );
        let then = it.then.trim_end_matches('.');
        match given.is_empty() {
            true => format!("When {when}, then {then}"),
            false => format!("Given {given}, when {when}, then {then}"),
        }
    };
    let of = |is_wanted: &dyn Fn(Verify) -> bool| -> Vec<(String, Verify)> {
        requirement
            .acceptance
            .iter()
            .filter(|it| is_wanted(it.verify))
            .map(|it| (text(it), it.verify))
            .collect()
    };
    let by_program = |verify| matches!(verify, Verify::AutoTest | Verify::Build);
    let own = match (is_first, is_last) {
        (true, true) => of(&|_| true),
        (true, false) => of(&by_program),
        (false, _) => of(&|verify| !by_program(verify)),
    };
    if !own.is_empty() {
        return own;
    }
    if is_first {
        return of(&|_| true);
    }
    vec![(
        format!(
            "Somebody who did not build it carries out {} in the {} from beginning to end without help",
            requirement.id, named.spoken
        ),
        Verify::Manual,
    )]
}
