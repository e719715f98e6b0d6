//! What a run has done that can be taken back, and its way back.

use serde::{Deserialize, Serialize};

use super::{AdvanceError, Task};
use crate::next::{Back, Route, Sent};

/// What a run has [registered](crate::Next::and_compensation) to be taken back, and whether it is on its
/// [way back](crate::Next::unwind).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saga {
    /// The tasks that take it back, in the order in which they were registered.
    pub compensations: Vec<Task>,
    /// On the way back, what follows it: one task, or none when the run ends then.
    pub back_to: Option<Vec<Task>>,
}

impl Saga {
    /// Whether the run is on its way back.
    #[must_use]
    pub fn is_unwinding(&self) -> bool {
        self.back_to.is_some()
    }

    /// All the tasks that it may still begin.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.compensations
            .iter()
            .chain(self.back_to.iter().flatten())
    }

    pub(crate) fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Vec<Task>> {
        std::iter::once(&mut self.compensations).chain(&mut self.back_to)
    }

    pub(super) fn register(
        &mut self,
        from: &str,
        to: &str,
        sent: Sent,
    ) -> Result<(), AdvanceError> {
        let input = sent.input.map_err(|reason| AdvanceError::BadPayload {
            from: from.to_owned(),
            to: to.to_owned(),
            reason,
        })?;
        self.compensations.push(Task {
            node: to.to_owned(),
            send: Some(0),
            input: Some(input),
            within: sent.within,
        });
        Ok(())
    }

    /// Turns back. Of several tasks of a step that do, the first says what follows.
    pub(super) fn unwind(&mut self, from: &str, back: Back) -> Result<(), AdvanceError> {
        if let Some(to) = back.beside {
            return Err(AdvanceError::Unwinding {
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
        let then = back.then.map(|node| Task {
            node: node.to_owned(),
            send: None,
            input: None,
            within: None,
        });
        self.back_to
            .get_or_insert_with(|| then.into_iter().collect());
        Ok(())
    }

    /// Whether a task of the way back may leave this route: it has no way of its own.
    pub(super) fn may_leave(&self, from: &str, route: &Route) -> Result<(), AdvanceError> {
        let Route::To(targets) = route else {
            return Ok(());
        };
        match targets.first() {
            None => Ok(()),
            Some(target) => Err(AdvanceError::Unwinding {
                from: from.to_owned(),
                to: target.node().to_owned(),
            }),
        }
    }

    /// The next task of the way back: what was registered last. After the first of all, what follows.
    pub(super) fn step_back(&mut self) -> Vec<Task> {
        match self.compensations.pop() {
            Some(task) => vec![task],
            None => self.back_to.take().unwrap_or_default(),
        }
    }
}
