//! Finding the node that kills its process, and keeping that from being blamed on the runs beside it.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::place::Place;
use super::{Note, Turn};
use crate::state::State;

/// Deaths at the same step from which on a run is suspected. The function `velo.give_up` has the same number.
const SUSPECTED_FROM: i64 = 2;
/// How long a suspected run waits for another one of its process.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes of suspected runs that are at work at once in this process: when it dies, one run alone is to blame.
static SUSPECTS: Semaphore = Semaphore::const_new(1);

/// Held while nodes of a suspected run are at work.
pub(super) struct Alone {
    /// None when another one has taken too long: both go on, and both may be blamed.
    _permit: Option<SemaphorePermit<'static>>,
}

impl<S: State> Turn<'_, S> {
    /// Waits until no other suspected run is at work in this process; `None` for a run that is not suspected.
    pub(super) async fn stand_alone(&self, place: &Place<S>) -> Option<Alone> {
        if place.crashes < SUSPECTED_FROM {
            return None;
        }
        // What an earlier lease has noted blames nobody who waits here.
        self.write(&Note::Suspect(None)).await;
        let permit = tokio::time::timeout(PATIENCE, SUSPECTS.acquire()).await;
        Some(Alone {
            _permit: permit.ok().and_then(Result::ok),
        })
    }

    /// Notes which node begins.
    pub(super) async fn note_suspect(&self, place: &Place<S>, index: usize) {
        let node = &place.checkpoint.tasks[index].node;
        self.write(&Note::Suspect(Some(node))).await;
        tracing::info!(
            run.id = %self.lease.run, node.name = %node, run.crashes = place.crashes,
            "running a node alone, since workers have died of this run before"
        );
    }
}
