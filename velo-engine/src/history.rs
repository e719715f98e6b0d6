//! What a run has done, step by step, for people.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::state::CodecError;
use crate::store::run::StoredHistory;
use crate::stored::Control;

/// One committed step: what was at work in it, what it wrote, what came next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryStep {
    /// Which step of the run, from zero: the start.
    pub seq: i32,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// The fence of the lease that committed it.
    pub fence: i64,
    /// The nodes that were at work, in the order in which their writes were applied.
    pub nodes: Vec<String>,
    /// What they wrote: `[field, value]`, or `[field, value, true]` for an overwrite.
    pub writes: Value,
    /// The nodes of the next step.
    pub next: Vec<String>,
}

impl HistoryStep {
    pub(crate) fn of(stored: &StoredHistory) -> Result<Self, CodecError> {
        let nodes = |control: &[u8]| Control::decode(control).map(|control| control.nodes());
        let writes = if stored.delta.is_empty() {
            Value::Array(Vec::new())
        } else {
            serde_json::from_slice(&stored.delta).map_err(|source| CodecError::Decode {
                field: "*".to_owned(),
                source,
            })?
        };
        Ok(Self {
            seq: stored.seq,
            at: stored.at,
            fence: stored.fence,
            nodes: stored
                .before
                .as_deref()
                .map(nodes)
                .transpose()?
                .unwrap_or_default(),
            writes,
            next: nodes(&stored.control)?,
        })
    }
}
