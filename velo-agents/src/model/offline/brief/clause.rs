//! A sentence, split into what it wishes.

use super::super::product::{Named, plain, word_spans};
use super::super::vocabulary::{ARTICLES, FILLERS, JOINTS, LISTS, RELATIVES, SUBJECTS, VERBS};
use super::super::words::Words;
use super::signs::facets_in;

/// How many words behind an `and` tell whether a wish of its own follows.
const WORDS_AHEAD: usize = 3;

/// A piece of a sentence that wishes one thing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clause<'t> {
    pub(super) text: &'t str,
    /// Whether it follows `that` or `which`.
    pub(super) is_predicate: bool,
}

/// A sentence at its commas, and at each `and` that joins two wishes rather than two words.
pub(super) fn split<'t>(text: &'t str, named: &Named) -> Vec<Clause<'t>> {
    const COMMAS: [char; 3] = [',', '、', '，'];
    let is_list = text.contains(COMMAS) || LISTS.begins(&Words::of(text));
    let mut clauses = Vec::new();
    for piece in text.split([',', '、', '，', '•', '/', '(', ')']) {
        let mut start = 0;
        for (at, end) in word_spans(piece) {
            if !JOINTS.has(&plain(&piece[at..end])) {
                continue;
            }
            if is_list || begins_a_wish(&piece[end..], named) {
                clauses.extend(clean(&piece[start..at]));
                start = end;
            }
        }
        clauses.extend(clean(&piece[start..]));
    }
    clauses
}

/// Whether a wish of its own follows, as in "sign up **and log in**".
fn begins_a_wish(right: &str, named: &Named) -> bool {
    let ahead: Vec<&str> = right.split_whitespace().take(WORDS_AHEAD).collect();
    let words = Words::of(&ahead.join(" "));
    facets_in(&words, named).next().is_some() || VERBS.begins(&words) || SUBJECTS.begins(&words)
}

/// A clause without the small words at its beginning.
fn clean(text: &str) -> Option<Clause<'_>> {
    let mut is_predicate = false;
    for (at, end) in word_spans(text) {
        let word = plain(&text[at..end]);
        if FILLERS.has(&word) {
            is_predicate = RELATIVES.has(&word);
        } else if !word.is_empty() || !text[at..end].is_ascii() {
            let text = text[at..].trim();
            let has_words = text
                .split_whitespace()
                .any(|word| !ARTICLES.has(&plain(word)));
            return has_words.then_some(Clause { text, is_predicate });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_and_splits_wishes_and_not_words() {
        let named = Named::new(None, "shop", "", "");
        for (text, wishes) in [
            ("with streaks and reminders", &["streaks", "reminders"][..]),
            (
                "Users can sign up and log in",
                &["Users can sign up", "log in"],
            ),
            (
                "that shows weekly and monthly totals",
                &["shows weekly and monthly totals"],
            ),
            (
                "- , search, and a map (optional)",
                &["search", "a map", "optional"],
            ),
            ("，提醒、搜索", &["提醒", "搜索"]),
            ("with and the", &[]),
        ] {
            let found: Vec<&str> = split(text, &named).iter().map(|it| it.text).collect();
            assert_eq!(found, wishes, "{text}");
        }
    }
}
