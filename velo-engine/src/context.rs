//! What a node sees of its run, and how it leaves something behind.

mod child;
mod item;
mod limit;
mod memo;
mod say;
mod scene;
mod select;
mod transaction;
mod wait;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{NodeError, NodeErrorKind};
use crate::executor::Checkpoint;
use crate::observed::Happening;
use crate::run_id::RunId;
use crate::state::State;
use crate::storable;
use crate::vault::Home;

pub use child::{Child, ChildEnd};
pub(crate) use item::ItemWrites;
pub use memo::StepKey;
pub(crate) use say::Voice;
pub(crate) use scene::{Emitted, Memos, Scene, Slot, Waits};
pub use select::Select;
pub use transaction::{FencedTransaction, NodeTransaction};
pub use wait::Ask;
pub(crate) use wait::Seen;

/// The view that one attempt of a node has of its run. Cheap to clone.
///
/// | to | use |
/// |---|---|
/// | read the state, the payload | [`state`](Self::state), [`input`](Self::input) |
/// | do something outside once, and keep the result | [`step`](Self::step) |
/// | write to the database, exactly once | [`tx`](Self::tx) |
/// | write to the database now, at least once | [`begin`](Self::begin) |
/// | wait for a person, a time, a message | [`ask`](Self::ask), [`sleep`](Self::sleep), [`signal`](Self::signal) |
/// | wait for whichever of them comes first | [`select`](Self::select) |
/// | read and write what outlives the run | [`get`](Self::get), [`put`](Self::put), [`search`](Self::search) |
/// | have another graph do a part | [`child`](Self::child) |
/// | keep to a limit of the whole fleet | [`limit`](Self::limit) |
/// | tell watchers, exactly once | [`emit`](Self::emit) |
/// | tell watchers anywhere, now and perhaps | [`say`](Self::say), [`show`](Self::show) |
/// | tell watchers in this process, now | [`progress`](Self::progress) |
pub struct Context<S: State, I = ()> {
    scene: Arc<Scene>,
    checkpoint: Arc<Checkpoint<S>>,
    input: Arc<I>,
}

impl<S: State, I> Context<S, I> {
    pub(crate) fn new(scene: Arc<Scene>, checkpoint: Arc<Checkpoint<S>>, input: I) -> Self {
        Self {
            scene,
            checkpoint,
            input: Arc::new(input),
        }
    }

    /// The state as the last step left it. What this step writes is not in it.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.checkpoint.state
    }

    /// The payload that the node was sent; `()` when it was reached otherwise.
    #[must_use]
    pub fn input(&self) -> &I {
        &self.input
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.scene.lease.run
    }

    /// Which attempt this is, from one. Attempts that ended with the death of their process are not counted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.scene.attempt
    }

    /// Whether somebody resumed the run at this step, after attempts had failed: what failed for good
    /// may be tried afresh.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.scene.is_resumed
    }

    /// Steps that the run may still take, this one included: 1 in the last one that it is allowed,
    /// where a loop should come to its end.
    #[must_use]
    pub fn steps_left(&self) -> u64 {
        self.scene.steps_left
    }

    /// The fence of the lease under which this attempt runs. It grows each time the run changes
    /// hands: a third party that keeps the greatest one it has seen can refuse late comers.
    #[must_use]
    pub fn fence(&self) -> i64 {
        self.scene.lease.fence
    }

    /// Resolves when the result is no longer wanted: somebody cancelled the run, or the lease is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn cancelled(&self) {
        self.scene.cancelled.cancelled().await;
    }

    /// What the worker was given for its nodes by this type. Where one is missing is found out only
    /// when a node asks; a node that owns what it needs, see [`Node`](crate::Node), cannot miss it.
    ///
    /// # Errors
    /// A permanent error when it was given none.
    pub fn resource<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, NodeError> {
        self.scene.resources.get().ok_or_else(|| {
            let wanted = std::any::type_name::<T>();
            NodeError::permanent(format!(
                "the worker has no resource of type {wanted}: give it one with .resource(…)"
            ))
        })
    }

    /// Appends an event to the run's stream when the step is committed, and only then.
    /// [`Engine::events`](crate::Engine::events) reads it. `kind` must not be empty.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { id: i64 }
    /// #[derive(Serialize)]
    /// struct Shipped { order: i64 }
    ///
    /// async fn notify(cx: Context<Order>) -> NodeResult<Order> {
    ///     cx.emit("order_shipped", &Shipped { order: cx.state().id })?;
    ///     Ok(Next::none())
    /// }
    /// ```
    ///
    /// # Errors
    /// A permanent error when `body` has no JSON form that can be read back, or is too large.
    pub fn emit(&self, kind: impl Into<String>, body: &impl Serialize) -> Result<(), NodeError> {
        let kind = kind.into();
        if kind.is_empty() || kind.contains('\0') {
            return Err(NodeError::permanent(
                "the kind of an event must not be empty and has no NUL",
            ));
        }
        let body = storable::to_value("body", body)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
        let limits = self.scene.vault.limits();
        let fits = limits.check_json(&kind, Some(&self.scene.node), &body);
        fits.map_err(|error| error.of_node())?;
        let home = Home::named_of_run(self.scene.lease.run, "event", &kind);
        let sealed = self.scene.vault.seal_json(home, body);
        let body = sealed.map_err(|error| error.of_node())?;
        self.scene.emit(Emitted { kind, body });
        Ok(())
    }

    /// Gives a sign of life, for an [idle limit](crate::TimeLimit::idle). Nothing is stored.
    pub fn heartbeat(&self) {
        self.scene.pulse.beat();
    }

    /// Tells whoever watches this process's worker how far the node is. Nothing is stored, and
    /// nobody may be listening.
    pub fn progress(&self, body: serde_json::Value) {
        self.heartbeat();
        self.scene.observe(Happening::Progress { body });
    }
}

impl<S: State, I> Clone for Context<S, I> {
    fn clone(&self) -> Self {
        Self {
            scene: Arc::clone(&self.scene),
            checkpoint: Arc::clone(&self.checkpoint),
            input: Arc::clone(&self.input),
        }
    }
}

impl<S: State, I> fmt::Debug for Context<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("run", &self.scene.lease.run)
            .field("node", &self.scene.node)
            .field("attempt", &self.scene.attempt)
            .finish_non_exhaustive()
    }
}
