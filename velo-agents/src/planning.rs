//! The planning workflow, `velo.planning@1`: a brief becomes a PRD, the PRD a plan of tasks, and both
//! are stored exactly once.
//!
//! ```text
//! intake → draft_prd ⇄ check_prd → break_down ⇄ check_plan → store
//! ```
//!
//! Each call of a model is a step of its own, so a reply that arrived is never asked for again. What a
//! check finds goes back to the model at most twice; then the run is paused for a person, and resuming
//! it begins that document afresh.

mod ask;
mod nodes;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use velo_engine::{Graph, NodeKey, RetryPolicy};

use crate::blob::Blobs;
use crate::model::ChatModel;

pub use ask::Writing;
pub use state::{Planning, PlanningUpdate, Reply, Stored};

const INTAKE: NodeKey<Planning> = NodeKey::new("intake");
const DRAFT_PRD: NodeKey<Planning> = NodeKey::new("draft_prd");
const CHECK_PRD: NodeKey<Planning> = NodeKey::new("check_prd");
const BREAK_DOWN: NodeKey<Planning> = NodeKey::new("break_down");
const CHECK_PLAN: NodeKey<Planning> = NodeKey::new("check_plan");
const STORE: NodeKey<Planning> = NodeKey::new("store");

/// How often a call that failed is made again, beside what the model's client retries by itself.
const PATIENT: RetryPolicy = RetryPolicy {
    max_attempts: 5,
    first_delay: Duration::from_secs(2),
    factor: 3.0,
    max_delay: Duration::from_secs(120),
};

/// The planning graph, asking `model` and keeping documents in `blobs`.
///
/// ```
/// use std::sync::Arc;
/// use velo_agents::{blob::Blobs, model::offline::OfflineModel, planning};
///
/// # fn example(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
/// let graph = planning::graph(Arc::new(OfflineModel), Blobs::local(folder)?);
/// assert_eq!(graph.code(), "velo.planning@1");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn graph(model: Arc<dyn ChatModel>, blobs: Blobs) -> Graph<Planning> {
    Graph::builder("velo.planning", 1)
        .node(INTAKE, nodes::intake)
        .node(
            DRAFT_PRD,
            nodes::DraftPrd {
                model: Arc::clone(&model),
            },
        )
        .node(CHECK_PRD, nodes::check_prd)
        .node(BREAK_DOWN, nodes::BreakDown { model })
        .node(CHECK_PLAN, nodes::check_plan)
        .node(STORE, store::Store { blobs })
        .retry(DRAFT_PRD, PATIENT)
        .retry(BREAK_DOWN, PATIENT)
        .retry(STORE, PATIENT)
        .start(INTAKE)
        .edge(INTAKE, DRAFT_PRD)
        .edge(DRAFT_PRD, CHECK_PRD)
        .may_go(CHECK_PRD, DRAFT_PRD)
        .may_go(CHECK_PRD, BREAK_DOWN)
        .edge(BREAK_DOWN, CHECK_PLAN)
        .may_go(CHECK_PLAN, BREAK_DOWN)
        .may_go(CHECK_PLAN, STORE)
        .compile()
        .expect("a test compiles the planning graph")
}

/// The nodes, in the order in which a run without trouble comes to them.
pub const NODES: [&str; 6] = [
    INTAKE.name(),
    DRAFT_PRD.name(),
    CHECK_PRD.name(),
    BREAK_DOWN.name(),
    CHECK_PLAN.name(),
    STORE.name(),
];
