//! E8: a node that is not known.

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
}

const PLAN: NodeKey<Report> = NodeKey::new("plan");

fn main() {
    let _ = PLAN;
    let _ = Report::update().topic("bees").goto(PLANE);
}
