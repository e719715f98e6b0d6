//! The runs that a worker has at this moment.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use velo_engine::lease::{Call, Lease};
use velo_engine::{Reach, RunId};

/// Reaches the turns of runs.
///
/// By lease and not by run: a run that was given back can be claimed again before its last turn has
/// said that it ended.
#[derive(Debug, Default)]
pub(crate) struct Live {
    turns: Mutex<HashMap<Lease, Reach>>,
}

impl Live {
    pub(crate) fn begin(&self, lease: Lease) -> Reach {
        let reach = Reach::default();
        self.with(|turns| turns.insert(lease, reach.clone()));
        reach
    }

    pub(crate) fn end(&self, lease: Lease) {
        self.with(|turns| turns.remove(&lease));
    }

    /// Tells the turns of a run what has come for it.
    pub(crate) fn call(&self, call: Call) {
        self.with(|turns| {
            for (_, reach) in turns.iter().filter(|(lease, _)| lease.run == call.run) {
                if call.is_cancelled {
                    reach.cancelled.cancel();
                    continue;
                }
                if call.is_halted {
                    reach.halted.cancel();
                }
                if call.is_poked {
                    reach.called.notify_one();
                }
            }
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

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Lease, Reach>) -> T) -> T {
        act(&mut self.turns.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_earlier_turn_leaves_the_later_one_of_the_same_run_reachable() {
        let live = Live::default();
        let run = RunId::from_i64(1);
        let lease = |fence| Lease {
            run,
            worker: 1,
            fence,
        };
        live.begin(lease(1));
        let later = live.begin(lease(2));
        live.end(lease(1));
        live.call(Call {
            run,
            is_cancelled: true,
            is_poked: false,
            is_halted: false,
        });
        assert!(later.cancelled.is_cancelled());
    }
}
