//! Sentences around wishes that the rules do not know.

use super::super::brief::{Weight, Wish};
use super::super::product::{Named, plain};
use super::super::vocabulary::{MODALS, PEOPLE, SERVICES, SUBJECTS, VERBS};
use super::super::words::{capitalised, short, uncapitalised};
use crate::document::{Acceptance, ProjectType, Verify};

/// Most characters of a wish inside another sentence.
const MAX_INSIDE_CHARS: usize = 120;

#[derive(Debug)]
pub(super) struct Worded {
    pub(super) statement: String,
    pub(super) rationale: String,
    pub(super) acceptance: Vec<Acceptance>,
}

pub(super) fn of(wish: &Wish, named: &Named, language: &str) -> Worded {
    let inside = short(&wish.quote, MAX_INSIDE_CHARS);
    if wish.is_given {
        return Worded {
            statement: format!("This holds throughout the work: “{inside}”"),
            rationale: "The brief gives it; it narrows how everything else is done.".to_owned(),
            acceptance: vec![criterion(
                "the finished work",
                format!("it is held against “{inside}”"),
                "nothing in it contradicts that",
                Verify::Review,
            )],
        };
    }
    let is_software = named.kind.project_type == ProjectType::Software;
    let statement = match language {
        "en" if is_software => sentence(wish, named, &inside),
        "en" => format!(
            "The result covers {}",
            said_by_another(&uncapitalised(&inside))
        ),
        _ => format!(
            "The {} fulfils this wish of the brief: “{inside}”",
            named.spoken
        ),
    };
    let mut acceptance = vec![criterion(
        "somebody for whom the product is made",
        format!("they look for “{inside}”"),
        "they find it and get what they came for without help",
        Verify::Manual,
    )];
    if is_software {
        acceptance.push(criterion(
            "wrong or missing input",
            "the same is tried with it".to_owned(),
            "the user is told what is wrong and nothing that was entered is lost",
            Verify::AutoTest,
        ));
    }
    Worded {
        statement,
        rationale: "The brief asks for it in these words; what exactly is meant is to be settled with its author.".to_owned(),
        acceptance,
    }
}

fn criterion(given: &str, when: String, then: &str, verify: Verify) -> Acceptance {
    Acceptance {
        id: String::new(),
        given: given.to_owned(),
        when,
        then: then.to_owned(),
        verify,
    }
}

/// The wish as a sentence about a user or about the product, by the form of its first words.
fn sentence(wish: &Wish, named: &Named, inside: &str) -> String {
    let text = said_by_another(&uncapitalised(inside));
    let words: Vec<String> = text.split_whitespace().take(3).map(plain).collect();
    let first = words.first().map_or("", String::as_str);
    // "Owners publish", "people can", and not "shopping list".
    let has_subject = words.windows(2).any(|pair| {
        let is_plural = pair[0].ends_with('s') || SUBJECTS.has(&pair[0]) || PEOPLE.has(&pair[0]);
        MODALS.has(&pair[1]) || (is_plural && VERBS.has(&pair[1]))
    });
    let is_third_person = first.len() > 3 && first.ends_with('s') && !first.ends_with("ss");
    if is_third_person && (wish.is_predicate || VERBS.has(first.trim_end_matches('s'))) {
        format!("The {} {text}", named.spoken)
    } else if wish.weight == Weight::Headline && SERVICES.has(first) {
        let rest = text[first.len()..].trim_start();
        format!("The {} {first}s {rest}", named.spoken)
    } else if has_subject && !VERBS.has(first) {
        capitalised(&text)
    } else if VERBS.has(first) {
        format!("A user can {text}")
    } else {
        format!("The {} offers {text}", named.spoken)
    }
}

/// The words of the founder as somebody else would say them.
fn said_by_another(text: &str) -> String {
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| match word.to_lowercase().as_str() {
            "my" | "our" => "their",
            "me" | "us" => "them",
            "i" | "we" => "they",
            _ => word,
        })
        .collect();
    words.join(" ")
}
