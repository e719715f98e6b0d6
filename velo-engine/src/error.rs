//! What a node says when it fails: data, since it is stored and read back after a crash.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time_limit::Limit;

/// Most causes that are kept of an error.
const CAUSES_MAX: usize = 16;
/// Most bytes that are kept of one message.
const MESSAGE_MAX: usize = 8 * 1024;

/// What a node returns.
pub type NodeResult<S> = Result<crate::Next<S>, NodeError>;

/// A failed attempt of a node.
///
/// `?` makes one from any error, to be tried again as the node's [`RetryPolicy`](crate::RetryPolicy)
/// says; [`Again`] says otherwise:
///
/// ```
/// use std::time::Duration;
/// use velo_engine::{Again, NodeError};
///
/// fn charge(card: &str) -> Result<(), NodeError> {
///     let number: u64 = card.parse().permanent()?; // no use in trying again
///     std::fs::read("rates").retry_after(Duration::from_secs(30))?;
///     println!("charging {number}");
///     Ok(())
/// }
/// # assert!(charge("no number").unwrap_err().is_permanent());
/// ```
///
/// When there are no attempts left, or the error is permanent, the run does not fail: it is
/// [paused](crate::RunStatus::Paused) with this error as the reason, until somebody
/// [resumes](crate::Engine::resume) or [cancels](crate::Engine::cancel) it. So an error is for what a
/// person should see to. What the graph itself can deal with, such as a refused order that is to be
/// refunded, is a value: return it as an update and go to the node that deals with it.
///
/// A `Box<dyn Error>` or the report of an error crate is no [`Error`](std::error::Error) itself, so `?`
/// does not take it: say `.map_err(|error| NodeError::transient(error.to_string()))`, or hand
/// [`NodeError::of`] what is in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeError {
    /// Whether, and when, to try again.
    pub kind: NodeErrorKind,
    /// What was being done and why it failed.
    pub message: String,
    /// What caused it, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What it is to a [retry policy of its own](crate::GraphBuilder::retry_when).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The Rust type of the error that it was made from by `?`, [`Again`] or [`from`](From::from), for people and
    /// for [`FailureClass::of`](crate::FailureClass::of).
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
}

/// What a [`NodeError`] means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeErrorKind {
    /// Tried again as the policy says.
    Transient,
    /// Tried again as the policy says, but not before this time has passed.
    RetryAfter(Duration),
    /// Not tried again: the same attempt would fail again.
    Permanent,
    /// The node panicked. Tried again as the policy says.
    Panic,
    /// The node took too long; see [`TimeLimit`](crate::TimeLimit). Tried again as the policy says, unless
    /// the limit [is final](crate::Limit::is_final).
    TimedOut {
        /// The limit that was passed.
        limit: Limit,
        /// How long it allowed.
        after: Duration,
    },
    /// The engine could not use what the node returned. Not tried again: the code must be mended.
    Refused,
    /// What is stored of the run cannot be read, such as for want of a key; see [`codec`](crate::codec). Not
    /// tried again: once it can be read, resume the run.
    Unreadable,
}

impl NodeError {
    /// An error that may pass.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(NodeErrorKind::Transient, message)
    }

    /// An error that does not pass by itself.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(NodeErrorKind::Permanent, message)
    }

    pub(crate) fn new(kind: NodeErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: storable(&message.into()),
            causes: Vec::new(),
            class: None,
            error_type: None,
        }
    }

    /// As `error` says, with all its causes.
    #[must_use]
    pub fn of(kind: NodeErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            kind,
            message: storable(&error.to_string()),
            causes: causes
                .take(CAUSES_MAX)
                .map(|cause| storable(&cause.to_string()))
                .collect(),
            class: None,
            error_type: None,
        }
    }

    /// Of an attempt that was over a limit.
    pub(crate) fn timed_out(limit: Limit, after: Duration) -> Self {
        let message =
            format!("the node took longer than the {after:?} that its {limit} limit allows");
        Self::new(NodeErrorKind::TimedOut { limit, after }, message)
    }

    /// The same error, with a class for [`retry_when`](crate::GraphBuilder::retry_when).
    #[must_use]
    pub fn classed(mut self, class: impl Into<String>) -> Self {
        self.class = Some(storable(&class.into()));
        self
    }

    /// Of a panic in what `who` names.
    pub(crate) fn panic(who: &str, payload: &(dyn std::any::Any + Send)) -> Self {
        let said = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        let said = said.unwrap_or_else(|| "a value that is no text".to_owned());
        Self::new(NodeErrorKind::Panic, format!("{who} panicked: {said}"))
    }

    /// As it can be stored: its fields are public, so anything may be in them.
    pub(crate) fn storable(mut self) -> Self {
        self.message = storable(&self.message);
        self.class = self.class.map(|class| storable(&class));
        self.error_type = self.error_type.map(|name| storable(&name));
        self.causes.truncate(CAUSES_MAX);
        self.causes
            .iter_mut()
            .for_each(|cause| *cause = storable(cause));
        self
    }

    /// Whether it is not tried again.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self.kind {
            NodeErrorKind::Permanent | NodeErrorKind::Refused | NodeErrorKind::Unreadable => true,
            NodeErrorKind::TimedOut { limit, .. } => limit.is_final(),
            _ => false,
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for NodeError {
    fn from(error: E) -> Self {
        Self {
            error_type: Some(storable(std::any::type_name::<E>())),
            ..Self::of(NodeErrorKind::Transient, &error)
        }
    }
}

/// The message, then each cause.
impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

/// Says of an error whether the node is to be tried again.
pub trait Again<T> {
    /// Not again.
    ///
    /// # Errors
    /// The error, as a permanent one.
    fn permanent(self) -> Result<T, NodeError>;

    /// Again, but not before `delay` has passed.
    ///
    /// # Errors
    /// The error, with the delay.
    fn retry_after(self, delay: Duration) -> Result<T, NodeError>;
}

impl<T, E: Into<NodeError>> Again<T> for Result<T, E> {
    fn permanent(self) -> Result<T, NodeError> {
        self.map_err(|error| NodeError {
            kind: NodeErrorKind::Permanent,
            ..error.into()
        })
    }

    fn retry_after(self, delay: Duration) -> Result<T, NodeError> {
        self.map_err(|error| NodeError {
            kind: NodeErrorKind::RetryAfter(delay),
            ..error.into()
        })
    }
}

/// Text as Postgres can keep it in jsonb: bounded, and without NUL.
fn storable(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_causes_and_loses_what_cannot_be_stored() {
        let error = std::io::Error::other(NodeErrorText("inner \0 cause"));
        let failed = NodeError::from(error);
        assert_eq!(failed.message, "inner \u{fffd} cause");
        let long = NodeError::transient("ä".repeat(MESSAGE_MAX));
        assert!(long.message.len() <= MESSAGE_MAX);
        let stored = serde_json::to_string(&failed).unwrap();
        assert_eq!(serde_json::from_str::<NodeError>(&stored).unwrap(), failed);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct NodeErrorText(&'static str);

    #[test]
    fn a_later_word_about_trying_again_replaces_an_earlier_one() {
        let failed: Result<(), NodeError> = Err(NodeError::transient("busy"));
        let failed = failed.retry_after(Duration::from_secs(3)).permanent();
        assert!(failed.unwrap_err().is_permanent());
    }
}
