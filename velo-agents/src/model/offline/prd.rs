//! A PRD by rules: every requirement quotes the brief or says that it is derived.

pub(super) mod goals;
mod wording;

use super::brief::{Reading, Weight, Wish, is_people, read, read_remarks};
use super::knowledge::{Accept, Facet, GoalKey, Knowledge};
use super::language;
use super::product::Named;
use super::words::{Words, capitalised, listed, short};
use crate::document::{
    Acceptance, Level, MAX_OPEN_QUESTIONS, MAX_REQUIREMENTS, MAX_SUMMARY_WORDS, OpenQuestion,
    Persona, PrdDraft, ProjectType, Requirement, RequirementKind, RequirementPriority, Risk,
    SuccessCriterion, Verify,
};

use goals::Goals;

/// Most risks that are listed.
const MAX_RISKS: usize = 6;
/// Most questions that come from known wishes.
const MAX_WISH_QUESTIONS: usize = 3;
/// Most names of wishes in the summary.
const MAX_NAMES: usize = 6;
/// Longest name of a wish in the summary, in characters.
const MAX_NAME_CHARS: usize = 50;
/// A brief of fewer words leaves much to the rules.
const SHORT_BRIEF_WORDS: usize = 40;

/// The draft of a document about `brief` and the remarks on an earlier draft.
pub(super) fn write(brief: &str, remarks: &str) -> PrdDraft {
    let mut reading = read(brief);
    let (said, plain_remarks) = read_remarks(remarks, &reading.named);
    reading.excluded.extend(said.excluded.iter().cloned());
    let unwanted: Vec<Words> = reading
        .excluded
        .iter()
        .map(|text| Words::of(text))
        .collect();
    let is_wanted = |facet: &Facet| !unwanted.iter().any(|words| facet.hits(words).is_some());
    reading
        .wishes
        .retain(|wish| wish.facet.is_none_or(is_wanted));

    let mut writer = Writer {
        goals: Goals::new(&reading.named),
        requirements: Vec::new(),
        named: &reading.named,
    };
    writer.main(&reading);
    for wish in &reading.wishes {
        match wish.facet {
            Some(facet) => writer.known(facet, Some(&wish.quote), wish.weight, &facet.why),
            None => writer.other(wish, reading.language),
        }
    }
    for wish in &said.wishes {
        let is_new = |facet: &Facet| {
            is_wanted(facet)
                && !reading
                    .wishes
                    .iter()
                    .any(|known| known.facet.is_some_and(|known| known.id == facet.id))
        };
        if let Some(facet) = wish.facet.filter(|facet| is_new(facet)) {
            let why = format!(
                "Asked for in a remark on an earlier draft: “{}”.",
                wish.quote
            );
            writer.known(facet, None, Weight::Plain, &why);
        }
    }
    writer.derived(&reading);
    let requirements = writer.requirements;
    let goals = writer.goals.finish();

    let named = &reading.named;
    let facets: Vec<&Facet> = reading
        .wishes
        .iter()
        .chain(&said.wishes)
        .filter_map(|wish| wish.facet)
        .collect();
    PrdDraft {
        title: named.title.clone(),
        language: reading.language.to_owned(),
        project_type: named.kind.project_type,
        problem: problem(&reading),
        summary: summary(&reading),
        personas: personas(&reading),
        out_of_scope: out_of_scope(&reading, &facets),
        assumptions: assumptions(&reading, &plain_remarks),
        open_questions: questions(&reading, &facets, !plain_remarks.is_empty()),
        risks: risks(&reading, &facets, brief),
        success_criteria: goals
            .iter()
            .map(|goal| SuccessCriterion {
                metric: capitalised(goal.metric.as_deref().unwrap_or(&goal.statement)),
                target: goal.target.clone().unwrap_or_default(),
                how_measured: goals::how_measured(named.kind.project_type).to_owned(),
            })
            .collect(),
        goals,
        requirements,
    }
}

struct Writer<'r> {
    goals: Goals,
    requirements: Vec<Requirement>,
    named: &'r Named,
}

