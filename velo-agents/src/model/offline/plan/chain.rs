//! What one requirement takes: tasks that follow each other.

use super::super::brief::facets_in;
use super::super::knowledge::{Facet, Knowledge, Work};
use super::super::prd::derived;
use super::super::product::Named;
use super::super::words::{Words, short};
use super::{MAIN, Sketch, WISHES, priority};
use crate::catalogue::TaskKind;
use crate::document::{
    Acceptance, Complexity, PrdDraft, ProjectType, Requirement, RequirementKind,
    RequirementPriority, Verify,
};

/// Most characters of a wish in a title.
const MAX_INSIDE_CHARS: usize = 70;
/// Most characters of a wish where it is one of several.
const MAX_NAME_CHARS: usize = 30;

/// The tasks of one requirement.
#[derive(Debug)]
pub(super) struct Chain<'p> {
    pub(super) requirement: &'p Requirement,
    /// What the wish is called inside a title.
    pub(super) name: String,
    pub(super) facet: Option<&'static str>,
    pub(super) is_main: bool,
    pub(super) parts: Vec<Part>,
}

/// A task of a chain.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) kind: TaskKind,
    title: String,
    skills: Vec<String>,
    size: Complexity,
}

/// The chains of a document, that of the main requirement first.
pub(super) fn of<'p>(prd: &'p PrdDraft, named: &Named) -> Vec<Chain<'p>> {
    let main = main_of(prd, named);
    let mut known: Vec<&'static str> = Vec::new();
    let mut chains = Vec::new();
    for (at, requirement) in prd.requirements.iter().enumerate() {
        let is_main = at == main;
        let facet = (!is_main)
            .then(|| facet_of(requirement, named))
            .flatten()
            .filter(|facet| !known.contains(&facet.id.as_str()));
        known.extend(facet.map(|facet| facet.id.as_str()));
        let text = requirement
            .source_quote
            .as_deref()
            .unwrap_or(&requirement.statement);
        let parts = match facet {
            _ if is_main => parts_of(&named.kind.work, named),
            Some(facet) => parts_of(&facet.work, named),
            None if requirement.kind == RequirementKind::Functional => other(prd, text),
            None => Vec::new(),
        };
        let parts = fitting(parts, named);
        if parts.is_empty() {
            continue;
        }
        let chain = Chain {
            requirement,
            name: facet.map_or_else(
                || format!("“{}”", short(text, MAX_NAME_CHARS)),
                |facet| facet.name.clone(),
            ),
            facet: facet.map(|facet| facet.id.as_str()),
            is_main,
            parts,
        };
        match is_main {
            true => chains.insert(0, chain),
            false => chains.push(chain),
        }
    }
    chains
}

/// `chains` with at most `most` tasks: chains are shortened to their first task before any is
/// left out, and those that can wait are left out first.
pub(super) fn within(mut chains: Vec<Chain<'_>>, most: usize) -> Vec<Chain<'_>> {
    let count = |chains: &[Chain<'_>]| chains.iter().map(|chain| chain.parts.len()).sum::<usize>();
    if count(&chains) > most {
        for chain in chains.iter_mut().filter(|chain| !chain.is_main) {
            chain.parts.truncate(1);
        }
    }
    while count(&chains) > most {
        let last = (0..chains.len())
            .filter(|at| !chains[*at].is_main)
            .max_by_key(|at| (chains[*at].requirement.priority, *at));
        match last {
            Some(at) => drop(chains.remove(at)),
            None => break,
        }
    }
    chains
}

pub(super) fn sketches(
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

/// The requirement that says what the product is for.
fn main_of(prd: &PrdDraft, named: &Named) -> usize {
    let statement = named.fill(&named.kind.statement);
    let is_functional = |it: &&Requirement| it.kind == RequirementKind::Functional;
    let is_first = |it: &Requirement| it.priority == RequirementPriority::P0;
    let all = &prd.requirements;
    all.iter()
        .position(|it| it.statement == statement)
        .or_else(|| all.iter().position(|it| is_functional(&it) && is_first(it)))
        .or_else(|| all.iter().position(|it| is_functional(&it)))
        .unwrap_or(0)
}

/// The known wish that the requirement is: word for word, else the one that its statement has most
/// signs of, else its quote. Qualities are not taken for functions, nor the other way round.
pub(in super::super) fn facet_of(requirement: &Requirement, named: &Named) -> Option<&'static Facet> {
    let statement = requirement.statement.to_lowercase();
    let said = Knowledge::built_in()
        .facets
        .iter()
        .filter(|facet| facet.suits(named.kind))
        .find(|facet| named.fill(&facet.statement).to_lowercase() == statement);
    if said.is_some() || derived::is_derived(&requirement.statement, named) {
        return said;
    }
    let best = |words: &Words| {
        facets_in(words, named)
            .filter(|facet| facet.kind == requirement.kind)
            .map(|facet| (facet.hits(words).map_or(0, |(count, _)| count), facet))
            .fold(
                None,
                |best: Option<(usize, &'static Facet)>, next| match best {
                    Some(best) if best.0 >= next.0 => Some(best),
                    _ => Some(next),
                },
            )
            .map(|(_, facet)| facet)
    };
    let title = Words::of(&named.spoken);
    best(&Words::of(&requirement.statement).without(&title)).or_else(|| {
        let quote = requirement.source_quote.as_deref()?;
        best(&Words::of(quote))
    })
}

fn parts_of(work: &[Work], named: &Named) -> Vec<Part> {
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
fn other(prd: &PrdDraft, text: &str) -> Vec<Part> {
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
fn fitting(mut parts: Vec<Part>, named: &Named) -> Vec<Part> {
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
