//! What the attempts of all nodes need, whatever their types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sqlx::PgPool;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use super::{ItemWrites, Seen, Voice};
use crate::lease::Lease;
use crate::observed::{Happening, Observed};
use crate::places::{Placed, Places};
use crate::resources::Resources;
use crate::store::wait::StoredSignal;
use crate::time_limit::Pulse;
use crate::vault::Vault;
use crate::wait::NewWait;

/// One attempt of one task.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) pool: PgPool,
    pub(crate) places: Places,
    pub(crate) vault: Vault,
    pub(crate) lease: Lease,
    /// The step that is being taken; its row does not exist yet.
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) node: String,
    pub(crate) attempt: u32,
    pub(crate) is_resumed: bool,
    /// Steps that the run may still take, this one included.
    pub(crate) steps_left: u64,
    pub(crate) cancelled: CancellationToken,
    pub(crate) pulse: Pulse,
    /// Cancelled when the lease is lost: the worker then drops the attempt.
    pub(crate) lost: CancellationToken,
    pub(crate) resources: Arc<Resources>,
    pub(crate) observer: Option<broadcast::Sender<Observed>>,
    pub(crate) voice: Voice,
    pub(crate) memos: Mutex<Memos>,
    pub(crate) transaction: tokio::sync::Mutex<Slot>,
    pub(crate) emitted: Mutex<Vec<Emitted>>,
    /// Documents of the long-term store.
    pub(crate) items: Mutex<ItemWrites>,
    pub(crate) waits: Mutex<Waits>,
    /// Gates that the attempt has asked to pass, and how often.
    pub(crate) permits: Mutex<BTreeMap<String, i32>>,
    /// Notified when an attempt of the turn begins to wait.
    pub(crate) asked: Arc<Notify>,
    /// Unused signals of the run, shared by all tasks of the step.
    pub(crate) signals: Arc<Mutex<Vec<StoredSignal>>>,
    /// Whether the run has a parent or children.
    pub(crate) has_family: Arc<AtomicBool>,
}

/// What an attempt waited for, and what it waits for now.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Waits of earlier attempts.
    pub(crate) seen: BTreeMap<String, Seen>,
    /// Waits of this one.
    pub(crate) new: Vec<NewWait>,
    /// Signals that this attempt has taken.
    pub(crate) taken: Vec<StoredSignal>,
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
        lock(&self.emitted).push(event);
    }

    pub(crate) fn take_emitted(&self) -> Vec<Emitted> {
        std::mem::take(&mut *lock(&self.emitted))
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

    pub(crate) fn is_waiting(&self) -> bool {
        !lock(&self.waits).new.is_empty()
    }

    /// What the attempt waits for, without ending that.
    pub(crate) fn waits(&self) -> Vec<NewWait> {
        lock(&self.waits).new.clone()
    }

    /// Names of the waits for which the attempt had what they wait for when it began.
    pub(crate) fn come(&self) -> Vec<String> {
        let waits = lock(&self.waits);
        let come = waits.seen.iter().filter(|(_, seen)| seen.has_come());
        come.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn take_waits(&self) -> Vec<NewWait> {
        std::mem::take(&mut lock(&self.waits).new)
    }

    /// The signals that this attempt has taken, oldest first.
    pub(crate) fn taken(&self) -> Vec<i64> {
        lock(&self.waits)
            .taken
            .iter()
            .map(|signal| signal.id)
            .collect()
    }

    /// Undoes what only a commit would have made true: the signals go back, and the transaction is
    /// rolled back, so that its connection goes back before another is asked for, and its locks with it,
    /// whoever still has the context. In use by what the node has spawned, it goes later.
    pub(crate) fn undo(&self) {
        let mut taken = std::mem::take(&mut lock(&self.waits).taken);
        if !taken.is_empty() {
            let mut signals = lock(&self.signals);
            signals.append(&mut taken);
            signals.sort_by_key(|signal| signal.id);
        }
        drop(self.close());
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

    /// Whether the attempt has left nothing that must be committed together with its outcome.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has_transaction()
            && lock(&self.emitted).is_empty()
            && lock(&self.items).is_empty()
            && lock(&self.waits).taken.is_empty()
    }

    /// All results that are kept for the task, also those of this attempt.
    pub(crate) fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.memos).kept.clone()
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

/// What panicked elsewhere left the value whole: it is only ever replaced.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
