//! E9: a field that is not there.

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
    let _ = Report::update().titel("bees");
}
