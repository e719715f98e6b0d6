//! Where in a sentence the product is named.

use super::super::vocabulary::{LEAD, NAME_ENDS};
use super::kind::noun_of;

/// Most words of a product's name.
const MAX_NAME_WORDS: usize = 6;
/// Most words before the name that are passed over.
const MAX_LEAD_WORDS: usize = 14;

/// The name of the product at the beginning of `sentence`, and what follows it.
pub(in super::super) fn name_in(sentence: &str) -> (&str, &str) {
    let mut from = None;
    let mut to = 0;
    let mut count = 0;
    let mut has_noun = false;
    for (at, (start, end)) in word_spans(sentence).enumerate() {
        let raw = &sentence[start..end];
        let word = plain(raw);
        if from.is_none() && at < MAX_LEAD_WORDS && LEAD.has(&word) {
            continue;
        }
        let is_joint = ["and", "und", "et", "y", "&", "or"].contains(&word.as_str());
        let is_dash = ["-", "–", "—"].contains(&raw);
        let is_end = NAME_ENDS.has(&word) || is_dash || (is_joint && has_noun);
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

/// Where each word of `text` begins and ends.
pub(in super::super) fn word_spans(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.split_whitespace().map(move |word| {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        (start, start + word.len())
    })
}

/// A word for looking it up: lowercase, without signs around it and apostrophes in it.
pub(in super::super) fn plain(word: &str) -> String {
    word.trim_matches(|letter: char| !letter.is_alphanumeric() && letter != '&')
        .chars()
        .filter(|letter| !"'’".contains(*letter))
        .flat_map(char::to_lowercase)
        .collect()
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
            ("", "", ""),
        ] {
            assert_eq!(name_in(sentence), (name, rest), "{sentence}");
        }
    }
}
