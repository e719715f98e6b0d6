//! What a brief calls its product, and which kind of product that is.

use super::knowledge::{Knowledge, Product};
use super::words::{Words, capitalised, one, plural, short, singular, uncapitalised};
use crate::document::ProjectType;

/// Most words of a product's name.
const MAX_NAME_WORDS: usize = 6;
/// Most words before the name that are passed over.
const MAX_LEAD_WORDS: usize = 14;
/// Most characters of a title.
const MAX_TITLE_CHARS: usize = 70;
/// The title of what has no name.
const UNTITLED: &str = "Untitled product";
/// Longest name with which sentences can still be read.
const MAX_SPOKEN_WORDS: usize = 4;

/// Words with which people begin before they come to the product.
const LEAD: [&str; 75] = [
    "also",
    "hi",
    "hello",
    "hey",
    "there",
    "please",
    "can",
    "could",
    "you",
    "i",
    "we",
    "id",
    "wed",
    "im",
    "want",
    "wants",
    "wanted",
    "need",
    "needs",
    "would",
    "like",
    "love",
    "to",
    "help",
    "me",
    "us",
    "lets",
    "build",
    "make",
    "create",
    "develop",
    "design",
    "write",
    "code",
    "implement",
    "plan",
    "launch",
    "prepare",
    "draft",
    "produce",
    "have",
    "an",
    "a",
    "the",
    "my",
    "our",
    "idea",
    "for",
    "is",
    "its",
    "it",
    "this",
    "should",
    "be",
    "some",
    "simple",
    "small",
    "new",
    "nice",
    "good",
    "great",
    "looking",
    "ein",
    "eine",
    "einen",
    "un",
    "une",
    "una",
    "uno",
    "um",
    "uma",
    "een",
    "ich",
    "möchte",
    "brauche",
];

