//! Claims runs on a connection of its own: no node can keep it waiting for one, and none is asked before each claim
//! whether it is still there.

use sqlx::{Connection, PgConnection, PgPool};
use velo_engine::RunId;
use velo_engine::lease::{Claim, Incarnation};

#[derive(Debug)]
pub(crate) struct Claimer {
    incarnation: Incarnation,
    pool: PgPool,
    connection: Option<PgConnection>,
}

impl Claimer {
    pub(crate) fn new(incarnation: Incarnation, pool: &PgPool) -> Self {
        Self {
            incarnation,
            pool: pool.clone(),
            connection: None,
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Leases up to `limit` ready runs; with `only`, that one.
    ///
    /// # Errors
    /// The database's, and `PoolClosed` once the engine's pool is closed. After an error, the next call connects anew.
    ///
    /// # Cancel safety
    /// As [`Incarnation::claim`], and the next call connects anew.
    pub(crate) async fn claim(
        &mut self,
        codes: &[String],
        limit: usize,
        only: Option<RunId>,
    ) -> Result<Vec<Claim>, sqlx::Error> {
        if self.pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => PgConnection::connect_with(&self.pool.connect_options()).await?,
        };
        let claims = self
            .incarnation
            .claim(&mut connection, codes, limit, only)
            .await?;
        self.connection = Some(connection);
        Ok(claims)
    }
}
