//! The state and the names of nodes that [`docs/from-langgraph.md`](crate::from_langgraph) uses.

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

/// A report that is written in parts.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it is about.
    pub topic: String,
    /// Its parts, in the order in which they were sent to be written.
    #[state(append)]
    pub drafts: Vec<String>,
    /// How good the best part is.
    #[state(max)]
    pub score: u32,
    /// Whether somebody has approved it.
    pub approved: bool,
}

/// Splits the topic.
pub const PLAN: NodeKey<Report> = NodeKey::new("plan");
/// Writes one part, whose title it is sent.
pub const WRITE: NodeKey<Report, String> = NodeKey::new("write");
/// Asks a person.
pub const REVIEW: NodeKey<Report> = NodeKey::new("review");
/// Publishes it.
pub const PUBLISH: NodeKey<Report> = NodeKey::new("publish");

/// Does nothing: for a graph whose shape is what matters.
///
/// # Errors
/// None.
#[allow(clippy::unused_async, reason = "a node is an async function")]
pub async fn rest(_: Context<Report>) -> NodeResult<Report> {
    Ok(Next::none())
}

/// Writes a part that says its title.
///
/// # Errors
/// None.
#[allow(clippy::unused_async, reason = "a node is an async function")]
pub async fn write(cx: Context<Report, String>) -> NodeResult<Report> {
    Ok(Report::update().drafts(vec![cx.input().clone()]).into())
}
