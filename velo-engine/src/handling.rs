//! What a graph says about failures: limits, and retry policies by class.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{NodeError, NodeErrorKind};
use crate::graph::GraphBuilder;
use crate::node::NodeKey;
use crate::node_failure::NodeFailure;
use crate::retry::RetryPolicy;
use crate::state::State;
use crate::time_limit::TimeLimit;

/// A class of failed attempts, told by what is stored of their errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureClass {
    /// [`NodeErrorKind::Transient`].
    Transient,
    /// [`NodeErrorKind::RetryAfter`].
    RetryAfter,
    /// [`NodeErrorKind::TimedOut`].
    TimedOut,
    /// [`NodeErrorKind::Panic`].
    Panic,
    /// Errors that were given this class by [`NodeError::classed`].
    Named(&'static str),
    /// Errors that were made from this Rust type; see [`of`](Self::of).
    Typed(&'static str),
}

impl FailureClass {
    /// Errors that `?`, [`Again`](crate::Again) or [`NodeError::from`] has made from an `E`, itself and not one of its
    /// causes. What is compared is the type's name at the moment of the failure, by the code that has failed.
    ///
    /// ```
    /// use velo_engine::{FailureClass, NodeError};
    ///
    /// let timed_out = FailureClass::of::<std::io::Error>();
    /// let failed = NodeError::from(std::io::Error::other("no answer"));
    /// assert!(timed_out.has(&failed) && !FailureClass::of::<std::fmt::Error>().has(&failed));
    /// ```
    #[must_use]
    pub fn of<E: std::error::Error + 'static>() -> Self {
        Self::Typed(std::any::type_name::<E>())
    }

    /// Whether the error is one of this class.
    #[must_use]
    pub fn has(self, error: &NodeError) -> bool {
        match self {
            Self::Transient => error.kind == NodeErrorKind::Transient,
            Self::RetryAfter => matches!(error.kind, NodeErrorKind::RetryAfter(_)),
            Self::TimedOut => matches!(error.kind, NodeErrorKind::TimedOut { .. }),
            Self::Panic => error.kind == NodeErrorKind::Panic,
            Self::Named(name) => error.class.as_deref() == Some(name),
            Self::Typed(name) => error.error_type.as_deref() == Some(name),
        }
    }
}

impl From<&'static str> for FailureClass {
    fn from(name: &'static str) -> Self {
        Self::Named(name)
    }
}

/// What is said of all nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handling {
    limits: BTreeMap<&'static str, TimeLimit>,
    classed: BTreeMap<&'static str, Vec<(FailureClass, RetryPolicy)>>,
    fail_fast: BTreeSet<&'static str>,
}

impl Handling {
    pub(crate) fn limit(&self, node: &str) -> TimeLimit {
        self.limits.get(node).copied().unwrap_or_default()
    }

    /// The policy for errors of this class, if the node has one.
    pub(crate) fn retry(&self, node: &str, error: &NodeError) -> Option<RetryPolicy> {
        let classed = self.classed.get(node)?;
        let (_, policy) = classed.iter().find(|(class, _)| class.has(error))?;
        Some(*policy)
    }

    pub(crate) fn fails_fast(&self, node: &str) -> bool {
        self.fail_fast.contains(node)
    }
}

impl<S: State> GraphBuilder<S> {
    /// Limits the time that `node` may take.
    #[must_use]
    pub fn time_limit<I>(mut self, node: NodeKey<S, I>, limit: TimeLimit) -> Self {
        self.handling.limits.insert(node.name(), limit);
        self.shape = self.shape.mention(".time_limit(…)", node);
        self
    }

