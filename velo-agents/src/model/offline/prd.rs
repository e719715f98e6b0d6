//! A PRD by rules: every requirement quotes the brief or says that it is derived.

mod around;
pub(super) mod derived;
mod goals;
mod questions;
mod wording;

use super::brief::{Reading, Weight, Wish, read, read_remarks};
use super::knowledge::{Accept, Facet, GoalKey, Knowledge};
use super::product::Named;
use super::words::{Words, capitalised};
use crate::document::{
    Acceptance, MAX_REQUIREMENTS, PrdDraft, Requirement, RequirementKind, RequirementPriority,
    SuccessCriterion,
};

use goals::Goals;

/// The draft of a document about `brief` and the remarks on an earlier draft.
pub(super) fn write(brief: &str, remarks: &str) -> PrdDraft {
    let mut reading = read(brief);
    let (said, plain_remarks) = read_remarks(remarks, &reading.named);
    // "No e-mail reminders" in the brief limits a wish; in a remark it takes one back.
    let unwanted: Vec<Words> = said.excluded.iter().map(|text| Words::of(text)).collect();
    let is_wanted = |facet: &Facet| !unwanted.iter().any(|words| facet.hits(words).is_some());
    reading.excluded.extend(said.excluded.iter().cloned());
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
    let main = requirements.first().map_or("", |it| &it.statement);

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
        problem: around::problem(&reading),
        summary: around::summary(&reading, main),
        personas: around::personas(&reading),
        out_of_scope: around::out_of_scope(&reading, &facets),
        assumptions: around::assumptions(&reading, &plain_remarks),
        open_questions: questions::questions(&reading, &facets, !plain_remarks.is_empty()),
        risks: questions::risks(&reading, &facets, brief),
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
        let has = |id: &str| reading.facets().any(|facet| facet.id == id);
        let needed = Knowledge::built_in()
            .facets
            .iter()
            .filter(|facet| kind.needs.contains(&facet.id) && !has(&facet.id))
            .filter(|facet| !reading.excludes(facet));
        for facet in needed {
            let why = "The brief does not say it, and the {product} cannot do without it.";
            self.known(facet, None, Weight::Plain, why);
        }
        for row in derived::of(kind) {
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
