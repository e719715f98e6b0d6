//! Which kind of product a name means.

use super::super::knowledge::{Knowledge, Product};
use super::super::vocabulary::ADJECTIVES;
use super::super::words::{Words, singular};
use super::plain;
use crate::document::ProjectType;

/// The kind of everything that is software and nothing more.
const SOFTWARE: &str = "software";

/// Whether a word of `phrase` tells the kind of product.
pub(in super::super) fn has_noun(phrase: &str) -> bool {
    of(phrase).is_some()
}

/// The last noun decides, unless it only says that there is software: a habit tracker app is a
/// tracker.
pub(super) fn of(phrase: &str) -> Option<&'static Product> {
    let words: Vec<String> = phrase.split_whitespace().map(plain).collect();
    let mut nouns = words.iter().rev().filter_map(|word| noun_of(word));
    let last = nouns.next()?;
    if last.id != SOFTWARE {
        return Some(last);
    }
    nouns
        .find(|product| product.project_type == ProjectType::Software && product.id != SOFTWARE)
        .or(Some(last))
}

/// The kind whose noun `word` is; of a word such as `habit-tracker` its last part counts.
pub(super) fn noun_of(word: &str) -> Option<&'static Product> {
    let last = word.rsplit('-').next().unwrap_or(word);
    [word, last].iter().find_map(|noun| {
        let one = noun.strip_suffix('s').unwrap_or(noun);
        let is_noun = |known: &String| known == noun || known == one;
        let mut products = Knowledge::built_in().products.iter();
        products.find(|product| product.nouns.iter().any(is_noun))
    })
}

/// The type of project that most nouns of `text` belong to.
pub(super) fn type_of(text: &str) -> ProjectType {
    let words = Words::of(text);
    let count = |project_type: ProjectType| {
        let products = Knowledge::built_in().products.iter();
        let nouns: Vec<&String> = products
            .filter(|product| product.project_type == project_type)
            .flat_map(|product| &product.nouns)
            .collect();
        words
            .iter()
            .filter(|word| nouns.iter().any(|noun| noun == word))
            .count()
    };
    let mut best = (ProjectType::Software, count(ProjectType::Software));
    for other in [
        ProjectType::Marketing,
        ProjectType::Design,
        ProjectType::Business,
        ProjectType::Content,
    ] {
        let found = count(other);
        if found > best.1 {
            best = (other, found);
        }
    }
    best.0
}

/// The kind of products of which no more than their type is known.
pub(super) fn fallback(project_type: ProjectType) -> &'static Product {
    Knowledge::built_in()
        .products
        .iter()
        .rfind(|product| product.project_type == project_type)
        .expect("there is a kind of product for every type, as a test makes sure")
}

/// What a product is called that has no name which sentences could carry.
pub(super) fn generic(project_type: ProjectType) -> &'static str {
    match project_type {
        ProjectType::Software => "product",
        ProjectType::Marketing => "campaign",
        ProjectType::Design => "design",
        ProjectType::Business => "document",
        ProjectType::Content => "text",
    }
}

/// Whether `phrase` only stands for a name, as in "I need something".
pub(super) fn is_placeholder(phrase: &str) -> bool {
    ["something", "anything", "solution"].contains(&plain(phrase).as_str())
}

/// The word before the noun that decides: what a habit tracker tracks.
pub(super) fn item_before(phrase: &str) -> Option<String> {
    let kind = of(phrase)?;
    let words: Vec<String> = phrase.split_whitespace().map(plain).collect();
    let is_noun = |word: &String| noun_of(word).is_some_and(|product| product.id == kind.id);
    let at = words.iter().rposition(is_noun)?;
    let before = match words[at].rsplit_once('-') {
        Some((before, _)) if !kind.nouns.contains(&words[at]) => before,
        _ => words.get(at.checked_sub(1)?)?,
    };
    let before = before.rsplit('-').next()?;
    singular(before).filter(|word| !ADJECTIVES.has(word) && noun_of(word).is_none())
}
