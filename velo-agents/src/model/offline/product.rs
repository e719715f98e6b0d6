//! What a brief calls its product, and which kind of product that is.

mod kind;
mod name;

pub(super) use kind::has_noun;
pub(super) use name::{name_in, plain, word_spans};

use super::knowledge::{Knowledge, Product};
use super::words::{capitalised, one, plural, short, uncapitalised};
use crate::document::ProjectType;

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
    /// The product called `phrase`; `brand` is a name of its own before it. Without a word that
    /// tells the kind, `around` is asked for the type of project.
    pub(super) fn new(brand: Option<&str>, phrase: &str, around: &str) -> Self {
        let found = kind::of(phrase).unwrap_or_else(|| kind::fallback(kind::type_of(around)));
        Self::of_kind(brand, phrase, found)
    }

    /// The product of a document that is there already.
    pub(super) fn of_title(title: &str, summary: &str, project_type: ProjectType) -> Self {
        let (brand, phrase) = match title.split_once(": ") {
            Some((brand, phrase)) => (Some(brand), phrase),
            None if title == UNTITLED => (None, ""),
            None => (None, title),
        };
        let phrase = name_in(phrase).0;
        let found = kind::of(phrase)
            .or_else(|| kind::of(summary.split('.').next().unwrap_or_default()))
            .filter(|kind| kind.project_type == project_type)
            .unwrap_or_else(|| kind::fallback(project_type));
        Self::of_kind(brand, phrase, found)
    }

    fn of_kind(brand: Option<&str>, phrase: &str, kind: &'static Product) -> Self {
        let phrase = short(phrase, MAX_TITLE_CHARS);
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
        let is_spoken = has_noun(&phrase)
            && phrase.split_whitespace().count() <= MAX_SPOKEN_WORDS
            && phrase.is_ascii();
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
            ("thing", "software", "entry"),
        ] {
            let named = Named::new(None, phrase, phrase);
            assert_eq!(
                (named.kind.id.as_str(), named.item.as_str()),
                (kind, item),
                "{phrase}"
            );
        }
    }

    #[test]
    fn a_title_leads_back_to_the_product() {
        for (brand, phrase) in [
            (None, "habit tracker"),
            (None, "CRM"),
            (None, "Fitness"),
            (None, "🏃📱"),
            (None, ""),
            (Some("Velo"), "bike rental marketplace"),
        ] {
            let named = Named::new(brand, phrase, phrase);
            let again = Named::of_title(&named.title, "", named.kind.project_type);
            assert_eq!(again.kind.id, named.kind.id, "{phrase}");
            assert_eq!(
                again.spoken.to_lowercase(),
                named.spoken.to_lowercase(),
                "{phrase}"
            );
        }
    }
}
