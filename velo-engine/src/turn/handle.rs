//! Turning a task that has no attempt left into a task of its error handler.

use super::Turn;
use super::place::{Failures, Place};
use crate::error::NodeErrorKind;
use crate::next::{Next, Route, Sent, Target};
use crate::node_failure::NodeFailure;
use crate::state::State;

impl<S: State> Turn<'_, S> {
    /// The handler that takes this failure, if there is one. What the code must be mended for is none:
    /// the run is paused.
    pub(super) fn handler(&self, node: &str, failures: &Failures) -> Option<&'static str> {
        let error = failures.error.as_ref()?;
        if matches!(
            error.kind,
            NodeErrorKind::Refused | NodeErrorKind::Unreadable
        ) {
            return None;
        }
        self.graph.shape().node(node)?.on_error
    }

    /// Keeps "failed" as the outcome of each task that has a handler and no attempt left: from then on
    /// the step is taken with it, also after a crash. The failures themselves are stored already, so a
    /// crash before this leads here again, and not to the node.
    pub(super) async fn hand_over(&self, place: &mut Place<S>) {
        let handed: Vec<(usize, Next<S>)> = place
            .exhausted()
            .filter_map(|(index, failures)| {
                let task = place.checkpoint.tasks.get(index)?;
                let handler = self.handler(&task.node, failures)?;
                let failure = NodeFailure {
                    node: task.node.clone(),
                    input: task.input.clone(),
                    error: failures.error.clone()?,
                    attempts: failures.counted,
                };
                let payload = Sent {
                    input: serde_json::to_value(failure).map_err(|error| error.to_string()),
                    within: None,
                };
                let outcome = Next {
                    updates: Vec::new(),
                    route: Route::To(vec![Target::Send(handler, payload)]),
                    compensations: Vec::new(),
                };
                Some((index, outcome))
            })
            .collect();
        if handed.is_empty() {
            return;
        }
        for (index, error) in self.commit_outcomes(place, handed).await {
            // Stays exhausted: the run is paused with the node's own error.
            tracing::error!(run.id = %self.lease.run, task = index, %error, "could not hand a failure over");
        }
    }
}
