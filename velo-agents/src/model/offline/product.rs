//! What a brief calls its product, and which kind of product that is.

mod kind;
mod name;

pub(super) use kind::has_noun;
pub(super) use name::{name_in, plain, word_spans};

use super::knowledge::{Knowledge, Product};
use super::vocabulary::VERBS;
use super::words::{Words, capitalised, one, plural, short, uncapitalised};
use crate::document::{PrdDraft, ProjectType};

/// Most characters of a title.
const MAX_TITLE_CHARS: usize = 70;
/// The title of what has no name.
const UNTITLED: &str = "Untitled product";
/// Longest name with which sentences can still be read.
const MAX_SPOKEN_WORDS: usize = 4;

/// A product's name and kind.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The title of the document.
    pub(super) title: String,
    /// The name in the middle of a sentence, behind `the`.
    pub(super) spoken: String,
    pub(super) kind: &'static Product,
    /// What it keeps: one of it, and several.
    pub(super) item: String,
    pub(super) items: String,
}

impl Named {
    /// The product called `phrase`; `brand` is a name of its own before it. When no word of the
    /// name tells the kind, one of its `sentence` may, and the whole `brief` the type of project.
    pub(super) fn new(brand: Option<&str>, phrase: &str, sentence: &str, brief: &str) -> Self {
        let project_type = kind::type_of(brief);
        let found = kind::of(phrase)
            .or_else(|| kind::of(sentence).filter(|kind| kind.project_type == project_type))
            .unwrap_or_else(|| kind::fallback(project_type));
        Self::of_kind(brand, phrase, found)
    }

    /// The product of a document that is there already. A document by rules says in a requirement
    /// which kind it is; any other one in its title or its summary.
    pub(super) fn of_document(prd: &PrdDraft) -> Self {
        let (brand, phrase) = match prd.title.split_once(": ") {
            Some((brand, phrase)) => (Some(brand), phrase),
            None if prd.title == UNTITLED => (None, ""),
            None => (None, prd.title.as_str()),
        };
        let phrase = name_in(phrase).0;
        let of_type = |kind: &&Product| kind.project_type == prd.project_type;
        let says = |named: &Self| {
            let statement = named.fill(&named.kind.statement);
            prd.requirements.iter().any(|it| it.statement == statement)
        };
        let products = Knowledge::built_in().products.iter().filter(of_type);
        let mut candidates = products.map(|kind| Self::of_kind(brand, phrase, kind));
        if let Some(said) = candidates.find(says) {
            return said;
        }
        let found = kind::of(phrase)
            .or_else(|| kind::of(prd.summary.split('.').next().unwrap_or_default()))
            .filter(of_type)
            .unwrap_or_else(|| kind::fallback(prd.project_type));
        Self::of_kind(brand, phrase, found)
    }

    fn of_kind(brand: Option<&str>, phrase: &str, kind: &'static Product) -> Self {
        let phrase = match kind::is_placeholder(phrase) {
            true => kind::generic(kind.project_type).to_owned(),
            false => short(phrase, MAX_TITLE_CHARS),
        };
        let title = match (brand, phrase.is_empty()) {
            (_, true) => UNTITLED.to_owned(),
            (Some(brand), false) => short(&format!("{brand}: {phrase}"), MAX_TITLE_CHARS),
            (None, false) => capitalised(&phrase),
        };
        let taken = kind.takes_item.then(|| kind::item_before(&phrase));
        let item = taken.flatten().unwrap_or_else(|| kind.item.clone());
        let is_other = !kind.routine.is_empty() && !kind.routine.contains(&item);
        let other = kind.otherwise.as_ref().filter(|_| is_other);
        let kind = other
            .and_then(|id| {
                let mut products = Knowledge::built_in().products.iter();
                products.find(|product| product.id == *id)
            })
            .unwrap_or(kind);
        let count = phrase.split_whitespace().count();
        let is_spoken = phrase.is_ascii()
            && (has_noun(&phrase) || count > 1)
            && count <= MAX_SPOKEN_WORDS
            && !VERBS.begins(&Words::of(&phrase));
        Self {
            title,
            spoken: match (&kind.called, is_spoken) {
                (Some(called), _) => called.clone(),
                (None, true) => uncapitalised(&phrase),
                (None, false) => kind::generic(kind.project_type).to_owned(),
            },
            kind,
            items: plural(&item),
            item,
        }
    }

    /// The same product with words behind a title that would say little without them.
    pub(super) fn titled(self, behind: &str) -> Self {
        let is_bare = self.kind.purpose || self.kind.project_type != ProjectType::Software;
        if !is_bare || self.title == UNTITLED || behind.is_empty() {
            return self;
        }
        Self {
            title: short(&format!("{} {behind}", self.title), MAX_TITLE_CHARS),
            ..self
        }
    }

    /// `text` with its placeholders filled in.
    pub(super) fn fill(&self, text: &str) -> String {
        let filled = text
            .replace("{product}", &self.spoken)
            .replace("{an item}", &one(&self.item))
            .replace("{items}", &self.items)
            .replace("{item}", &self.item);
        capitalised(&filled)
    }

    /// The same for a text that goes on in the middle of a sentence.
    pub(super) fn fill_within(&self, text: &str) -> String {
        uncapitalised(&self.fill(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_and_what_it_keeps_follow_from_the_name() {
        for (phrase, kind, item) in [
            ("habit tracker", "tracker", "habit"),
            ("Habit-Tracker", "tracker", "habit"),
            ("habits tracking app", "tracker", "habit"),
            ("water tracker app", "log", "entry"),
            ("expense tracker", "log", "expense"),
            ("simple tracker", "log", "entry"),
            ("meal planner", "planner", "meal"),
            ("to-do list", "list", "task"),
            ("bike rental marketplace", "marketplace", "offer"),
            ("Tetris", "game", "round"),
            ("logo", "design", "draft"),
            ("business plan", "business", "section"),
            ("restaurant reservation system", "booking", "booking"),
            ("thing", "software", "entry"),
        ] {
            let named = Named::new(None, phrase, phrase, phrase);
            assert_eq!(
                (named.kind.id.as_str(), named.item.as_str()),
                (kind, item),
                "{phrase}"
            );
        }
    }
}
