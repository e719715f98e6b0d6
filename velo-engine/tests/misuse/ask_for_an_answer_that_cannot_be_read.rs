use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    approved: bool,
}

enum Verdict {
    Publish,
    Redo,
}

async fn review(cx: Context<Report>) -> NodeResult<Report> {
    let verdict: Verdict = cx.ask("verdict", &"publish?").await?;
    let approved = matches!(verdict, Verdict::Publish);
    Ok(Report::update().approved(approved).into())
}

fn main() {
    let _ = (review, Verdict::Redo);
}
