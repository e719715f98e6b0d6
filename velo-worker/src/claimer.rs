//! Claims runs on a connection of its own: no node can keep it waiting for one, and none is asked before each claim
//! whether it is still there.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::Instant;
use velo_engine::RunId;
use velo_engine::lease::{Claim, Incarnation, LinePlace};

/// For how many times as long as the last look at the whole line took, only the rest of it is looked at: while an old
/// snapshot keeps those in the index that were leased long ago, whole looks take a twentieth of the time.
const WHOLE_EVERY: u32 = 19;

/// Claims runs for one worker.
#[derive(Debug)]
pub(crate) struct Claimer {
    incarnation: Incarnation,
    pool: PgPool,
    connection: Option<PgConnection>,
    /// Where in the line the last run was that it leased; nothing when the whole line is to be looked at.
    after: Option<LinePlace>,
    /// When the whole line is to be looked at again.
    whole_at: Instant,
}

impl Claimer {
    pub(crate) fn new(incarnation: Incarnation, pool: &PgPool) -> Self {
        Self {
            incarnation,
            pool: pool.clone(),
            connection: None,
            after: None,
            whole_at: Instant::now(),
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How long one may wait for a hint before the next look, and at most `longest`: less when the last one was not
    /// at the whole line.
    pub(crate) fn patience(&self, longest: Duration) -> Duration {
        match self.after {
            Some(_) => longest.min(self.whole_at.saturating_duration_since(Instant::now())),
            None => longest,
        }
    }

    /// Has the next look be at the whole line, after no less than the longest wait.
    pub(crate) fn begin_anew(&mut self) {
        self.after = None;
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
        let after = self.after.take().filter(|_| Instant::now() < self.whole_at);
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => PgConnection::connect_with(&self.pool.connect_options()).await?,
        };
        let began = Instant::now();
        let claimed = self
            .incarnation
            .claim_after(&mut connection, codes, limit, only, after);
        let (claims, last) = claimed.await?;
        self.connection = Some(connection);
        if after.is_none() {
            self.whole_at = Instant::now() + began.elapsed() * WHOLE_EVERY;
        }
        // Queues let runs into any place of the line.
        let has_queues = claims.iter().any(|claim| claim.queue.is_some());
        self.after = last.or(after).filter(|_| !has_queues);
        Ok(claims)
    }
}