    /// Tries `node` again as `policy` says when its attempt failed with an error of this class. Of
    /// several that fit, the one that was given first counts; without any, what
    /// [`retry`](Self::retry) says. The attempts of all classes are counted together. Permanent errors
    /// are not tried again, whatever their class.
    ///
    /// ```
    /// use std::time::Duration;
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::{FailureClass, prelude::*};
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Report { text: String }
    ///
    /// const WRITE: NodeKey<Report> = NodeKey::new("write");
    ///
    /// async fn write(_: Context<Report>) -> NodeResult<Report> {
    ///     Err(NodeError::transient("too many requests").classed("rate_limit"))
    /// }
    ///
    /// let patient = RetryPolicy { max_attempts: 20, ..RetryPolicy::default() };
    /// let graph = Graph::builder("report", 1)
    ///     .node(WRITE, write)
    ///     .retry_when(WRITE, "rate_limit", patient)
    ///     .retry_when(WRITE, FailureClass::Panic, RetryPolicy::never())
    ///     .retry_when(WRITE, FailureClass::of::<std::io::Error>(), RetryPolicy::default())
    ///     .start(WRITE)
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn retry_when<I>(
        mut self,
        node: NodeKey<S, I>,
        class: impl Into<FailureClass>,
        policy: RetryPolicy,
    ) -> Self {
        let classed = self.handling.classed.entry(node.name()).or_default();
        classed.push((class.into(), policy));
        self.shape = self.shape.mention(".retry_when(…)", node);
        self
    }

    /// Has `handler` take what `node` fails with when no attempt is left, instead of pausing the run: the
    /// step's other tasks finish, what the node would have written and where it would have gone is left
    /// out, and `handler` is among the next step's tasks, once for each task that failed. From there it goes
    /// its own ways: a join that waited for `node` goes on waiting, so a handler that stands in for it goes to
    /// the join's target, which [`may_stay_shut`](Self::may_stay_shut).
    ///
    /// What the code must be mended for ([`NodeErrorKind::Refused`]) pauses the run all the same, and so does
    /// a handler that fails, unless it was given one of its own.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::{NodeFailure, prelude::*};
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Order { note: String }
    ///
    /// const CHARGE: NodeKey<Order> = NodeKey::new("charge");
    /// const REFUND: NodeKey<Order, NodeFailure> = NodeKey::new("refund");
    ///
    /// async fn charge(_: Context<Order>) -> NodeResult<Order> { Err(NodeError::permanent("declined")) }
    ///
    /// async fn refund(cx: Context<Order, NodeFailure>) -> NodeResult<Order> {
    ///     Ok(Order::update().note(cx.input().error.to_string()).into())
    /// }
    ///
    /// let graph = Graph::builder("order", 1)
    ///     .node(CHARGE, charge).node(REFUND, refund)
    ///     .start(CHARGE).on_error(CHARGE, REFUND)
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn on_error<I>(mut self, node: NodeKey<S, I>, handler: NodeKey<S, NodeFailure>) -> Self {
        self.shape = self.shape.on_error(node, handler);
        self
    }

    /// Has `handler` take what every node without a handler of its own fails with, other than nodes that
    /// are handlers; see [`on_error`](Self::on_error).
    #[must_use]
    pub fn default_on_error(mut self, handler: NodeKey<S, NodeFailure>) -> Self {
        self.shape = self.shape.default_on_error(handler);
        self
    }

    /// Pauses the run at once when a task of `node` has no further attempt: what else of the step is at
    /// work is dropped, and not counted as an attempt. Otherwise the step's other tasks finish first. What
    /// has finished is kept either way. A failure that a [handler](Self::on_error) takes pauses nothing.
    #[must_use]
    pub fn fail_fast<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.handling.fail_fast.insert(node.name());
        self.shape = self.shape.mention(".fail_fast(…)", node);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let mut handling = Handling::default();
        let policy = |max_attempts| RetryPolicy {
            max_attempts,
            ..RetryPolicy::default()
        };
        let classed = vec![
            (FailureClass::Named("rate_limit"), policy(9)),
            (FailureClass::Transient, policy(4)),
        ];
        handling.classed.insert("ask", classed);
        let error = NodeError::transient("busy");
        assert_eq!(handling.retry("ask", &error), Some(policy(4)));
        let error = error.classed("rate_limit");
        assert_eq!(handling.retry("ask", &error), Some(policy(9)));
        assert_eq!(handling.retry("other", &error), None);
        assert_eq!(handling.retry("ask", &NodeError::permanent("no")), None);
    }
}
