use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TaskDraft;
use crate::catalogue::{AgentId, AgentSpec, Catalogue, Match, ScoreParts};

/// Who does a task, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// The agent.
    pub agent: AgentId,
    /// Why, in a sentence.
    pub reason: String,
    /// Sum of the parts, from 0 to 0.9.
    pub score: f64,
    /// What the score is made of.
    pub parts: ScoreParts,
    /// Whether nobody stood out, so that the division's lead stepped in.
    pub by_default: bool,
}

/// The agent of `staff` that suits `task`. A suggestion counts for whoever has the craft, and an
/// agent that does not exist is as good as no suggestion.
///
/// ```
/// use velo_agents::catalogue::{Catalogue, TaskKind};
/// use velo_agents::document::{Complexity, TaskDraft, TaskPriority, assign};
///
/// let task = TaskDraft {
///     key: "T-001".into(),
///     title: "Write the schema".into(),
///     epic: None,
///     requirement_ids: vec![],
///     kind: TaskKind::Schema,
///     description: "Tables and indexes.".into(),
///     acceptance: vec![],
///     depends_on: vec![],
///     required_skills: vec!["data-modelling".into()],
///     suggested_agent: Some("nobody".into()),
///     priority: TaskPriority::High,
///     complexity: Complexity::M,
///     outputs: vec!["database_schema".into()],
/// };
/// let assignment = assign(&task, Catalogue::built_in());
/// assert_eq!(assignment.agent.as_str(), "sage");
/// assert!(assignment.reason.contains("data-modelling"));
/// ```
#[must_use]
pub fn assign(task: &TaskDraft, staff: &Catalogue) -> Assignment {
    let suggested = task
        .suggested_agent
        .as_deref()
        .and_then(|id| staff.agent(id));
    let found = staff.best_agent(
        &task.required_skills,
        task.kind,
        suggested.map(|agent| &agent.id),
    );
    Assignment {
        reason: reason(task, staff, suggested, &found),
        agent: found.agent,
        score: found.score,
        parts: found.parts,
        by_default: found.by_default,
    }
}

fn reason(
    task: &TaskDraft,
    staff: &Catalogue,
    suggested: Option<&AgentSpec>,
    found: &Match,
) -> String {
    let agent = staff.agent(found.agent.as_str());
    let name = agent.map_or(found.agent.as_str(), |agent| &agent.name);
    let mut reasons = Vec::new();
    if found.parts.skills > 0.0 {
        let known: Vec<&str> = task
            .required_skills
            .iter()
            .filter(|wanted| {
                agent.is_some_and(|agent| agent.skills.iter().any(|own| own.id == **wanted))
            })
            .map(String::as_str)
            .collect();
        reasons.push(format!("knows {}", known.join(", ")));
    }
    if found.parts.kind > 0.0 {
        reasons.push(format!("is at home in {} tasks", task.kind));
    }
    if found.parts.suggested > 0.0 {
        reasons.push("was suggested by the plan".to_owned());
    }
    if found.by_default {
        reasons.push(format!(
            "leads {} and takes what suits nobody else",
            task.kind.division()
        ));
    } else if reasons.is_empty() {
        reasons.push(format!("belongs to {}", task.kind.division()));
    }
    let passed_over = match (suggested, task.suggested_agent.as_deref()) {
        (Some(other), _) if other.id != found.agent => {
            format!("; {} was suggested and suits less", other.name)
        }
        (None, Some(_)) => "; the suggested agent does not exist".to_owned(),
        _ => String::new(),
    };
    format!("{name} {}{passed_over}", reasons.join(", "))
}
