//! What an attempt waits for, before it is stored.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// Something that a task waits for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewWait {
    pub(crate) name: String,
    pub(crate) kind: WaitKind,
    /// Why the answer that was there could not be used.
    pub(crate) refusal: Option<String>,
    /// The [`Select`](crate::Select) that it is part of.
    pub(crate) race: Option<String>,
}

/// What kind of thing it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WaitKind {
    Ask {
        question: Value,
        schema: Option<Value>,
        within: Option<Duration>,
    },
    Sleep {
        until: Until,
    },
    Signal,
    /// The end of a run that the task has started under this name.
    Child,
    /// A permit of a gate; it is noted when it is asked for.
    Permit,
}

/// The end of a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// This long after it was first asked for, by the database's clock.
    After(Duration),
    At(DateTime<Utc>),
}

impl WaitKind {
    pub(crate) fn due_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Sleep {
                until: Until::At(time),
            } => Some(*time),
            _ => None,
        }
    }

    pub(crate) fn due_in(&self) -> Option<Duration> {
        match self {
            Self::Sleep {
                until: Until::After(duration),
            } => Some(*duration),
            Self::Ask { within, .. } => *within,
            _ => None,
        }
    }
}
