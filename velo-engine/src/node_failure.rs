//! What an error handler is told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::NodeError;

/// The payload of an [error handler](crate::GraphBuilder::on_error): a task that has no attempt left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFailure {
    /// The node that failed.
    pub node: String,
    /// What it was sent; `None` when it was reached otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Why its last attempt failed.
    pub error: NodeError,
    /// Its attempts.
    pub attempts: u32,
}
