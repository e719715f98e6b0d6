//! What makes a PRD one that can be built from.

use std::collections::HashSet;

use super::super::limits;
use super::super::text::{is_numbered, normalised, quoted};
use super::{Finding, PrdDraft, Requirement, RequirementPriority};

/// Most characters of a title.
pub const MAX_TITLE_CHARS: usize = 80;
/// Most words of a summary.
pub const MAX_SUMMARY_WORDS: usize = 120;
/// Most goals.
pub const MAX_GOALS: usize = 5;
/// Most requirements.
pub const MAX_REQUIREMENTS: usize = 40;
/// Most open questions.
pub const MAX_OPEN_QUESTIONS: usize = 5;

pub(super) fn findings(draft: &PrdDraft, brief: &str) -> Vec<Finding> {
    let mut check = Check {
        brief: normalised(brief),
        goals: draft.goals.iter().map(|goal| goal.id.as_str()).collect(),
        personas: draft.personas.iter().map(|who| who.id.as_str()).collect(),
        found: Vec::new(),
    };
    limits::check(draft, &mut check.found);
    check.head(draft);
    check.ids(draft);
    check.goals(draft);
    check.requirements(draft);
    check.found
}

struct Check<'a> {
    brief: String,
    goals: HashSet<&'a str>,
    personas: HashSet<&'a str>,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn say(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.found.push(Finding::new(path, problem));
    }

    fn not_empty(&mut self, path: impl Into<String>, text: &str) {
        if text.trim().is_empty() {
            self.say(path, "is empty; write a sentence");
        }
    }

    fn head(&mut self, draft: &PrdDraft) {
        self.not_empty("/title", &draft.title);
        self.not_empty("/language", &draft.language);
        self.not_empty("/problem", &draft.problem);
        self.not_empty("/summary", &draft.summary);
        let length = draft.title.chars().count();
        if length > MAX_TITLE_CHARS {
            self.say(
                "/title",
                format!("has {length} characters; write at most {MAX_TITLE_CHARS}"),
            );
        }
        let words = draft.summary.split_whitespace().count();
        if words > MAX_SUMMARY_WORDS {
            self.say(
                "/summary",
                format!("has {words} words; write at most {MAX_SUMMARY_WORDS}"),
            );
        }
        let questions = draft.open_questions.len();
        if questions > MAX_OPEN_QUESTIONS {
            self.say(
                "/open_questions",
                format!(
                    "has {questions} questions; keep the {MAX_OPEN_QUESTIONS} that matter most"
                ),
            );
        }
    }

    fn ids(&mut self, draft: &PrdDraft) {
        let goals = draft.goals.iter().map(|goal| goal.id.as_str());
        self.numbered("/goals", goals, "G", 1);
        let personas = draft.personas.iter().map(|persona| persona.id.as_str());
        self.numbered("/personas", personas, "U", 1);
        let requirements = draft.requirements.iter().map(|it| it.id.as_str());
        self.numbered("/requirements", requirements, "R-", 3);
        let open = draft.open_questions.iter().map(|open| open.id.as_str());
        self.numbered("/open_questions", open, "Q", 1);
        let risks = draft.risks.iter().map(|risk| risk.id.as_str());
        self.numbered("/risks", risks, "K", 1);
    }

    /// Ids are well formed, and no two are the same.
    fn numbered<'i>(
        &mut self,
        path: &str,
        ids: impl Iterator<Item = &'i str>,
        prefix: &str,
        digits: usize,
    ) {
        let mut seen = HashSet::new();
        for (at, id) in ids.enumerate() {
            let place = format!("{path}/{at}/id");
            if !is_numbered(id, prefix, digits) {
                let example = format!("{prefix}{:0digits$}", at + 1);
                self.say(place, format!("is {}; write it as {example}", quoted(id)));
            } else if !seen.insert(id) {
                self.say(
                    place,
                    format!("{} is used twice; ids are unique", quoted(id)),
                );
            }
        }
    }

    fn goals(&mut self, draft: &PrdDraft) {
        if draft.goals.is_empty() || draft.goals.len() > MAX_GOALS {
            self.say(
                "/goals",
                format!("has {} goals; write 1 to {MAX_GOALS}", draft.goals.len()),
            );
        }
        for (at, goal) in draft.goals.iter().enumerate() {
            self.not_empty(format!("/goals/{at}/statement"), &goal.statement);
            let is_served = draft
                .requirements
                .iter()
                .any(|requirement| requirement.goal_ids.contains(&goal.id));
            if !is_served {
                self.say(
                    format!("/goals/{at}"),
                    format!(
                        "no requirement serves {}; name it in a requirement's goal_ids or drop it",
                        quoted(&goal.id)
                    ),
                );
            }
        }
        if draft.personas.is_empty() {
            self.say("/personas", "is empty; say for whom the product is");
        }
    }

    fn requirements(&mut self, draft: &PrdDraft) {
        let count = draft.requirements.len();
        if count > MAX_REQUIREMENTS {
            self.say(
                "/requirements",
                format!("has {count} requirements; keep the {MAX_REQUIREMENTS} that matter most"),
            );
        }
        let is_pointless_without = draft
            .requirements
            .iter()
            .any(|requirement| requirement.priority == RequirementPriority::P0);
        if !is_pointless_without {
            self.say(
                "/requirements",
                "none has priority P0; say what the product is pointless without",
            );
        }
        for (at, requirement) in draft.requirements.iter().enumerate() {
            self.requirement(&format!("/requirements/{at}"), requirement);
        }
    }

    fn requirement(&mut self, path: &str, requirement: &Requirement) {
        self.not_empty(format!("{path}/statement"), &requirement.statement);
        self.not_empty(format!("{path}/rationale"), &requirement.rationale);
        self.source(path, requirement);
        for (at, id) in requirement.goal_ids.iter().enumerate() {
            if !self.goals.contains(id.as_str()) {
                let problem = format!("{} is not a goal of this document", quoted(id));
                self.say(format!("{path}/goal_ids/{at}"), problem);
            }
        }
        for (at, id) in requirement.persona_ids.iter().enumerate() {
            if !self.personas.contains(id.as_str()) {
                let problem = format!("{} is not a persona of this document", quoted(id));
                self.say(format!("{path}/persona_ids/{at}"), problem);
            }
        }
        if requirement.acceptance.is_empty() {
            self.say(
                format!("{path}/acceptance"),
                "is empty; say how somebody else finds out that it holds",
            );
        }
        let mut seen = HashSet::new();
        for (at, acceptance) in requirement.acceptance.iter().enumerate() {
            let place = format!("{path}/acceptance/{at}");
            let prefix = format!("{}.A", requirement.id);
            if !is_numbered(&acceptance.id, &prefix, 1) {
                let problem = format!(
                    "is {}; write it as {prefix}{}",
                    quoted(&acceptance.id),
                    at + 1
                );
                self.say(format!("{place}/id"), problem);
            } else if !seen.insert(&acceptance.id) {
                let problem = format!("{} is used twice; ids are unique", quoted(&acceptance.id));
                self.say(format!("{place}/id"), problem);
            }
            self.not_empty(format!("{place}/when"), &acceptance.when);
            self.not_empty(format!("{place}/then"), &acceptance.then);
        }
    }

    /// Every requirement has its source in the brief, or says that it has not.
    fn source(&mut self, path: &str, requirement: &Requirement) {
        let place = format!("{path}/source_quote");
        let quote = requirement.source_quote.as_deref().map(normalised);
        match quote.filter(|quote| !quote.is_empty()) {
            Some(quote) if !self.brief.contains(&quote) => {
                let problem = format!(
                    "{} is not in the brief; copy its words letter by letter, or leave it out and set derived to true",
                    quoted(&quote)
                );
                self.say(place, problem);
            }
            None if !requirement.derived => self.say(
                place,
                "is missing; quote the brief, or set derived to true if the brief does not say it",
            ),
            _ => {}
        }
    }
}