impl Writer<'_> {
    /// What the product is pointless without.
    fn main(&mut self, reading: &Reading) {
        let kind = self.named.kind;
        let goal = self.goals.id(GoalKey::Core);
        let (source_quote, statement) = match &reading.purpose {
            Some(purpose) => {
                let worded = wording::of(purpose, self.named, reading.language);
                (Some(purpose.quote.clone()), worded.statement)
            }
            None => (reading.quote.clone(), self.named.fill(&kind.statement)),
        };
        self.add(Requirement {
            id: String::new(),
            derived: source_quote.is_none(),
            source_quote,
            rationale: self.named.fill(&kind.why),
            statement,
            kind: RequirementKind::Functional,
            priority: RequirementPriority::P0,
            goal_ids: vec![goal],
            persona_ids: vec!["U1".to_owned()],
            acceptance: acceptance(self.named, &kind.accept),
        });
    }

    fn known(&mut self, facet: &Facet, quote: Option<&str>, weight: Weight, why: &str) {
        let goal = self.goals.id(facet.goal);
        self.add(Requirement {
            id: String::new(),
            derived: quote.is_none(),
            source_quote: quote.map(str::to_owned),
            rationale: self.named.fill(why),
            statement: self.named.fill(&facet.statement),
            kind: facet.kind,
            priority: priority(weight),
            goal_ids: vec![goal],
            persona_ids: vec!["U1".to_owned()],
            acceptance: acceptance(self.named, &facet.accept),
        });
    }

    fn other(&mut self, wish: &Wish, language: &str) {
        let worded = wording::of(wish, self.named, language);
        let goal = self.goals.id(GoalKey::Core);
        self.add(Requirement {
            id: String::new(),
            derived: false,
            source_quote: Some(wish.quote.clone()),
            rationale: worded.rationale,
            statement: worded.statement,
            kind: match wish.is_given {
                true => RequirementKind::Constraint,
                false => RequirementKind::Functional,
            },
            priority: priority(wish.weight),
            goal_ids: vec![goal],
            persona_ids: vec!["U1".to_owned()],
            acceptance: worded.acceptance,
        });
    }

    /// The little that a product of its kind cannot do without.
    fn derived(&mut self, reading: &Reading) {
        let kind = self.named.kind;
        let has = |id: &str| {
            let mut facets = reading.wishes.iter().filter_map(|wish| wish.facet);
            facets.any(|facet| facet.id == id)
        };
        let needed = Knowledge::built_in()
            .facets
            .iter()
            .filter(|facet| kind.needs.contains(&facet.id) && !has(&facet.id));
        for facet in needed {
            let why = "The brief does not say it, and the {product} cannot do without it.";
            self.known(facet, None, Weight::Plain, why);
        }
        let rows: &[goals::Derived] = match (kind.project_type, kind.headless, kind.id.as_str()) {
            (ProjectType::Software, true, _) => &[goals::REPEATABLE],
            (ProjectType::Software, false, "site") => &[goals::READABLE],
            (ProjectType::Software, false, _) => &[goals::KEPT, goals::READABLE],
            _ => &[goals::ALLOWED],
        };
        for row in rows {
            if row.unless.iter().any(|id| has(id)) {
                continue;
            }
            let goal = self.goals.id(row.goal);
            self.add(Requirement {
                id: String::new(),
                derived: true,
                source_quote: None,
                rationale: self.named.fill(row.why),
                statement: self.named.fill(row.statement),
                kind: RequirementKind::Nonfunctional,
                priority: row.priority,
                goal_ids: vec![goal],
                persona_ids: vec!["U1".to_owned()],
                acceptance: vec![Acceptance {
                    id: String::new(),
                    given: self.named.fill_within(row.accept.0),
                    when: self.named.fill_within(row.accept.1),
                    then: self.named.fill_within(row.accept.2),
                    verify: row.accept.3,
                }],
            });
        }
    }

    /// Numbers the requirement and its criteria.
    fn add(&mut self, mut requirement: Requirement) {
        if self.requirements.len() >= MAX_REQUIREMENTS {
            return;
        }
        let id = format!("R-{:03}", self.requirements.len() + 1);
        for (at, acceptance) in requirement.acceptance.iter_mut().enumerate() {
            acceptance.id = format!("{id}.A{}", at + 1);
        }
        requirement.id = id;
        self.requirements.push(requirement);
    }
}

fn acceptance(named: &Named, accept: &[Accept]) -> Vec<Acceptance> {
    accept
        .iter()
        .map(|Accept(given, when, then, verify)| Acceptance {
            id: String::new(),
            given: named.fill_within(given),
            when: named.fill_within(when),
            then: named.fill_within(then),
            verify: *verify,
        })
        .collect()
}

