//! Asking for a place under a limit, or for a token of a rate, without holding a worker.

use super::scene::lock;
use super::{Context, Scene};
use crate::error::{NodeError, NodeErrorKind};
use crate::gate::Gate;
use crate::state::State;
use crate::store::gate::{Asking, Permit};
use crate::store::{self, Backoff};
use crate::wait::WaitKind;

impl<S: State, I> Context<S, I> {
    /// Goes on when the limit of this name allows it, in the whole fleet; see
    /// [`Engine::set_gate`](crate::Engine::set_gate) and [`Gate::Limit`]. Without such a limit it goes on
    /// at once.
    ///
    /// Until then no worker is held, as with [`ask`](Self::ask): once nothing else of the node is under way,
    /// the node is dropped, its run waits in the database, and the node runs again from its beginning.
    /// What must not happen again belongs into [`step`](Self::step), which may ask for the limit itself,
    /// so that what is kept already needs no token:
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { receipt: String }
    /// # async fn pay(key: String) -> std::io::Result<String> { Ok(key) }
    /// async fn charge(cx: Context<Order>) -> NodeResult<Order> {
    ///     let pay = async |key: velo_engine::StepKey| {
    ///         cx.limit("bank").await?;
    ///         Ok::<_, NodeError>(pay(key.to_string()).await?)
    ///     };
    ///     let receipt = cx.step("pay", pay).await?;
    ///     Ok(Order::update().receipt(receipt).into())
    /// }
    /// ```
    ///
    /// A place is kept until the attempt ends, however often it asks, and is free again when its process
    /// dies, as soon as the lease is taken over. Each call takes a token of the rate. Those that wait are served in
    /// the order in which they asked; one that is called and does not come within ten seconds goes to the
    /// end.
    ///
    /// # Errors
    /// The database's, as a transient error.
    ///
    /// # Cancel safety
    /// Dropped half-way, the permit may be had until the attempt ends.
    pub async fn limit(&self, name: impl Into<String>) -> Result<(), NodeError> {
        let name = name.into();
        if name.is_empty() || name.contains('\0') {
            let why = "the name of a limit must not be empty and has no NUL";
            return Err(NodeError::permanent(why));
        }
        self.scene.pass(Gate::Limit(name).to_string()).await
    }
}

impl Scene {
    /// Goes on when the gate allows it.
    pub(crate) async fn pass(&self, gate: String) -> Result<(), NodeError> {
        let call = {
            let mut permits = lock(&self.permits);
            let calls = permits.entry(gate.clone()).or_default();
            *calls += 1;
            *calls
        };
        let asking = Asking {
            lease: self.lease,
            seq: self.seq,
            task: self.task,
            node: &self.node,
            attempt: i32::try_from(self.attempt).unwrap_or(i32::MAX),
            call,
        };
        let mut backoff = Backoff::default();
        loop {
            match store::gate::take(&self.pool, asking, &gate).await {
                Ok(Permit::Free | Permit::Granted) => return Ok(()),
                Ok(Permit::Wait) => return self.wait(gate, WaitKind::Permit, None).await,
                Ok(Permit::Lost) => return self.lose().await,
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => return Err(NodeError::of(NodeErrorKind::Transient, &error)),
            }
        }
    }

    /// Whether the attempt may have a permit: it has asked for one, and not only for the one that it waits for.
    pub(crate) fn may_have_permits(&self) -> bool {
        let asked: i32 = lock(&self.permits).values().sum();
        asked > i32::from(self.is_held_up())
    }

    /// Whether the attempt waits for a permit.
    pub(crate) fn is_held_up(&self) -> bool {
        let waits = lock(&self.waits);
        waits.new.iter().any(|wait| wait.kind == WaitKind::Permit)
    }

    /// Gives the permits of the attempt back. What is lost here ends with the lease or the step.
    pub(crate) async fn release_permits(&self) {
        let released = store::gate::release(&self.pool, self.lease, self.seq, self.task);
        if let Err(error) = released.await {
            tracing::debug!(run.id = %self.lease.run, %error, "could not give permits back yet");
        }
    }
}