/// Words that end the name of a product.
const ENDS: [&str; 52] = [
    "with",
    "that",
    "which",
    "who",
    "for",
    "where",
    "so",
    "to",
    "using",
    "including",
    "featuring",
    "like",
    "based",
    "in",
    "on",
    "from",
    "by",
    "when",
    "plus",
    "it",
    "its",
    "because",
    "called",
    "named",
    "without",
    "as",
    "via",
    "is",
    "will",
    "should",
    "can",
    "must",
    "has",
    "of",
    "about",
    "helps",
    "lets",
    "allows",
    "mit",
    "für",
    "die",
    "der",
    "das",
    "avec",
    "pour",
    "con",
    "para",
    "com",
    "met",
    "voor",
    "per",
    "at",
];

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
        let kind = kind_of(phrase).unwrap_or_else(|| fallback(type_of(around)));
        Self::of_kind(brand, phrase, kind)
    }

    /// The same product with words behind a title that would say little without them.
    pub(super) fn titled(self, behind: &str) -> Self {
        let is_bare = self.kind.purpose || self.kind.project_type != ProjectType::Software;
        if !is_bare || self.title == UNTITLED {
            return self;
        }
        Self {
            title: short(&format!("{} {behind}", self.title), MAX_TITLE_CHARS),
            ..self
        }
    }

    /// The product of a document that is there already.
    pub(super) fn of_title(title: &str, summary: &str, project_type: ProjectType) -> Self {
        let kind = kind_of(title)
            .or_else(|| kind_of(summary.split('.').next().unwrap_or_default()))
            .filter(|kind| kind.project_type == project_type)
            .unwrap_or_else(|| fallback(project_type));
        let (brand, phrase) = match title.split_once(": ") {
            Some((brand, phrase)) => (Some(brand), phrase),
            None if title == UNTITLED => (None, ""),
            None => (None, title),
        };
        Self::of_kind(brand, name_in(phrase).0, kind)
    }

    fn of_kind(brand: Option<&str>, phrase: &str, kind: &'static Product) -> Self {
        let phrase = short(phrase, MAX_TITLE_CHARS);
        let title = match (brand, phrase.is_empty()) {
            (_, true) => UNTITLED.to_owned(),
            (Some(brand), false) => short(&format!("{brand}: {phrase}"), MAX_TITLE_CHARS),
            (None, false) => capitalised(&phrase),
        };
        let is_spoken = !phrase.is_empty()
            && phrase.split_whitespace().count() <= MAX_SPOKEN_WORDS
            && phrase.is_ascii()
            && phrase.contains(|letter: char| letter.is_ascii_alphabetic());
        let item = kind
            .takes_item
            .then(|| item_before(&phrase, kind))
            .flatten()
            .unwrap_or_else(|| kind.item.clone());
        Self {
            title,
            spoken: match (&kind.called, is_spoken) {
                (Some(called), _) => called.clone(),
                (None, true) => uncapitalised(&phrase),
                (None, false) => generic(kind.project_type).to_owned(),
            },
            kind,
            items: plural(&item),
            item,
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

/// The name of the product at the beginning of `sentence`, and what follows it.
pub(super) fn name_in(sentence: &str) -> (&str, &str) {
    let mut from = None;
    let mut to = 0;
    let mut count = 0;
    let mut has_noun = false;
    for (at, (start, end)) in word_spans(sentence).enumerate() {
        let raw = &sentence[start..end];
        let word = plain(raw);
        if from.is_none() && at < MAX_LEAD_WORDS && LEAD.contains(&word.as_str()) {
            continue;
        }
        let is_joint = ["and", "und", "et", "y", "&", "or"].contains(&word.as_str());
        let is_dash = ["-", "–", "—"].contains(&raw);
        let is_end = ENDS.contains(&word.as_str()) || is_dash || (is_joint && has_noun);
        if is_end || count == MAX_NAME_WORDS {
            break;
        }
        from = from.or(Some(start));
        count += 1;
        has_noun |= noun_of(&word).is_some();
        // A bracket or a comma behind a word ends the name, and is not a part of it.
        let bare = raw.trim_end_matches(|letter: char| ",()[]\"“”、，".contains(letter));
        to = start + bare.len();
        if bare.len() < raw.len() {
            break;
        }
    }
    match from {
        Some(from) if to > from => (&sentence[from..to], &sentence[to..]),
        // All of it was a lead: better a strange name than none.
        _ => match word_spans(sentence).last() {
            Some((start, end)) => (&sentence[start..end], ""),
            None => ("", ""),
        },
    }
}

pub(super) fn word_spans(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.split_whitespace().map(move |word| {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        (start, start + word.len())
    })
}

/// A word for looking it up: lowercase, without signs around it and apostrophes in it.
pub(super) fn plain(word: &str) -> String {
    word.trim_matches(|letter: char| !letter.is_alphanumeric() && letter != '&')
        .chars()
        .filter(|letter| !"'’".contains(*letter))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether a word of `phrase` tells the kind of product.
pub(super) fn has_noun(phrase: &str) -> bool {
    kind_of(phrase).is_some()
}

/// The kind whose noun `word` is; of a word such as `habit-tracker` its last part counts.
fn noun_of(word: &str) -> Option<&'static Product> {
    let last = word.rsplit('-').next().unwrap_or(word);
    [word, last].iter().find_map(|noun| {
        let one = noun.strip_suffix('s').unwrap_or(noun);
        Knowledge::built_in().products.iter().find(|product| {
            product
                .nouns
                .iter()
                .any(|known| known == noun || known == one)
        })
    })
}

/// The last noun decides, unless it only says that there is software: a habit tracker app is a
/// tracker.
fn kind_of(phrase: &str) -> Option<&'static Product> {
    let words: Vec<String> = phrase.split_whitespace().map(plain).collect();
    let mut nouns = words.iter().rev().filter_map(|word| noun_of(word));
    let last = nouns.next()?;
    if last.id != "software" {
        return Some(last);
    }
    nouns
        .find(|product| product.project_type == ProjectType::Software && product.id != "software")
        .or(Some(last))
}

fn type_of(text: &str) -> ProjectType {
    let words = Words::of(text);
    let count = |project_type: ProjectType| {
        let products = Knowledge::built_in().products.iter();
        let nouns = products
            .filter(|product| product.project_type == project_type)
            .flat_map(|product| &product.nouns);
        words
            .iter()
            .filter(|word| nouns.clone().any(|noun| noun == word))
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

fn fallback(project_type: ProjectType) -> &'static Product {
    Knowledge::built_in()
        .products
        .iter()
        .rfind(|product| product.project_type == project_type)
        .expect("there is a kind of product for every type, as a test makes sure")
}

fn generic(project_type: ProjectType) -> &'static str {
    match project_type {
        ProjectType::Software => "product",
        ProjectType::Marketing => "campaign",
        ProjectType::Design => "design",
        ProjectType::Business => "document",
        ProjectType::Content => "text",
    }
}

/// The word before the kind's noun: what a habit tracker tracks.
fn item_before(phrase: &str, kind: &Product) -> Option<String> {
    const ADJECTIVES: [&str; 28] = [
        "simple",
        "mobile",
        "personal",
        "online",
        "web",
        "small",
        "free",
        "family",
        "team",
        "daily",
        "weekly",
        "digital",
        "smart",
        "private",
        "shared",
        "easy",
        "modern",
        "minimal",
        "tiny",
        "open",
        "source",
        "open-source",
        "social",
        "local",
        "group",
        "fast",
        "better",
        "my",
    ];
    let words: Vec<String> = phrase.split_whitespace().map(plain).collect();
    let is_noun = |word: &str| noun_of(word).is_some_and(|product| std::ptr::eq(product, kind));
    let at = words.iter().rposition(|word| is_noun(word))?;
    let before = match words[at].rsplit_once('-') {
        Some((before, _)) if !kind.nouns.contains(&words[at]) => before,
        _ => words.get(at.checked_sub(1)?)?,
    };
    let before = before.rsplit('-').next()?;
    singular(before).filter(|word| !ADJECTIVES.contains(&word.as_str()) && noun_of(word).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_between_what_leads_to_it_and_what_follows() {
        for (sentence, name, rest) in [
            (
                "A habit tracker with streaks",
                "habit tracker",
                " with streaks",
            ),
            ("I want to build a CRM for dentists", "CRM", " for dentists"),
            (
                "Recipe and meal planner, offline",
                "Recipe and meal planner",
                ", offline",
            ),
            ("A website and a shop", "website", " and a shop"),
            ("Tetris", "Tetris", ""),
            ("Build me", "me", ""),
            (
                "Ein Habit-Tracker mit Streaks",
                "Habit-Tracker",
                " mit Streaks",
            ),
        ] {
            let (found, after) = name_in(sentence);
            assert_eq!(found, name, "{sentence}");
            assert!(
                after.ends_with(rest.trim_start_matches(',')),
                "{sentence}: {after}"
            );
        }
    }

    #[test]
    fn the_kind_and_what_it_keeps_follow_from_the_name() {
        for (phrase, kind, item) in [
            ("habit tracker", "tracker", "habit"),
            ("Habit-Tracker", "tracker", "habit"),
            ("water tracker app", "tracker", "entry"),
            ("simple tracker", "tracker", "entry"),
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
}
