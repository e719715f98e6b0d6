//! Reads for all turns of a worker where their runs stand: what is asked while one read is under way goes
//! together into the next. Nothing waits for company.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::run_id::RunId;
use crate::store::load::{self, Stored};

/// Reads under way at once: one is in the server while the next is being asked for.
const READERS: usize = 2;
/// Most runs in one read. Their states are in memory together.
const RUNS_MAX: usize = 64;

type Asked = (RunId, oneshot::Sender<Option<Stored>>);

/// Reads where runs stand, several in one statement when they are asked for together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loader {
    pool: PgPool,
    queue: mpsc::Sender<Asked>,
}

impl Loader {
    /// Starts its readers on the current runtime. They end when the last clone is dropped, or when `lost` is
    /// cancelled; from then on each turn reads by itself.
    ///
    /// ```no_run
    /// # use sqlx::PgPool;
    /// # use tokio_util::sync::CancellationToken;
    /// # use velo_engine::Loader;
    /// # async fn example(pool: PgPool) {
    /// let lost = CancellationToken::new();
    /// let load = Loader::start(&pool, &lost);
    /// # }
    /// ```
    #[must_use]
    pub fn start(pool: &PgPool, lost: &CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(RUNS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..READERS {
            let reader = read(pool.clone(), Arc::clone(&waiting));
            tokio::spawn(lost.clone().run_until_cancelled_owned(reader));
        }
        Self {
            pool: pool.clone(),
            queue,
        }
    }

    /// Where the run stands; `None` when there is no such run.
    pub(crate) async fn stored(&self, run: RunId) -> Result<Option<Stored>, sqlx::Error> {
        let (answer, stored) = oneshot::channel();
        if self.queue.send((run, answer)).await.is_ok()
            && let Ok(stored) = stored.await
        {
            return Ok(stored);
        }
        // The read of several failed, perhaps because of another run: alone it has an answer of its own.
        load::stored(&self.pool, run).await
    }
}

async fn read(pool: PgPool, waiting: Arc<Mutex<mpsc::Receiver<Asked>>>) {
    let mut asked: Vec<Asked> = Vec::new();
    while waiting.lock().await.recv_many(&mut asked, RUNS_MAX).await > 0 {
        let (runs, answers): (Vec<_>, Vec<_>) = asked.drain(..).unzip();
        match load::several(&pool, &runs).await {
            Ok(stored) => {
                for (answer, stored) in answers.into_iter().zip(stored) {
                    // A turn that no longer waits has lost its lease.
                    let _ = answer.send(stored);
                }
            }
            Err(error) => {
                tracing::debug!(runs = runs.len(), %error, "could not read several runs at once");
            }
        }
    }
}
