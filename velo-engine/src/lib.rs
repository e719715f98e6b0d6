//! Typed graphs whose state changes only by partial updates, planned by a pure executor.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use velo_engine::prelude::*;
//!
//! #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
//! struct Report {
//!     topic: String,
//!     #[state(append)]
//!     drafts: Vec<String>,
//! }
//!
//! const PLAN: NodeKey<Report> = NodeKey::new("plan");
//! const WRITE: NodeKey<Report, String> = NodeKey::new("write");
//!
//! let shape = Shape::builder("report", 1).node(PLAN).node(WRITE).may_go(PLAN, WRITE).start(PLAN).compile().unwrap();
//! let start = executor::begin(&shape, Report::default());
//! let planned = executor::advance(&shape, &start, vec![Next::send_all(WRITE, ["bees".to_owned(), "honey".to_owned()])]).unwrap();
//! let written = executor::advance(&shape, &planned, vec![
//!     Report::update().drafts(vec!["about bees".to_owned()]).into(),
//!     Report::update().drafts(vec!["about honey".to_owned()]).into(),
//! ]).unwrap();
//! assert_eq!(written.state.drafts, ["about bees", "about honey"]);
//! assert!(written.tasks.is_empty());
//! ```
#![deny(missing_docs)]

pub mod events;
pub mod executor;
#[cfg(feature = "embedded-postgres")]
pub mod postgres;
pub mod reducer;

mod graph;
mod migrate;
mod next;
mod node;
mod run_id;
mod state;

pub use graph::{DEFAULT_STEP_LIMIT, Shape, ShapeBuilder, ShapeError};
pub use migrate::migrate;
pub use next::{Next, UpdateRoute};
pub use node::NodeKey;
pub use run_id::RunId;
pub use state::{
    CodecError, ConcurrentUpdate, FieldWrites, Overwrite, State, StoredWrite, Update, Write, Writes,
};
pub use velo_engine_macros::State;

/// All that a graph's definition needs.
pub mod prelude {
    pub use crate::{Next, NodeKey, Overwrite, Shape, State, Update, UpdateRoute, executor};
}
