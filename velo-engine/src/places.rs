//! How many connections nodes may hold.
//!
//! A node's transaction holds a connection until the turn of its run has committed it, and the turn may
//! need another one first, to write down that a sibling failed. If nodes held all connections of the
//! pool, nobody could go on. So some are left to the engine, which holds none while it waits for another.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store;

/// One connection in so many is kept from nodes, and at least one.
const KEPT_ONE_IN: usize = 4;

/// Places for the transactions of nodes, fewer than a pool has connections; one in a pool of one, where
/// branches that hold a transaction can keep each other waiting. Cheap to clone, and clones share.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    /// As long as the pool waits for a connection.
    patience: Duration,
}

impl Places {
    pub(crate) fn of(pool: &PgPool) -> Self {
        let options = pool.options();
        let connections = usize::try_from(options.get_max_connections()).unwrap_or(usize::MAX);
        let kept = (connections / KEPT_ONE_IN).max(1);
        let places = connections.saturating_sub(kept).max(1);
        Self {
            free: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            patience: options.get_acquire_timeout(),
        }
    }

    /// Opens a transaction in a place.
    pub(crate) async fn begin(&self, pool: &PgPool) -> Result<Placed, sqlx::Error> {
        let free = Arc::clone(&self.free).acquire_owned();
        let place = tokio::time::timeout(self.patience, free)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .expect("never closed");
        Ok(Placed {
            transaction: store::begin(pool).await?,
            _place: Some(place),
        })
    }
}

/// A transaction, and the place that it takes.
#[derive(Debug)]
pub(crate) struct Placed {
    transaction: Transaction<'static, Postgres>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Placed {
    /// One of the engine's own, for which nothing else is waited for.
    pub(crate) async fn unbounded(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self {
            transaction: store::begin(pool).await?,
            _place: None,
        })
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl Deref for Placed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Placed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
