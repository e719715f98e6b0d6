//! Reading sentence by sentence.

use super::super::knowledge::Facet;
use super::super::product::{plain, word_spans};
use super::super::sentence::{Sentence, Shape};
use super::super::vocabulary::{
    ARTICLES, AUDIENCE_ENDS, DUTIES, FOR, GIVEN, MAYBES, PLACES, TROUBLE, VERBS,
};
use super::super::words::Words;
use super::clause::{Clause, split};
use super::signs::{Section, addresses_the_writer, facets_in, is_negative, is_people, section_of};
use super::{Reading, Weight, Wish, quotable};

/// Most wishes that are followed up.
const MAX_WISHES: usize = 14;
/// Most clauses that are looked at.
const MAX_CLAUSES: usize = 1_000;
/// Most pieces of text of any other kind that are kept.
const MAX_KEPT: usize = 5;
/// Most known wishes that one clause is read as.
const MAX_FACETS: usize = 2;
/// Wishes in the sentence that names the product, up to this many, are what it is about.
const MAX_HEADLINE: usize = 3;
/// Most words for an audience.
const MAX_AUDIENCE_WORDS: usize = 8;
/// Most names of wishes in a title.
const MAX_TITLE_NAMES: usize = 2;

#[derive(Debug)]
pub(super) struct Reader {
    section: Section,
    /// Whether the section's list has begun.
    has_points: bool,
    clauses_read: usize,
    reading: Reading,
}

impl Reader {
    pub(super) fn new(reading: Reading) -> Self {
        Self {
            section: Section::Wishes,
            has_points: false,
            clauses_read: 0,
            reading,
        }
    }

    /// The reading, with a title that says something.
    pub(super) fn finish(mut self) -> Reading {
        let reading = &mut self.reading;
        let is_one_word = !reading.named.title.contains(' ');
        if is_one_word && reading.named.kind.purpose {
            let names: Vec<String> = reading
                .facets()
                .map(|facet| facet.name.clone())
                .take(MAX_TITLE_NAMES)
                .collect();
            if !names.is_empty() {
                let behind = format!("with {}", names.join(" and "));
                reading.named = reading.named.clone().titled(&behind);
            }
        }
        self.reading
    }

    /// What comes before the product is named is about the world and not about the product, unless
    /// it contains a known wish.
    pub(super) fn before_the_name(&mut self, sentence: &Sentence<'_>, brand: Option<&str>) {
        if brand == Some(sentence.text) {
            return;
        }
        let words = Words::of(sentence.text);
        let is_wish = facets_in(&words, &self.reading.named).next().is_some();
        if is_wish || sentence.shape == Shape::Label || addresses_the_writer(sentence.text) {
            return self.sentence(sentence);
        }
        self.keep(|reading| &mut reading.background, sentence.text);
    }

    /// The name of the product, and the rest of the sentence that has it.
    pub(super) fn name(&mut self, phrase: &str, after: &str) {
        self.facets_of(phrase, Weight::Headline, false);
        let (before, behind) = self.audience(after);
        let named = self.reading.named.clone();
        let says_purpose =
            |clause: &Clause<'_>| clause.is_predicate || VERBS.begins(&Words::of(clause.text));
        let near = if before.trim().is_empty() {
            behind
        } else {
            before
        };
        let first = split(near, &named).into_iter().next();
        if let Some(clause) = first.filter(|clause| named.kind.purpose && says_purpose(clause)) {
            self.reading.purpose = quotable(clause.text).map(|quote| Wish {
                quote,
                facet: None,
                weight: Weight::Headline,
                is_given: false,
                is_predicate: clause.is_predicate,
            });
            let end = clause.text.as_ptr() as usize - after.as_ptr() as usize + clause.text.len();
            self.reading.named = named.titled(after[..end].trim());
        } else if let Some(audience) = self.reading.audience.as_deref() {
            let words: Vec<&str> = audience
                .split_whitespace()
                .skip_while(|word| ARTICLES.has(&plain(word)))
                .collect();
            if !words.is_empty() {
                self.reading.named = named.titled(&format!("for {}", words.join(" ")));
            }
        }
        self.clauses(before, Weight::Headline);
        self.clauses(behind, Weight::Headline);
    }

    pub(super) fn sentence(&mut self, sentence: &Sentence<'_>) {
        let text = sentence.text;
        if sentence.shape == Shape::Label {
            self.section = section_of(text).unwrap_or(Section::Wishes);
            self.has_points = false;
            return;
        }
        // Running text behind a list is no longer a part of it.
        if sentence.shape == Shape::Plain && self.has_points {
            self.section = Section::Wishes;
        }
        self.has_points |= sentence.shape == Shape::Point;
        if addresses_the_writer(text) {
            return self.keep(|reading| &mut reading.addressed, text);
        }
        if sentence.is_question {
            return self.keep(|reading| &mut reading.questions, text);
        }
        match self.section {
            Section::Excluded => self.keep(|reading| &mut reading.excluded, text),
            Section::Background => self.keep(|reading| &mut reading.background, text),
            Section::Later => self.clauses(text, Weight::Maybe),
            Section::People => {
                let said = self.reading.audience.take();
                self.reading.audience = said.or_else(|| quotable(text));
            }
            Section::Wishes => {
                let words = Words::of(text);
                let is_wish = facets_in(&words, &self.reading.named).next().is_some();
                if TROUBLE.is_in(&words) && !is_wish {
                    return self.keep(|reading| &mut reading.background, text);
                }
                self.clauses(text, Weight::Plain);
            }
        }
    }

