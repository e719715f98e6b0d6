//! The runs that a worker has at this moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use velo_engine::RunId;

/// Reaches the turns of runs, to tell them that somebody cancelled their run.
#[derive(Debug, Default)]
pub(crate) struct Live {
    turns: Mutex<HashMap<RunId, CancellationToken>>,
}

impl Live {
    pub(crate) fn begin(&self, run: RunId) -> CancellationToken {
        let token = CancellationToken::new();
        self.with(|turns| turns.insert(run, token.clone()));
        token
    }

    pub(crate) fn end(&self, run: RunId) {
        self.with(|turns| turns.remove(&run));
    }

    pub(crate) fn cancel(&self, run: RunId) {
        if let Some(token) = self.with(|turns| turns.get(&run).cloned()) {
            token.cancel();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.with(|turns| turns.is_empty())
    }

    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.with(|turns| turns.keys().copied().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<RunId, CancellationToken>) -> T) -> T {
        act(&mut self.turns.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
