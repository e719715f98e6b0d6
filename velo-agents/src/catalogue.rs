//! The 51 agents: who they are, what they can do, and who suits a task.
//!
//! The staff is data, in `catalogue.toml`, compiled into the program. [`Catalogue::built_in`]
//! reads it once:
//!
//! ```
//! use velo_agents::catalogue::{Catalogue, Division};
//!
//! let staff = Catalogue::built_in();
//! assert_eq!(staff.agents().len(), 51);
//! assert_eq!(staff.lead(Division::Engineering).name, "Neuron");
//! ```

mod agent;
mod division;
mod matching;
mod task_kind;

pub use agent::{AgentId, AgentSpec, Skill, Tool};
pub use division::Division;
pub use matching::{Match, ScoreParts};
pub use task_kind::TaskKind;

use std::sync::LazyLock;

use serde::Deserialize;

const BUILT_IN: &str = include_str!("../catalogue.toml");

static STAFF: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::parse(BUILT_IN).expect("catalogue.toml is part of the program and read by a test")
});

/// All agents, in the order that settles ties.
#[derive(Debug, Clone)]
pub struct Catalogue {
    agents: Vec<AgentSpec>,
    leads: Vec<(Division, AgentId)>,
}

impl Catalogue {
    /// The staff that comes with the program.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &STAFF
    }

    /// Every agent, division by division.
    #[must_use]
    pub fn agents(&self) -> &[AgentSpec] {
        &self.agents
    }

    /// The agent called `id`, if there is one.
    #[must_use]
    pub fn agent(&self, id: &str) -> Option<&AgentSpec> {
        self.agents.iter().find(|agent| agent.id.as_str() == id)
    }

    /// The agents of one division, in catalogue order.
    pub fn division(&self, division: Division) -> impl Iterator<Item = &AgentSpec> {
        self.agents
            .iter()
            .filter(move |agent| agent.division == division)
    }

    /// The agent that leads `division`, and takes what suits nobody else there.
    #[must_use]
    pub fn lead(&self, division: Division) -> &AgentSpec {
        self.leads
            .iter()
            .find(|(led, _)| *led == division)
            .and_then(|(_, id)| self.agent(id.as_str()))
            .expect("parsing refuses a catalogue in which a division has no lead")
    }

    fn parse(text: &str) -> Result<Self, CatalogueError> {
        let file: File = toml::from_str(text)?;
        let mut agents = Vec::new();
        let mut leads = Vec::new();
        for entry in file.division {
            let in_division = entry.agent.iter().any(|agent| agent.id == entry.lead);
            if !in_division {
                return Err(CatalogueError::Lead {
                    division: entry.id,
                    lead: entry.lead,
                });
            }
            leads.push((entry.id, entry.lead));
            agents.extend(entry.agent.into_iter().map(|mut agent| {
                agent.division = entry.id;
                agent
            }));
        }
        match Division::ALL
            .iter()
            .find(|division| leads.iter().filter(|(led, _)| led == *division).count() != 1)
        {
            Some(division) => Err(CatalogueError::Division(*division)),
            None => Ok(Self { agents, leads }),
        }
    }
}

/// Why a catalogue file was refused.
#[derive(Debug, thiserror::Error)]
enum CatalogueError {
    #[error("could not read the agent catalogue as TOML")]
    Toml(#[from] toml::de::Error),
    #[error(
        "could not find the lead `{lead}` among the agents of {division}: name one of its agents"
    )]
    Lead { division: Division, lead: AgentId },
    #[error("expected {0} exactly once in the agent catalogue: add it or merge its entries")]
    Division(Division),
}

#[derive(Deserialize)]
struct File {
    division: Vec<DivisionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DivisionEntry {
    id: Division,
    lead: AgentId,
    agent: Vec<AgentSpec>,
}

#[cfg(test)]
mod tests;