fn priority(weight: Weight) -> RequirementPriority {
    match weight {
        Weight::Headline => RequirementPriority::P0,
        Weight::Plain => RequirementPriority::P1,
        Weight::Maybe => RequirementPriority::P2,
    }
}

fn problem(reading: &Reading) -> String {
    if reading.background.is_empty() {
        return format!("{}.", reading.named.fill(&reading.named.kind.problem));
    }
    let said: Vec<String> = reading
        .background
        .iter()
        .map(|text| format!("“{text}”"))
        .collect();
    format!("In the words of the brief: {}.", said.join(" "))
}

fn summary(reading: &Reading) -> String {
    let named = &reading.named;
    let names: Vec<String> = reading
        .wishes
        .iter()
        .filter(|wish| !wish.is_given)
        .take(MAX_NAMES)
        .map(|wish| match wish.facet {
            Some(facet) => facet.name.clone(),
            None => format!("“{}”", short(&wish.quote, MAX_NAME_CHARS)),
        })
        .collect();
    let mut summary = format!("{} {}.", named.title, named.fill_within(&named.kind.gist));
    if !names.is_empty() {
        summary.push_str(&format!(" The brief also names {}.", listed(&names)));
    }
    if let Some(audience) = &reading.audience {
        summary.push_str(&format!(
            " It is made for {}.",
            short(audience, MAX_NAME_CHARS)
        ));
    }
    let words: Vec<&str> = summary.split_whitespace().take(MAX_SUMMARY_WORDS).collect();
    words.join(" ")
}

fn personas(reading: &Reading) -> Vec<Persona> {
    let named = &reading.named;
    let (name, description, needs) = &named.kind.persona;
    // "for a bakery" says whose product it is, "for busy parents" who uses it.
    let users = reading.audience.as_deref().filter(|audience| {
        let words = Words::of(audience);
        is_people(&words) && !words.begin_with_any(&["a", "an", "my", "our"])
    });
    let mut description = named.fill(description);
    if let (None, Some(audience)) = (users, &reading.audience) {
        description.push_str(&format!(" The product is made for {audience}."));
    }
    vec![Persona {
        id: "U1".to_owned(),
        name: users.map_or_else(|| named.fill(name), capitalised),
        description,
        needs: needs.iter().map(|need| named.fill(need)).collect(),
    }]
}

fn out_of_scope(reading: &Reading, facets: &[&Facet]) -> Vec<String> {
    let excluded = reading
        .excluded
        .iter()
        .map(|text| format!("As the brief says: “{text}”"));
    let known = &Knowledge::built_in().facets;
    let expected = reading.named.kind.expected.iter().filter_map(|id| {
        let is_asked = facets.iter().any(|facet| facet.id == *id);
        let facet = known.iter().find(|facet| facet.id == *id && !is_asked)?;
        let is_excluded = reading
            .excluded
            .iter()
            .any(|text| facet.hits(&Words::of(text)).is_some());
        (!is_excluded).then(|| format!("{}: often wanted, not asked for", capitalised(&facet.name)))
    });
    excluded.chain(expected).collect()
}

fn assumptions(reading: &Reading, remarks: &[String]) -> Vec<String> {
    let mut all = vec![
        "Numbers such as limits, shares and times were chosen by rule as a starting point; please confirm or change them".to_owned(),
    ];
    if reading.language != "en" {
        all.push(format!(
            "The brief is in {}; the rules write English and quote the brief as it is",
            language::name(reading.language)
        ));
    }
    if reading.left_out > 0 {
        all.push(format!(
            "The brief says more than the rules can follow up: {} further points are only in its text",
            reading.left_out
        ));
    }
    all.extend(reading.addressed.iter().map(|text| {
        format!("This sentence of the brief speaks to its reader and not of the product, and was not followed: “{text}”")
    }));
    all.extend(remarks.iter().map(|remark| {
        format!(
            "A remark on an earlier draft was taken into account as far as rules can: “{remark}”"
        )
    }));
    all
}

fn questions(reading: &Reading, facets: &[&Facet], is_answered: bool) -> Vec<OpenQuestion> {
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
        if !has(&["mobile", "immersive"]) {
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

fn risks(reading: &Reading, facets: &[&Facet], brief: &str) -> Vec<Risk> {
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

/// A criterion of a derived requirement.
type Criterion = (&'static str, &'static str, &'static str, Verify);
