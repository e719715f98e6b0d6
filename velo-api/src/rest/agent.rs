use axum::Json;
use axum::extract::Path;
use serde::Serialize;
use velo_agents::catalogue::{AgentSpec, Catalogue};

use crate::http::{Kind, Problem};

/// All agents at once, in the form of the lists that have pages.
#[derive(Serialize)]
pub(crate) struct Agents {
    items: &'static [AgentSpec],
    next_cursor: Option<String>,
}

pub(crate) async fn list() -> Json<Agents> {
    Json(Agents {
        items: Catalogue::built_in().agents(),
        next_cursor: None,
    })
}

pub(crate) async fn show(Path(name): Path<String>) -> Result<Json<&'static AgentSpec>, Problem> {
    let agents = Catalogue::built_in();
    agents
        .agent(&name)
        .or_else(|| {
            let mut agents = agents.agents().iter();
            agents.find(|agent| agent.name.eq_ignore_ascii_case(&name))
        })
        .map(Json)
        .ok_or_else(|| {
            let detail = format!("no agent is called `{name}`: see /api/agents for all of them");
            Problem::new(Kind::NotFound, detail)
        })
}
