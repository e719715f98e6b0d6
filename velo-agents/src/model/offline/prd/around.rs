//! What stands around the requirements of a document: the problem, the summary, for whom it is,
//! what is left out and what was taken for granted.

use super::super::brief::{Reading, is_people};
use super::super::knowledge::{Facet, Knowledge};
use super::super::language;
use super::super::product::plain;
use super::super::vocabulary::ARTICLES;
use super::super::words::{Words, capitalised, listed, short};
use crate::document::{MAX_SUMMARY_WORDS, Persona, ProjectType};

/// Most names of wishes in the summary.
const MAX_NAMES: usize = 6;
/// Longest name of a wish in the summary, in characters.
const MAX_NAME_CHARS: usize = 50;

pub(super) fn problem(reading: &Reading) -> String {
    if reading.background.is_empty() {
        return format!("{}.", reading.named.fill(&reading.named.kind.problem));
    }
    let said: Vec<String> = reading
        .background
        .iter()
        .map(|text| format!("“{text}”"))
        .collect();
    format!("In the words of the brief: {}.", said.join(" "))
}

pub(super) fn summary(reading: &Reading, main: &str) -> String {
    let named = &reading.named;
    let names: Vec<String> = reading
        .wishes
        .iter()
        .filter(|wish| !wish.is_given)
        .take(MAX_NAMES)
        .map(|wish| match wish.facet {
            Some(facet) => facet.name.clone(),
            None => format!("“{}”", short(&wish.quote, MAX_NAME_CHARS)),
        })
        .collect();
    let mut summary = match &reading.purpose {
        Some(_) => format!("{main}."),
        None => format!(
            "The {} {}.",
            named.spoken,
            named.fill_within(&named.kind.gist)
        ),
    };
    if !names.is_empty() {
        let comes = match named.kind.project_type {
            ProjectType::Software => "comes with",
            _ => "covers",
        };
        summary.push_str(&format!(" It {comes} {}.", listed(&names)));
    }
    if let Some(audience) = &reading.audience {
        summary.push_str(&format!(" It is made for {}.", told(audience)));
    }
    let words: Vec<&str> = summary.split_whitespace().take(MAX_SUMMARY_WORDS).collect();
    words.join(" ")
}

pub(super) fn personas(reading: &Reading) -> Vec<Persona> {
    let named = &reading.named;
    let (name, description, needs) = &named.kind.persona;
    // "for a bakery" says whose product it is, "for busy parents" who uses it.
    let users = reading.audience.as_deref().filter(|audience| {
        let words = Words::of(audience);
        is_people(&words) && !ARTICLES.begins(&words)
    });
    let mut description = named.fill(description);
    if let (None, Some(audience)) = (users, &reading.audience) {
        description.push_str(&format!(" The product is made for {}.", told(audience)));
    }
    vec![Persona {
        id: "U1".to_owned(),
        name: users.map_or_else(|| named.fill(name), capitalised),
        description,
        needs: needs.iter().map(|need| named.fill(need)).collect(),
    }]
}

pub(super) fn out_of_scope(reading: &Reading, facets: &[&Facet]) -> Vec<String> {
    let excluded = reading
        .excluded
        .iter()
        .map(|text| format!("As the brief says: “{text}”"));
    let known = &Knowledge::built_in().facets;
    let expected = reading.named.kind.expected.iter().filter_map(|id| {
        let is_asked = facets.iter().any(|facet| facet.id == *id);
        let facet = known.iter().find(|facet| facet.id == *id && !is_asked)?;
        (!reading.excludes(facet))
            .then(|| format!("{}: often wanted, not asked for", capitalised(&facet.name)))
    });
    excluded.chain(expected).collect()
}

pub(super) fn assumptions(reading: &Reading, remarks: &[String]) -> Vec<String> {
    let mut all = vec![
        "Numbers such as limits, shares and times were chosen by rule as a starting point; please confirm or change them".to_owned(),
    ];
    if reading.language != "en" {
        all.push(format!(
            "The brief is in {}; the rules write English and quote the brief as it is",
            language::name(reading.language)
        ));
    }
    if reading.left_out > 0 {
        all.push(format!(
            "The brief says more than the rules can follow up: {} further points are only in its text",
            reading.left_out
        ));
    }
    all.extend(reading.addressed.iter().map(|text| {
        format!("This sentence of the brief speaks to its reader and not of the product, and was not followed: “{text}”")
    }));
    all.extend(remarks.iter().map(|remark| {
        format!(
            "A remark on an earlier draft was taken into account as far as rules can: “{remark}”"
        )
    }));
    all
}

/// The words for an audience as somebody else than the founder would say them.
fn told(audience: &str) -> String {
    let audience = short(audience, MAX_NAME_CHARS);
    match audience.split_once(' ') {
        Some((first, rest)) if ["my", "our"].contains(&plain(first).as_str()) => {
            format!("the {rest}")
        }
        _ => audience,
    }
}
