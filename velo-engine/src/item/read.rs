//! Reading one document.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use sqlx::{Acquire, PgConnection};

use super::{Item, ItemError, Namespace, Target, check_key};
use crate::store;
use crate::store::item::{Found, Place};

pub(super) const READING: &str = "read the item";

/// A document about to be read. Await it, or [`in_tx`](Self::in_tx).
#[derive(Debug)]
#[must_use = "nothing is read before it is awaited"]
pub struct Get<'a> {
    target: Target<'a>,
    namespace: &'a Namespace,
    key: &'a str,
    refresh: bool,
}

impl<'a> Get<'a> {
    pub(crate) fn new(target: Target<'a>, namespace: &'a Namespace, key: &'a str) -> Self {
        Self {
            target,
            namespace,
            key,
            refresh: false,
        }
    }

    /// Has it live on, for its whole time from now on, if it is to expire. In a node that is done when the
    /// step is committed.
    pub fn refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// Reads it as the transaction of `conn` sees it.
    ///
    /// # Errors
    /// As when it is awaited.
    ///
    /// # Cancel safety
    /// Part of the caller's transaction.
    pub async fn in_tx(self, conn: &mut PgConnection) -> Result<Option<Item>, ItemError> {
        check_key(self.key)?;
        let found = self.on(conn).await.map_err(ItemError::on(READING))?;
        found
            .map(|found| found.opened(self.target.vault()))
            .transpose()
    }

    async fn on(&self, conn: &mut PgConnection) -> Result<Option<Found>, sqlx::Error> {
        let namespace = self.namespace.encoded();
        if self.refresh {
            store::item::refresh(&mut *conn, &[Place::new(&namespace, self.key)]).await?;
        }
        store::item::get(conn, &namespace, self.key).await
    }

    async fn now(self) -> Result<Option<Item>, ItemError> {
        check_key(self.key)?;
        match self.target {
            Target::Pool(pool, _) => {
                let mut conn = pool.acquire().await.map_err(ItemError::on(READING))?;
                self.in_tx(conn.acquire().await.map_err(ItemError::on(READING))?)
                    .await
            }
            Target::Node(scene) => scene.get_item(self.namespace, self.key, self.refresh).await,
        }
    }
}

impl<'a> IntoFuture for Get<'a> {
    type Output = Result<Option<Item>, ItemError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Reads it; `None` when there is none, or it has expired.
    ///
    /// Errors are [`ItemError::Key`], [`ItemError::Sealed`], in a node [`ItemError::InUse`], or the database's. Dropped half-way,
    /// nothing is lost.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.now())
    }
}
