//! Which runs are meant, where many are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::RunStatus;

/// Runs that have not ended, of which all is true that is said here. Without anything said, all of them.
///
/// ```
/// use velo_engine::RunFilter;
///
/// let failed = RunFilter {
///     graph: Some("report".to_owned()),
///     node: Some("write".to_owned()),
///     ..RunFilter::failed()
/// };
/// assert!(failed.failed && failed.status.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunFilter {
    /// Of the graph of this name.
    pub graph: Option<String>,
    /// Of this version of their graphs.
    pub version: Option<i32>,
    /// Of this status.
    pub status: Option<RunStatus>,
    /// Paused by a failure, and not by somebody.
    pub failed: bool,
    /// Paused because of this node.
    pub node: Option<String>,
    /// Paused by failures of this [group](crate::FailureGroup).
    pub fingerprint: Option<String>,
    /// Of this [queue](crate::Start::queue).
    pub queue: Option<String>,
    /// Started at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Started before this time.
    pub until: Option<DateTime<Utc>>,
}

impl RunFilter {
    /// Runs that a failure has paused.
    #[must_use]
    pub fn failed() -> Self {
        Self {
            failed: true,
            ..Self::default()
        }
    }

    /// Whether only runs that have an error can be meant.
    pub(crate) fn is_of_failures(&self) -> bool {
        self.failed || self.node.is_some() || self.fingerprint.is_some()
    }
}
