//! What is asked of the founder, and what could go wrong.

use super::super::brief::Reading;
use super::super::knowledge::Facet;
use crate::document::{Level, MAX_OPEN_QUESTIONS, OpenQuestion, ProjectType, Risk};

/// Most risks that are listed.
const MAX_RISKS: usize = 6;
/// Most questions that come from known wishes.
const MAX_WISH_QUESTIONS: usize = 3;
/// A brief of fewer words leaves much to the rules.
const SHORT_BRIEF_WORDS: usize = 40;

pub(super) fn questions(
    reading: &Reading,
    facets: &[&Facet],
    is_answered: bool,
) -> Vec<OpenQuestion> {
    let named = &reading.named;
    let mut all: Vec<(String, String, String, bool)> = Vec::new();
    if !reading.has_words {
        all.push((
            "What should the product do, and for whom?".to_owned(),
            "The brief has no words that the rules can read.".to_owned(),
            "Something small that can be tried out and changed".to_owned(),
            !is_answered,
        ));
    }
    if reading.has_words && reading.says_little() {
        all.push((
            format!(
                "What exactly should people be able to do with “{}”?",
                named.title
            ),
            "The brief hardly says more than a name, so that the rules could only guess."
                .to_owned(),
            "One main task, done from beginning to end".to_owned(),
            false,
        ));
    }
    for question in &reading.questions {
        all.push((
            format!("The brief asks: “{question}?”"),
            "It is the founder's own question.".to_owned(),
            "Nothing is built that depends on the answer".to_owned(),
            false,
        ));
    }
    let asked = facets.iter().filter_map(|facet| facet.ask.as_ref());
    for (question, why, default) in asked.take(MAX_WISH_QUESTIONS) {
        all.push((
            named.fill(question),
            named.fill(why),
            named.fill(default),
            false,
        ));
    }
    let has = |ids: &[&str]| facets.iter().any(|facet| ids.contains(&facet.id.as_str()));
    let has_screens = named.kind.project_type == ProjectType::Software && !named.kind.headless;
    if has_screens && named.kind.id != "site" {
        if !reading.names_platform && !has(&["mobile", "immersive"]) {
            all.push((
                "Should it run in a browser, as a phone app, or both?".to_owned(),
                "It decides with what and how often everything is built.".to_owned(),
                "In a browser, on phones too".to_owned(),
                false,
            ));
        }
        let is_settled = has(&[
            "login",
            "sync",
            "roles",
            "social",
            "subscription",
            "payments",
        ]) || !named.kind.needs.is_empty();
        if !is_settled {
            all.push((
                "Does everybody need an account of their own?".to_owned(),
                "Without one, data stays on one device; with one, sign-in and data protection come along.".to_owned(),
                "No account in the first release".to_owned(),
                false,
            ));
        }
    }
    if all.is_empty() {
        all.push((
            "Who decides whether the result is accepted, and by when?".to_owned(),
            "It sets how much is done before the first look.".to_owned(),
            "The author of the brief, as soon as it is there".to_owned(),
            false,
        ));
    }
    all.into_iter()
        .take(MAX_OPEN_QUESTIONS)
        .enumerate()
        .map(
            |(at, (question, why, default_answer, blocking))| OpenQuestion {
                id: format!("Q{}", at + 1),
                question,
                why,
                default_answer,
                blocking,
            },
        )
        .collect()
}

pub(super) fn risks(reading: &Reading, facets: &[&Facet], brief: &str) -> Vec<Risk> {
    let named = &reading.named;
    let mut all: Vec<(String, Level, Level, String)> = facets
        .iter()
        .filter_map(|facet| facet.risk.as_ref())
        .map(|(text, likelihood, impact, mitigation)| {
            (
                named.fill(text),
                *likelihood,
                *impact,
                named.fill(mitigation),
            )
        })
        .take(MAX_RISKS - 1)
        .collect();
    all.push(match brief.split_whitespace().count() < SHORT_BRIEF_WORDS {
        true => (
            "The brief is short, so that much was filled in by rule and may not be what is meant".to_owned(),
            Level::High,
            Level::Medium,
            "Read the assumptions, answer the open questions, and strike what is not wanted before work begins".to_owned(),
        ),
        false => (
            "The rules read words and not meanings, so that a wish may be misunderstood".to_owned(),
            Level::Medium,
            Level::Medium,
            "Compare each requirement with the words that it quotes before work begins".to_owned(),
        ),
    });
    all.into_iter()
        .enumerate()
        .map(|(at, (text, likelihood, impact, mitigation))| Risk {
            id: format!("K{}", at + 1),
            text,
            likelihood,
            impact,
            mitigation,
        })
        .collect()
}
