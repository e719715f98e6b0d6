use std::rc::Rc;

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
}

const PLAN: NodeKey<Report> = NodeKey::new("plan");

async fn plan(cx: Context<Report>) -> NodeResult<Report> {
    let topic = Rc::new(cx.state().topic.clone());
    let more: String = cx.ask("more", &*topic).await?;
    Ok(Report::update().topic(format!("{topic} and {more}")).into())
}

fn main() {
    let _ = Graph::builder("report", 1).node(PLAN, plan).start(PLAN).compile();
}
