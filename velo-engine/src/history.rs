//! What a run has done, step by step, for people.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::state::CodecError;
use crate::store::run::StoredHistory;
use crate::stored::{Control, show_delta};

/// One committed step: what was at work in it, what it wrote, what came next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryStep {
    /// Which step of the run, from zero: the start.
    pub seq: i32,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// The fence of the lease that committed it.
    pub fence: i64,
    /// Whether it was [made by hand](crate::Engine::update_state), and by no node.
    pub is_edit: bool,
    /// The nodes that were at work, or in whose place the edit was made, in the order in which their writes were applied.
    pub nodes: Vec<String>,
    /// What they wrote: `[field, value]`, or `[field, value, true]` for an overwrite.
    pub writes: Value,
    /// The nodes of the next step.
    pub next: Vec<String>,
    /// By their places in `next`, how many milliseconds attempts of tasks may take that were
    /// [sent with a time](crate::Next::send_within).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub within_ms: BTreeMap<usize, u64>,
}

impl HistoryStep {
    pub(crate) fn of(stored: &StoredHistory) -> Result<Self, CodecError> {
        let control = Control::decode(&stored.control)?;
        let before = stored.before.as_deref().map(Control::decode).transpose()?;
        Ok(Self {
            seq: stored.seq,
            at: stored.at,
            fence: stored.fence,
            is_edit: control.edited().is_some(),
            nodes: match control.edited() {
                Some(nodes) => nodes.to_vec(),
                None => before.map(|before| before.nodes()).unwrap_or_default(),
            },
            writes: show_delta(&stored.delta)?,
            next: control.nodes(),
            within_ms: control.times(),
        })
    }
}
