//! What a brief says, sorted by what it is good for. Everything quoted is a piece of the brief.

mod clause;
mod reader;
mod signs;

use super::knowledge::Facet;
use super::language;
use super::product::{Named, has_noun, name_in, plain, word_spans};
use super::sentence::{Sentence, Shape, sentences};
use super::vocabulary::{NEGATIONS, PLATFORMS, WANTS};
use super::words::{Words, short};

pub(super) use signs::{facets_in, is_people};

use reader::Reader;
use signs::{addresses_the_writer, section_of};

/// Most characters of a quote.
const MAX_QUOTE_CHARS: usize = 200;
/// Among how many sentences at the beginning the product is looked for.
const MAX_OPENING: usize = 5;
/// Among how many words of a sentence its wish is looked for.
const MAX_WORDS_BEFORE: usize = 12;
/// Most remarks on an earlier draft that are repeated.
const MAX_REMARKS: usize = 5;

/// A brief, read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) named: Named,
    /// The words that name the product.
    pub(super) quote: Option<String>,
    /// What the brief says right behind a name that says little.
    pub(super) purpose: Option<Wish>,
    pub(super) audience: Option<String>,
    pub(super) wishes: Vec<Wish>,
    pub(super) excluded: Vec<String>,
    pub(super) background: Vec<String>,
    pub(super) questions: Vec<String>,
    /// Sentences that speak to the writer.
    pub(super) addressed: Vec<String>,
    /// Wishes that were not followed up.
    pub(super) left_out: usize,
    pub(super) language: &'static str,
    pub(super) has_words: bool,
    /// Whether it says where the product runs.
    pub(super) names_platform: bool,
}

/// Something that the brief asks for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) quote: String,
    pub(super) facet: Option<&'static Facet>,
    pub(super) weight: Weight,
    /// Whether it is a given rather than a function.
    pub(super) is_given: bool,
    /// Whether it follows `that` or `which` and so says what the product does.
    pub(super) is_predicate: bool,
}

/// How much the brief cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Headline,
    Plain,
    Maybe,
}

impl Reading {
    fn of(named: Named, text: &str) -> Self {
        Self {
            named,
            quote: None,
            purpose: None,
            audience: None,
            wishes: Vec::new(),
            excluded: Vec::new(),
            background: Vec::new(),
            questions: Vec::new(),
            addressed: Vec::new(),
            left_out: 0,
            language: language::guess(text),
            has_words: text.chars().any(char::is_alphabetic),
            names_platform: PLATFORMS.is_in(&Words::of(text)),
        }
    }

    /// The known wishes.
    pub(super) fn facets(&self) -> impl Iterator<Item = &'static Facet> {
        self.wishes.iter().filter_map(|wish| wish.facet)
    }

    /// Whether something that is not wanted sounds like `facet`.
    pub(super) fn excludes(&self, facet: &Facet) -> bool {
        let mut excluded = self.excluded.iter();
        excluded.any(|text| facet.hits(&Words::of(text)).is_some())
    }

    /// Whether the brief says hardly more than a name that is not known.
    pub(super) fn says_little(&self) -> bool {
        self.wishes.is_empty() && self.purpose.is_none() && self.named.kind.purpose
    }
}

pub(super) fn read(brief: &str) -> Reading {
    let (all, more) = sentences(brief);
    let (brand, at) = opening(&all);
    let (situation, text) = at.map_or(("", ""), |at| wanted(all[at].text));
    let (phrase, after) = name_in(text);
    let mut reading = Reading::of(Named::new(brand, phrase, text, brief), brief);
    reading.background.extend(quotable(situation));
    reading.quote = quotable(phrase);
    reading.left_out = more;
    let mut reader = Reader::new(reading);
    let before = at.unwrap_or(all.len());
    for sentence in &all[..before] {
        reader.before_the_name(sentence, brand);
    }
    reader.name(phrase, after);
    for sentence in all.iter().skip(before + 1) {
        reader.sentence(sentence);
    }
    reader.finish()
}

/// The wishes in `remarks` on an earlier draft of the document about `named`, and the remarks.
pub(super) fn read_remarks(remarks: &str, named: &Named) -> (Reading, Vec<String>) {
    let (all, _) = sentences(remarks);
    let mut reader = Reader::new(Reading::of(named.clone(), remarks));
    for sentence in &all {
        reader.sentence(sentence);
    }
    let said = all
        .iter()
        .map(|sentence| short(sentence.text, MAX_QUOTE_CHARS))
        .take(MAX_REMARKS)
        .collect();
    (reader.finish(), said)
}

/// The sentence that names the product, and a name of its own that stands before it: "Velo: a bike
/// rental" has one, while "# Habit tracker" is the product itself.
fn opening<'t>(all: &[Sentence<'t>]) -> (Option<&'t str>, Option<usize>) {
    let is_open = |sentence: &Sentence<'_>| {
        !addresses_the_writer(sentence.text)
            && (sentence.shape != Shape::Label || section_of(sentence.text).is_none())
    };
    let says_what = |at: &usize| {
        let text = all[*at].text;
        is_open(&all[*at])
            && !NEGATIONS.is_in(&Words::of(text))
            && has_noun(name_in(wanted(text).1).0)
    };
    let at = (0..all.len().min(MAX_OPENING))
        .find(says_what)
        .or_else(|| (0..all.len()).find(|at| is_open(&all[*at])));
    let brand = at
        .filter(|at| *at > 0)
        .map(|at| all[at - 1])
        .filter(|before| before.shape == Shape::Label && is_open(before))
        .map(|before| before.text);
    (brand, at)
}

/// A sentence without what comes before its wish, and that: "we are a gym and need something".
fn wanted(sentence: &str) -> (&str, &str) {
    let name = name_in(sentence).0;
    if has_noun(name) && !WANTS.is_in(&Words::of(name)) {
        return ("", sentence);
    }
    let is_want = |span: &(usize, usize)| WANTS.has(&plain(&sentence[span.0..span.1]));
    match word_spans(sentence).take(MAX_WORDS_BEFORE).find(is_want) {
        Some((start, end)) if !sentence[end..].trim().is_empty() => {
            let situation = sentence[..start].trim_end();
            let situation = situation.strip_suffix(" and").unwrap_or(situation);
            // "I need": nothing is said before the wish.
            let is_said = situation.split_whitespace().count() > 2;
            (if is_said { situation } else { "" }, &sentence[end..])
        }
        _ => ("", sentence),
    }
}

/// A piece of the brief as a quote; `None` when there is nothing in it.
fn quotable(text: &str) -> Option<String> {
    let is_edge = |letter: char| letter.is_whitespace() || ",;:.-–—".contains(letter);
    let quote = short(text.trim_matches(is_edge), MAX_QUOTE_CHARS);
    (!quote.is_empty()).then_some(quote)
}
