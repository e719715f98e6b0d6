use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
}

const PLAN: NodeKey<Report> = NodeKey::new("plan");

fn plan(cx: Context<Report>) -> NodeResult<Report> {
    Ok(Report::update().topic(cx.state().topic.clone()).into())
}

fn main() {
    let _ = Graph::builder("report", 1).node(PLAN, plan).start(PLAN).compile();
}
