//! The goals of a document, each there only if a requirement serves it.

use super::super::knowledge::GoalKey;
use super::super::product::Named;
use crate::document::{Goal, MAX_GOALS, ProjectType};

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
