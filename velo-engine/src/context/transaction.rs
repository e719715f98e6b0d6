//! Transactions of a node.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;
use tokio::sync::{MappedMutexGuard, MutexGuard};

use super::{Context, Scene, Slot};
use crate::error::NodeError;
use crate::places::Placed;
use crate::state::State;
use crate::store;

/// The transaction that commits together with the node's step. A `PgConnection`, to run statements on.
#[derive(Debug)]
pub struct NodeTransaction<'a>(MappedMutexGuard<'a, Placed>);

impl Deref for NodeTransaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for NodeTransaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// A transaction of its own, which commits only while the lease holds. A `PgConnection`, to run
/// statements on.
#[derive(Debug)]
pub struct FencedTransaction<'a> {
    transaction: Placed,
    scene: &'a Scene,
}

impl FencedTransaction<'_> {
    /// Commits what was written. When the lease is lost nothing is, and this does not return.
    ///
    /// # Errors
    /// The database's. When the answer was lost, the writes may or may not be committed.
    ///
    /// # Cancel safety
    /// Dropped half-way, the writes may or may not be committed.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        if !store::lease::hold(&mut self.transaction, self.scene.lease).await? {
            drop(self.transaction);
            return self.scene.lose().await;
        }
        self.transaction.commit().await
    }
}

impl Deref for FencedTransaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for FencedTransaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl<S: State, I> Context<S, I> {
    /// The transaction in which this node's step will be committed: what is written through it
    /// happens exactly once, together with the step. It is opened by the first call and rolled back
    /// when the attempt fails.
    ///
    /// It holds a connection until the node returns, so do slow work before, and every
    /// [`step`](Self::step) too: that needs a second connection, and is refused afterwards.
    /// Nodes may hold three quarters of the pool's connections; who comes later waits.
    ///
    /// What is returned is a guard: calls later in the same attempt give the same transaction again, but
    /// only once the guard before is dropped. Hand a function of yours the guard, `&mut PgConnection`,
    /// and not the context.
    ///
    /// An attempt that returns [`Err`] leaves nothing behind. One that returns [`Ok`] commits,
    /// wherever it routes to.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { id: i64, shipped: bool }
    /// async fn ship(cx: Context<Order>) -> NodeResult<Order> {
    ///     sqlx::query("insert into parcels (order_id) values ($1)")
    ///         .bind(cx.state().id)
    ///         .execute(&mut *cx.tx().await?)
    ///         .await?;
    ///     Ok(Order::update().shipped(true).into())
    /// }
    /// ```
    ///
    /// # Errors
    /// When no transaction can be opened; a permanent error when the attempt has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn tx(&self) -> Result<NodeTransaction<'_>, NodeError> {
        let mut slot = self.scene.transaction.try_lock().map_err(|_| {
            NodeError::permanent(
                "cx.tx() was called while the transaction is in use: let go of it first",
            )
        })?;
        if matches!(*slot, Slot::Unopened) {
            *slot = Slot::Open(self.scene.places.begin(&self.scene.pool).await?);
        }
        let open = MutexGuard::try_map(slot, |slot| match slot {
            Slot::Open(transaction) => Some(transaction),
            Slot::Unopened | Slot::Closed => None,
        });
        open.map(NodeTransaction)
            .map_err(|_| NodeError::permanent("the attempt has ended, and its transaction with it"))
    }

    /// Opens a transaction that commits by itself, at once, but only while the lease holds. When the
    /// node runs again, it is made again: write so that a second time does no harm.
    ///
    /// # Errors
    /// When no transaction can be opened.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn begin(&self) -> Result<FencedTransaction<'_>, NodeError> {
        if self.scene.has_transaction() {
            return Err(NodeError::permanent(
                "cx.begin() comes after the node has opened its transaction: do it before, \
                 or both would wait for each other's connection when the pool is in use",
            ));
        }
        Ok(FencedTransaction {
            transaction: self.scene.places.begin(&self.scene.pool).await?,
            scene: &self.scene,
        })
    }
}
