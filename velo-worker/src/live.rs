//! The runs that a worker has at this moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use velo_engine::lease::Call;
use velo_engine::{Reach, RunId};

/// Reaches the turns of runs.
#[derive(Debug, Default)]
pub(crate) struct Live {
    turns: Mutex<HashMap<RunId, Reach>>,
}

impl Live {
    pub(crate) fn begin(&self, run: RunId) -> Reach {
        let reach = Reach::default();
        self.with(|turns| turns.insert(run, reach.clone()));
        reach
    }

    pub(crate) fn end(&self, run: RunId) {
        self.with(|turns| turns.remove(&run));
    }

    /// Tells the turn of a run what has come for it.
    pub(crate) fn call(&self, call: Call) {
        if let Some(reach) = self.with(|turns| turns.get(&call.run).cloned()) {
            if call.is_cancelled {
                reach.cancelled.cancel();
            } else {
                reach.called.notify_one();
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.with(|turns| turns.is_empty())
    }

    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.with(|turns| turns.keys().copied().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<RunId, Reach>) -> T) -> T {
        act(&mut self.turns.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
