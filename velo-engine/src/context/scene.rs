//! What the attempts of all nodes need, whatever their types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sqlx::PgPool;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::lease::Lease;
use crate::observed::{Happening, Observed};
use crate::places::{Placed, Places};
use crate::resources::Resources;

/// One attempt of one task.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) pool: PgPool,
    pub(crate) places: Places,
    pub(crate) lease: Lease,
    /// The step that is being taken; its row does not exist yet.
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) node: String,
    pub(crate) attempt: u32,
    pub(crate) cancelled: CancellationToken,
    /// Cancelled when the lease is lost: the worker then drops the attempt.
    pub(crate) lost: CancellationToken,
    pub(crate) resources: Arc<Resources>,
    pub(crate) observer: Option<broadcast::Sender<Observed>>,
    pub(crate) memos: Mutex<Memos>,
    pub(crate) transaction: tokio::sync::Mutex<Slot>,
    pub(crate) emitted: Mutex<Vec<Emitted>>,
}

/// Where the node's transaction is.
#[derive(Debug, Default)]
pub(crate) enum Slot {
    #[default]
    Unopened,
    Open(Placed),
    /// The attempt has ended: a context that outlives it opens no other.
    Closed,
}

/// Results kept for this task, and the names in use.
#[derive(Debug, Default)]
pub(crate) struct Memos {
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    pub(crate) used: BTreeSet<String>,
}

/// An event to be appended with the step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Emitted {
    pub(crate) kind: String,
    pub(crate) body: Value,
}

impl Scene {
    pub(crate) fn emit(&self, event: Emitted) {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        emitted.push(event);
    }

    pub(crate) fn take_emitted(&self) -> Vec<Emitted> {
        std::mem::take(&mut *self.emitted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn observe(&self, what: Happening) {
        if let Some(observer) = &self.observer {
            // Nobody listening is no failure.
            let _ = observer.send(Observed {
                run: self.lease.run,
                node: self.node.clone(),
                task: self.task,
                what,
            });
        }
    }

    /// Ends the attempt, and takes the transaction that it has opened. Fails while something that the
    /// node has spawned is using that.
    pub(crate) fn close(&self) -> Result<Option<Placed>, tokio::sync::TryLockError> {
        let mut slot = self.transaction.try_lock()?;
        Ok(match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(transaction) => Some(transaction),
            Slot::Unopened | Slot::Closed => None,
        })
    }

    /// All results that are kept for the task, also those of this attempt.
    pub(crate) fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        let memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        memos.kept.clone()
    }

    /// Whether the node holds a connection.
    pub(crate) fn has_transaction(&self) -> bool {
        self.transaction
            .try_lock()
            .map_or(true, |slot| matches!(*slot, Slot::Open(_)))
    }

    /// Gives this attempt up: what it would write next is refused anyway. Never returns, so that no
    /// user code can swallow the loss.
    pub(crate) async fn lose<T>(&self) -> T {
        self.lost.cancel();
        std::future::pending().await
    }
}
