//! What one requirement takes: tasks that follow each other.

use super::super::brief::facets_in;
use super::super::knowledge::{Facet, Knowledge};
use super::super::prd::derived;
use super::super::product::Named;
use super::super::words::{Words, short};
use super::part::{self, Part};
use crate::document::{PrdDraft, Requirement, RequirementKind, RequirementPriority};

/// Most characters of a quote behind a title.
const MAX_QUOTE_CHARS: usize = 60;
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
            _ if is_main => main_parts(requirement, named),
            Some(facet) => part::known(&facet.work, named),
            None if requirement.kind == RequirementKind::Functional => part::other(prd, text),
            None => Vec::new(),
        };
        let parts = part::fitting(parts, named);
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

/// The main tasks; where the brief says what the product does, they are named after that.
fn main_parts(requirement: &Requirement, named: &Named) -> Vec<Part> {
    let mut parts = part::known(&named.kind.work, named);
    let is_usual = requirement.statement == named.fill(&named.kind.statement);
    if let Some(quote) = requirement.source_quote.as_deref().filter(|_| !is_usual) {
        for part in &mut parts {
            part.title = format!("{}: “{}”", part.title, short(quote, MAX_QUOTE_CHARS));
        }
    }
    parts
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
pub(in super::super) fn facet_of(
    requirement: &Requirement,
    named: &Named,
) -> Option<&'static Facet> {
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
