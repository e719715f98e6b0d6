//! Who suits a task, as far as that can be known without history.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AgentId, AgentSpec, Catalogue, TaskKind};

const SKILLS: f64 = 0.50;
const KIND: f64 = 0.15;
const DIVISION: f64 = 0.10;
const SUGGESTED: f64 = 0.15;

/// Below this, nobody stands out and the division's lead takes the task.
const THRESHOLD: f64 = 0.35;

/// The agent chosen for a task, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// Who takes the task.
    pub agent: AgentId,
    /// Sum of the parts, from 0 to 0.9.
    pub score: f64,
    /// What the score is made of.
    pub parts: ScoreParts,
    /// Whether nobody reached the threshold, so that the division's lead stepped in.
    pub by_default: bool,
}

/// What speaks for an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreParts {
    /// Up to 0.50: the share of the wanted skills that it has.
    pub skills: f64,
    /// 0.15 if it is at home in that kind of task.
    pub kind: f64,
    /// 0.10 if its division answers for that kind of task.
    pub division: f64,
    /// 0.15 if the plan's author suggested it.
    pub suggested: f64,
}

impl ScoreParts {
    fn total(self) -> f64 {
        self.skills + self.kind + self.division + self.suggested
    }
}

impl Catalogue {
    /// The agent that suits a task of `kind` that asks for `skills`. The same question always has
    /// the same answer; of equals, the first in the catalogue wins.
    ///
    /// ```
    /// use velo_agents::catalogue::{Catalogue, TaskKind};
    ///
    /// let staff = Catalogue::built_in();
    /// let found = staff.best_agent(&["sql", "migrations"], TaskKind::Schema, None);
    /// assert_eq!(found.agent.as_str(), "sage");
    /// ```
    #[must_use]
    pub fn best_agent<S: AsRef<str>>(
        &self,
        skills: &[S],
        kind: TaskKind,
        suggested: Option<&AgentId>,
    ) -> Match {
        let scored = |agent| scored(agent, skills, kind, suggested);
        let mut best = scored(self.lead(kind.division()));
        best.by_default = true;
        for agent in self.agents() {
            let candidate = scored(agent);
            let wins = best.by_default || candidate.score > best.score;
            if candidate.score >= THRESHOLD && wins {
                best = candidate;
            }
        }
        best
    }
}

fn scored<S: AsRef<str>>(
    agent: &AgentSpec,
    skills: &[S],
    kind: TaskKind,
    suggested: Option<&AgentId>,
) -> Match {
    let parts = ScoreParts {
        skills: SKILLS * coverage(agent, skills),
        kind: if agent.kinds.contains(&kind) {
            KIND
        } else {
            0.0
        },
        division: if agent.division == kind.division() {
            DIVISION
        } else {
            0.0
        },
        suggested: if suggested == Some(&agent.id) {
            SUGGESTED
        } else {
            0.0
        },
    };
    Match {
        agent: agent.id.clone(),
        score: parts.total(),
        parts,
        by_default: false,
    }
}

/// From 0 to 1: how much of what is wanted the agent has.
fn coverage<S: AsRef<str>>(agent: &AgentSpec, wanted: &[S]) -> f64 {
    if wanted.is_empty() {
        return 0.0;
    }
    let had: f64 = wanted
        .iter()
        .filter_map(|skill| agent.skills.iter().find(|own| own.id == skill.as_ref()))
        .map(|own| own.weight)
        .sum();
    had / wanted.len() as f64
}
