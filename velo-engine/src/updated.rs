//! What the handler of an update returns.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::State;
use crate::storable::{self, NotStorable};

/// What the handler of an update returns: what is written and answered, or a refusal.
pub type UpdateResult<S, Out> = Result<Updated<S, Out>, Refusal>;

/// An update that was accepted: what it writes to the state, and its answer. Made of both by `.into()`:
/// `Ok((Order::update().items(3), 300).into())`.
#[derive(Debug)]
pub struct Updated<S: State, Out> {
    pub(crate) update: S::Update,
    pub(crate) answer: Out,
    pub(crate) signals: Vec<(String, Result<Value, NotStorable>)>,
}

impl<S: State, Out> Updated<S, Out> {
    /// Writes `update` to the state, and answers.
    pub fn new(update: S::Update, answer: Out) -> Self {
        Self {
            update,
            answer,
            signals: Vec::new(),
        }
    }

    /// Sends the run a message as well, together with what is written: a node that
    /// [waits](crate::Context::signal) for it goes on, and sees the state with the update.
    #[must_use]
    pub fn signal(mut self, name: impl Into<String>, payload: &impl Serialize) -> Self {
        let payload = storable::to_value("message", payload);
        self.signals.push((name.into(), payload));
        self
    }
}

impl<S: State, Out> From<(S::Update, Out)> for Updated<S, Out> {
    fn from((update, answer): (S::Update, Out)) -> Self {
        Self::new(update, answer)
    }
}

/// Why an update was refused. Nothing is written then.
///
/// ```
/// use serde_json::json;
/// use velo_engine::Refusal;
///
/// let short = Refusal::from("it is shipped already");
/// let full = Refusal::new("there are too few in stock").details(json!({ "left": 2 }));
/// assert_eq!(full.to_string(), "there are too few in stock");
/// # let _ = short;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// For people.
    pub reason: String,
    /// For who asked.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Refusal {
    /// A refusal for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            // Neither JSON in the database nor who reads it has a use for that character.
            reason: reason.into().replace('\0', "\u{fffd}"),
            details: Value::Null,
        }
    }

    /// Tells who asked more.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}