    /// What stands before and behind the words of `rest` that say for whom the product is, which
    /// are kept.
    fn audience<'t>(&mut self, rest: &'t str) -> (&'t str, &'t str) {
        let is_for = |span: &(usize, usize)| FOR.has(&plain(&rest[span.0..span.1]));
        let Some((at, behind)) = word_spans(rest).find(is_for) else {
            return (rest, "");
        };
        let mut found: Option<(usize, usize)> = None;
        for (start, end) in word_spans(&rest[behind..]).take(MAX_AUDIENCE_WORDS) {
            let (start, end) = (start + behind, end + behind);
            let raw = &rest[start..end];
            let word = plain(raw);
            if AUDIENCE_ENDS.has(&word) || (found.is_none() && word.ends_with("ing")) {
                break;
            }
            let bare = raw.trim_end_matches([',', ';', ':', ')', '，', '、']);
            found = Some((found.map_or(start, |(from, _)| from), start + bare.len()));
            if bare.len() < raw.len() {
                break;
            }
        }
        // Further back, "for" also says what a function is about: "reminders for each habit".
        let is_first = rest[..at].trim().is_empty();
        let is_audience = |(start, end): &(usize, usize)| {
            let audience = Words::of(&rest[*start..*end]);
            is_first || is_people(&audience) || ARTICLES.begins(&audience)
        };
        match found.filter(is_audience) {
            Some((start, end)) => {
                self.reading.audience = quotable(&rest[start..end]);
                (&rest[..at], &rest[end..])
            }
            None => (rest, ""),
        }
    }

    /// The clauses of a sentence, each read as a wish or what else it is.
    fn clauses(&mut self, text: &str, weight: Weight) {
        let weight = match MAYBES.is_in(&Words::of(text)) {
            true => Weight::Maybe,
            false => weight,
        };
        let mut headline = 0;
        for clause in split(text, &self.reading.named) {
            self.clauses_read += 1;
            if self.clauses_read > MAX_CLAUSES {
                self.reading.left_out += 1;
                continue;
            }
            let words = Words::of(clause.text);
            if is_negative(&words) {
                self.keep(|reading| &mut reading.excluded, clause.text);
                continue;
            }
            let weight = match weight {
                _ if DUTIES.is_in(&words) => Weight::Headline,
                Weight::Headline if headline >= MAX_HEADLINE => Weight::Plain,
                weight => weight,
            };
            headline += 1;
            self.wish(clause, &words, weight);
        }
    }

    fn wish(&mut self, clause: Clause<'_>, words: &Words, weight: Weight) {
        if self.facets_of(clause.text, weight, clause.is_predicate) {
            return;
        }
        let is_same = |wish: &Wish| Words::of(&wish.quote).iter().eq(words.iter());
        let reading = &self.reading;
        if reading.wishes.iter().chain(&reading.purpose).any(is_same) {
            return;
        }
        let is_given =
            GIVEN.is_in(words) || PLACES.begins(words) || clause.text.contains(['$', '€', '£']);
        self.push(clause.text, None, weight, is_given, clause.is_predicate);
    }

    /// Whether the text contains known wishes; those not met before are kept.
    fn facets_of(&mut self, text: &str, weight: Weight, is_predicate: bool) -> bool {
        let found: Vec<&'static Facet> = facets_in(&Words::of(text), &self.reading.named)
            .take(MAX_FACETS)
            .collect();
        for facet in &found {
            if self.reading.facets().all(|known| known.id != facet.id) {
                self.push(text, Some(facet), weight, false, is_predicate);
            }
        }
        !found.is_empty()
    }

    fn push(
        &mut self,
        text: &str,
        facet: Option<&'static Facet>,
        weight: Weight,
        is_given: bool,
        is_predicate: bool,
    ) {
        if self.reading.wishes.len() >= MAX_WISHES {
            self.reading.left_out += 1;
        } else if let Some(quote) = quotable(text) {
            self.reading.wishes.push(Wish {
                quote,
                facet,
                // A given narrows the product; it is not what the product is about.
                weight: match weight {
                    Weight::Headline if is_given => Weight::Plain,
                    weight => weight,
                },
                is_given,
                is_predicate,
            });
        }
    }

    fn keep(&mut self, list: impl FnOnce(&mut Reading) -> &mut Vec<String>, text: &str) {
        let list = list(&mut self.reading);
        if list.len() < MAX_KEPT {
            list.extend(quotable(text));
        }
    }
}
