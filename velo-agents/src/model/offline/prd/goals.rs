//! The goals of a document, each there only if a requirement serves it, and what a product of any
//! kind needs.

use super::super::knowledge::GoalKey;
use super::super::product::Named;
use super::Criterion;
use crate::document::{Goal, MAX_GOALS, ProjectType, RequirementPriority, Verify};

/// The goals named so far, in the order in which they came up.
#[derive(Debug)]
pub(super) struct Goals {
    named: Named,
    used: Vec<GoalKey>,
}

impl Goals {
    pub(super) fn new(named: &Named) -> Self {
        Self {
            named: named.clone(),
            used: vec![GoalKey::Core],
        }
    }

    /// The id of the goal; of the main one when there are enough already.
    pub(super) fn id(&mut self, key: GoalKey) -> String {
        let key = match self.named.kind.project_type {
            ProjectType::Software => key,
            _ if matches!(key, GoalKey::Return | GoalKey::Insight | GoalKey::Operate) => {
                GoalKey::Core
            }
            _ => key,
        };
        let at = match self.used.iter().position(|used| *used == key) {
            Some(at) => at,
            None if self.used.len() < MAX_GOALS => {
                self.used.push(key);
                self.used.len() - 1
            }
            None => 0,
        };
        format!("G{}", at + 1)
    }

    pub(super) fn finish(self) -> Vec<Goal> {
        let named = &self.named;
        self.used
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let (statement, metric, target) = words(named, *key);
                Goal {
                    id: format!("G{}", at + 1),
                    statement: named.fill(statement),
                    metric: Some(named.fill_within(metric)),
                    target: Some(target.to_owned()),
                }
            })
            .collect()
    }
}

fn words(named: &Named, key: GoalKey) -> (&str, &str, &str) {
    let kind = named.kind;
    let is_software = kind.project_type == ProjectType::Software;
    match key {
        GoalKey::Core => (&kind.aim, &kind.metric, &kind.target),
        GoalKey::Return => (
            "Users come back by themselves",
            "share of new users who are back in their second week",
            "35 %",
        ),
        GoalKey::Trust if is_software => (
            "Users can rely on the {product} with what they entrust to it",
            "incidents in which something was lost or seen by others",
            "0",
        ),
        GoalKey::Trust => (
            "Nobody can object to what is published",
            "justified objections after publication",
            "0",
        ),
        GoalKey::Reach if is_software => (
            "More people can use the {product}, whatever they use it with",
            "share of main tasks that succeed on every supported device",
            "95 %",
        ),
        GoalKey::Reach => (
            "It reaches the people for whom it is made",
            "share of the audience that was reached",
            "20 %",
        ),
        GoalKey::Revenue => (
            "The {product} earns its keep",
            "share of costs that income covers after a year",
            "100 %",
        ),
        GoalKey::Insight => (
            "Users see what their {items} add up to",
            "share of users who look at their figures every week",
            "30 %",
        ),
        GoalKey::Operate => (
            "The {product} can be run and extended by few people",
            "hours of manual work that it needs in a week",
            "2",
        ),
    }
}

pub(super) fn how_measured(project_type: ProjectType) -> &'static str {
    match project_type {
        ProjectType::Software => {
            "Counted in the product from the first release on, without naming anybody"
        }
        ProjectType::Marketing => "Counted where the campaign leads to, with consent",
        ProjectType::Design | ProjectType::Business | ProjectType::Content => {
            "Asked of at least five people for whom it is made"
        }
    }
}

/// Whether `statement` is one of a requirement that no brief names.
pub(in crate::model::offline) fn is_derived(statement: &str, named: &Named) -> bool {
    [KEPT, READABLE, REPEATABLE, ALLOWED].iter().any(|derived| {
        named
            .fill(derived.statement)
            .eq_ignore_ascii_case(statement)
    })
}

/// A requirement that the brief does not name.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) statement: &'static str,
    pub(super) why: &'static str,
    pub(super) goal: GoalKey,
    pub(super) priority: RequirementPriority,
    pub(super) accept: Criterion,
    /// Known wishes that say it already.
    pub(super) unless: &'static [&'static str],
}

pub(super) const KEPT: Derived = Derived {
    statement: "Whatever a user did is kept: a crash, a restart or an update of the {product} costs at most the action in progress",
    why: "The brief does not say it, and without it nobody would use it a second time.",
    goal: GoalKey::Trust,
    priority: RequirementPriority::P1,
    accept: (
        "ten finished actions",
        "the program is killed during the eleventh and started again",
        "all ten are there and the eleventh is there wholly or not at all",
        Verify::AutoTest,
    ),
    unless: &["backup"],
};

pub(super) const READABLE: Derived = Derived {
    statement: "Every main task can be done with a keyboard alone, and every text has a contrast of at least 4.5 to 1",
    why: "The brief does not say it; it costs little from the beginning and much later.",
    goal: GoalKey::Reach,
    priority: RequirementPriority::P2,
    accept: (
        "every screen",
        "an automatic checker for WCAG 2.2 level AA runs",
        "it reports no violation",
        Verify::AutoTest,
    ),
    unless: &["accessibility"],
};

pub(super) const REPEATABLE: Derived = Derived {
    statement: "The same input to the {product} gives the same result, and a call that fails leaves nothing half done",
    why: "The brief does not say it; other programs cannot be built on anything less.",
    goal: GoalKey::Trust,
    priority: RequirementPriority::P1,
    accept: (
        "the same input",
        "it is given twice, and once with a failure in between",
        "both results are equal and nothing is left behind by the failure",
        Verify::AutoTest,
    ),
    unless: &[],
};

pub(super) const ALLOWED: Derived = Derived {
    statement: "Everything that is used may be used: pictures, names, quotations and data have a licence or their owner's consent",
    why: "The brief does not say it; it is dear to find out afterwards.",
    goal: GoalKey::Trust,
    priority: RequirementPriority::P1,
    accept: (
        "the list of everything used",
        "each line is checked",
        "it names a licence or a consent",
        Verify::Review,
    ),
    unless: &[],
};
