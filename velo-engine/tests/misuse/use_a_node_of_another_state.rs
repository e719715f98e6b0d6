//! B62, E8: a route to a node of another graph, such as the parent of a root.

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
    #[state(append)]
    drafts: Vec<String>,
}

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Other {
    topic: String,
}

const PLAN: NodeKey<Report> = NodeKey::new("plan");
const WRITE: NodeKey<Report, String> = NodeKey::new("write");
const ELSEWHERE: NodeKey<Other> = NodeKey::new("elsewhere");

fn main() {
    let _ = (PLAN, WRITE, ELSEWHERE);
    let _ = Report::update().goto(ELSEWHERE);
}
