//! A task plan by rules: what each requirement takes, and the tasks around it.

mod chain;
mod number;
mod part;
mod sketch;

use super::knowledge::{Knowledge, Serves, Step, When};
use super::product::Named;
use super::words::listed;
use crate::catalogue::TaskKind;
use crate::document::{
    Complexity, MAX_TASKS, PrdDraft, ProjectType, RequirementKind, RequirementPriority,
    TaskPlanDraft, TaskPriority, Verify,
};

use chain::Chain;
#[cfg(test)]
pub(super) use chain::facet_of;

/// Most names of wishes in a title.
const MAX_NAMES: usize = 3;

/// A task before it has a number.
#[derive(Debug)]
struct Sketch {
    /// What others call it in `needs`.
    id: String,
    epic: &'static str,
    title: String,
    description: String,
    kind: TaskKind,
    skills: Vec<String>,
    size: Complexity,
    priority: TaskPriority,
    requirements: Vec<String>,
    acceptance: Vec<(String, Verify)>,
    needs: Vec<String>,
}

const FOUNDATIONS: &str = "Foundations";
const MAIN: &str = "Core";
const WISHES: &str = "Wishes of the brief";
const PROOF: &str = "Proof and hand-over";

/// The draft of a plan for `prd`.
pub(super) fn write(prd: &PrdDraft) -> TaskPlanDraft {
    let named = Named::of_document(prd);
    let chains = chain::of(prd, &named);
    let situation = Situation::of(prd, &named, &chains);
    let steps: Vec<&Step> = Knowledge::built_in()
        .steps
        .iter()
        .filter(|step| situation.makes_sense(step))
        .collect();
    let chains = chain::within(chains, MAX_TASKS.saturating_sub(steps.len()));

    let mut sketches = Vec::new();
    for step in steps.iter().filter(|step| step.before) {
        sketches.push(situation.sketch(step, FOUNDATIONS, &[]));
    }
    let known: Vec<String> = sketches.iter().map(|sketch| sketch.id.clone()).collect();
    for chain in &chains {
        sketches.extend(sketch::of(chain, &chains, &named, &known));
    }
    let ends = ends(&sketches[known.len()..]);
    for step in steps.iter().filter(|step| !step.before) {
        sketches.push(situation.sketch(step, PROOF, &ends));
    }
    number::plan(sketches)
}

/// The built tasks that no other built task needs.
fn ends(built: &[Sketch]) -> Vec<String> {
    built
        .iter()
        .filter(|sketch| !built.iter().any(|other| other.needs.contains(&sketch.id)))
        .map(|sketch| sketch.id.clone())
        .collect()
}

/// What the steps around the wishes depend on.
struct Situation<'p> {
    prd: &'p PrdDraft,
    named: &'p Named,
    main: Option<String>,
    names: Vec<String>,
    /// The names of those that the rules know: what others are called is no word for a table.
    things: Vec<String>,
    facets: Vec<&'static str>,
    has_screens: bool,
    has_server: bool,
}

impl<'p> Situation<'p> {
    fn of(prd: &'p PrdDraft, named: &'p Named, chains: &[Chain<'_>]) -> Self {
        let is_software = prd.project_type == ProjectType::Software;
        let is_wish = |chain: &&Chain<'_>| {
            !chain.is_main && chain.requirement.kind == RequirementKind::Functional
        };
        let wishes = || chains.iter().filter(is_wish);
        Self {
            prd,
            named,
            main: chains
                .iter()
                .find(|chain| chain.is_main)
                .map(|chain| chain.requirement.id.clone()),
            names: wishes()
                .map(|chain| chain.name.clone())
                .take(MAX_NAMES)
                .collect(),
            things: [named.items.clone()]
                .into_iter()
                .chain(
                    wishes()
                        .filter(|chain| chain.facet.is_some())
                        .map(|chain| chain.name.clone())
                        .take(MAX_NAMES),
                )
                .collect(),
            facets: chains.iter().filter_map(|chain| chain.facet).collect(),
            has_screens: is_software && !named.kind.headless,
            has_server: chains
                .iter()
                .flat_map(|chain| &chain.parts)
                .any(|part| part.kind == TaskKind::Backend),
        }
    }

    fn makes_sense(&self, step: &Step) -> bool {
        let is_fit = match step.when {
            Some(When::Screens) => self.has_screens,
            Some(When::Headless) => !self.has_screens,
            Some(When::Server) => self.has_server,
            // A program without known functions, such as a converter, keeps nothing.
            Some(When::Storage) => self.has_server && (self.has_screens || self.things.len() > 1),
            None => true,
        };
        let is_wanted = step.wishes.is_empty()
            || self
                .facets
                .iter()
                .any(|facet| step.wishes.iter().any(|wish| wish == facet));
        is_fit && is_wanted && step.types.contains(&self.prd.project_type)
    }

    fn sketch(&self, step: &Step, epic: &'static str, ends: &[String]) -> Sketch {
        let needs = step.needs.iter().flat_map(|need| match need.as_str() {
            "wishes" => ends.to_vec(),
            step => vec![step.to_owned()],
        });
        Sketch {
            id: step.id.clone(),
            epic,
            title: self.fill(&step.title),
            description: self.fill(&step.text),
            kind: step.kind,
            skills: step.skills.clone(),
            size: step.size,
            priority: match step.before {
                true => TaskPriority::High,
                false => TaskPriority::Medium,
            },
            requirements: self.served(step.serves),
            acceptance: vec![(self.fill(&step.accept.0), step.accept.1)],
            needs: needs.collect(),
        }
    }

    fn fill(&self, text: &str) -> String {
        let wishes = match self.names.as_slice() {
            [] => "everything else".to_owned(),
            names => listed(names),
        };
        // What people wrote is put in last, so that a placeholder in it stays text.
        self.named
            .fill(text)
            .replace("{things}", &listed(&self.things))
            .replace("{wishes}", &wishes)
    }

    fn served(&self, serves: Serves) -> Vec<String> {
        let ids: Vec<String> = self
            .prd
            .requirements
            .iter()
            .filter(|requirement| {
                let is_main = Some(&requirement.id) == self.main.as_ref();
                let is_functional = requirement.kind == RequirementKind::Functional;
                match serves {
                    Serves::All => true,
                    Serves::Product => is_main,
                    Serves::Wishes => is_functional && !is_main,
                    Serves::Quality => !is_functional,
                }
            })
            .map(|requirement| requirement.id.clone())
            .collect();
        if ids.is_empty() {
            return self.main.iter().cloned().collect();
        }
        ids
    }
}

fn priority(of: RequirementPriority) -> TaskPriority {
    match of {
        RequirementPriority::P0 => TaskPriority::High,
        RequirementPriority::P1 => TaskPriority::Medium,
        RequirementPriority::P2 => TaskPriority::Low,
    }
}
