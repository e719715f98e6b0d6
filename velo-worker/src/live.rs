//! The runs that a worker has at this moment.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use velo_engine::RunId;
use velo_engine::lease::Lease;

/// Reaches the turns of runs, to tell them that somebody cancelled their run.
///
/// By lease and not by run: a run that was given back can be claimed again before its last turn has
/// said that it ended.
#[derive(Debug, Default)]
pub(crate) struct Live {
    turns: Mutex<HashMap<Lease, CancellationToken>>,
}

impl Live {
    pub(crate) fn begin(&self, lease: Lease) -> CancellationToken {
        let token = CancellationToken::new();
        self.with(|turns| turns.insert(lease, token.clone()));
        token
    }

    pub(crate) fn end(&self, lease: Lease) {
        self.with(|turns| turns.remove(&lease));
    }

    pub(crate) fn cancel(&self, run: RunId) {
        self.with(|turns| {
            turns
                .iter()
                .filter(|(lease, _)| lease.run == run)
                .for_each(|(_, token)| token.cancel());
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.with(|turns| turns.is_empty())
    }

    pub(crate) fn leases(&self) -> HashSet<Lease> {
        self.with(|turns| turns.keys().copied().collect())
    }

    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.with(|turns| turns.keys().map(|lease| lease.run).collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Lease, CancellationToken>) -> T) -> T {
        act(&mut self.turns.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_earlier_turn_leaves_the_later_one_of_the_same_run_reachable() {
        let live = Live::default();
        let lease = |fence| Lease {
            run: RunId::from_i64(1),
            worker: 1,
            fence,
        };
        live.begin(lease(1));
        let later = live.begin(lease(2));
        live.end(lease(1));
        live.cancel(RunId::from_i64(1));
        assert!(later.is_cancelled());
    }
}
