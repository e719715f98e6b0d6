//! Transactions of a node.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::{MappedMutexGuard, MutexGuard};

use super::{Context, Scene};
use crate::error::NodeError;
use crate::state::State;
use crate::store;

/// The transaction that commits together with the node's step. A `PgConnection`, to run statements on.
#[derive(Debug)]
pub struct NodeTransaction<'a>(MappedMutexGuard<'a, Transaction<'static, Postgres>>);

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
    transaction: Transaction<'static, Postgres>,
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

impl Scene {
    /// Whether the node has opened its transaction. One that is in use counts.
    pub(super) fn has_transaction(&self) -> bool {
        self.transaction
            .try_lock()
            .map_or(true, |slot| slot.is_some())
    }
}

impl<S: State, I> Context<S, I> {
    /// The transaction in which this node's step will be committed: what is written through it
    /// happens exactly once, together with the step. It is opened by the first call and rolled back
    /// when the attempt fails.
    ///
    /// It holds a connection until the node returns, so do slow work before, and every
    /// [`step`](Self::step) too: a step needs a second connection to keep its result, and when all of
    /// the pool's are held by nodes that wait for one, none of them gets it. Have a pool with more
    /// connections than nodes that can be at work at once.
    ///
    /// What is returned is a guard: calls later in the same attempt give the same transaction again, but
    /// only once the guard before is dropped. A call under a live guard, perhaps in a function of yours
    /// that was handed the context, waits for ever; hand such a function the guard,
    /// `&mut PgConnection`, instead.
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
    /// When no transaction can be opened.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn tx(&self) -> Result<NodeTransaction<'_>, NodeError> {
        let mut slot = self.scene.transaction.try_lock().map_err(|_| {
            NodeError::permanent(
                "cx.tx() was called while the transaction is in use: let go of it first",
            )
        })?;
        if slot.is_none() {
            *slot = Some(store::begin(&self.scene.pool).await?);
        }
        let open = MutexGuard::map(slot, |slot| slot.as_mut().expect("opened above"));
        Ok(NodeTransaction(open))
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
            transaction: store::begin(&self.scene.pool).await?,
            scene: &self.scene,
        })
    }
}
