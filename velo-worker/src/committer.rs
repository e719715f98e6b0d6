//! Commits the steps of all turns: what comes while one commit is under way goes together into the
//! next. Nothing waits for company.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};
use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use velo_engine::lease::{StepRow, Verdict, commit_all, commit_steps};
use velo_engine::{Commit, failpoint, is_transient};

use crate::metrics;

/// Commits under way at once.
const FLUSHERS: usize = 2;
/// A commit of fewer steps has none beside it: what waits for its end is soon there, and then shares the next one,
/// while two at once would each wait for the disk. With more, the time that they take is that of the server's processor.
const BESIDE_ROWS: usize = 64;
/// Most steps in one commit.
const BATCH_ROWS: usize = 256;
/// Most bytes in one commit, unless a single step has more.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Waits between two tries while the database is away.
const RETRY: Duration = Duration::from_millis(100);

type Answer = oneshot::Sender<Result<Verdict, sqlx::Error>>;

#[derive(Debug)]
pub(crate) struct Committer {
    queue: mpsc::Sender<(StepRow, Answer)>,
}

impl Committer {
    /// Starts the flushers. They end when the committer is dropped, or when `lost` is cancelled.
    pub(crate) fn start(pool: &PgPool, worker: i32, lost: &CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(BATCH_ROWS);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..FLUSHERS {
            let flusher = Flusher {
                options: pool.connect_options(),
                connection: None,
                worker,
                waiting: Arc::clone(&waiting),
            };
            tokio::spawn(lost.clone().run_until_cancelled_owned(flusher.run()));
        }
        Self { queue }
    }
}

#[async_trait]
impl Commit for Committer {
    async fn commit(&self, row: StepRow) -> Result<Verdict, sqlx::Error> {
        if failpoint::hit("step.send") {
            // As if the first answer had been lost.
            self.send(row.clone()).await?;
        }
        self.send(row).await
    }
}

impl Committer {
    async fn send(&self, row: StepRow) -> Result<Verdict, sqlx::Error> {
        let (answer, verdict) = oneshot::channel();
        // Both fail only when the flushers have ended with the lease.
        if self.queue.send((row, answer)).await.is_err() {
            return Ok(Verdict::Lost);
        }
        verdict.await.unwrap_or(Ok(Verdict::Lost))
    }
}

/// Commits on a connection of its own: no node can keep it waiting for one, and none is asked before
/// each commit whether it is still there.
struct Flusher {
    options: Arc<PgConnectOptions>,
    connection: Option<PgConnection>,
    worker: i32,
    waiting: Arc<Mutex<mpsc::Receiver<(StepRow, Answer)>>>,
}

impl Flusher {
    async fn run(mut self) {
        let mut taken = Vec::new();
        loop {
            let mut waiting = Arc::clone(&self.waiting).lock_owned().await;
            if waiting.recv_many(&mut taken, BATCH_ROWS).await == 0 {
                return;
            }
            // Kept until this commit is done, so that none begins beside it.
            let _alone = (taken.len() < BESIDE_ROWS).then_some(waiting);
            let mut rest = std::mem::take(&mut taken).into_iter().peekable();
            while rest.peek().is_some() {
                let (mut rows, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
                while let Some((row, answer)) =
                    rest.next_if(|(row, _)| rows.is_empty() || bytes + weight(row) <= BATCH_BYTES)
                {
                    bytes += weight(&row);
                    rows.push(row);
                    answers.push(answer);
                }
                self.flush(rows, answers).await;
            }
        }
    }

    /// Commits a batch. One that the database refuses is taken apart, so that a single bad step does
    /// not hold up the others.
    async fn flush(&mut self, rows: Vec<StepRow>, answers: Vec<Answer>) {
        let verdicts = match self.commit(&rows).await {
            Ok(verdicts) => verdicts.into_iter().map(Ok).collect(),
            Err(error) if rows.len() == 1 => vec![Err(error)],
            Err(_) => {
                let mut verdicts = Vec::new();
                for row in &rows {
                    let alone = self.commit(std::slice::from_ref(row)).await;
                    verdicts.push(alone.map(|verdicts| verdicts[0]));
                }
                verdicts
            }
        };
        for (answer, verdict) in answers.into_iter().zip(verdicts) {
            // A turn that no longer waits has lost its lease.
            let _ = answer.send(verdict);
        }
    }

    /// Commits, again while the database is away; the worker's lease bounds how long that is.
    async fn commit(&mut self, rows: &[StepRow]) -> Result<Vec<Verdict>, sqlx::Error> {
        loop {
            match self.try_commit(rows).await {
                Err(error) if is_transient(&error) => {
                    tracing::warn!(worker.id = self.worker, %error, "could not commit yet");
                    counter!(metrics::COMMIT_UNKNOWN).increment(1);
                    self.connection = None;
                    tokio::time::sleep(RETRY).await;
                }
                answered => return answered,
            }
        }
    }

    async fn try_commit(&mut self, rows: &[StepRow]) -> Result<Vec<Verdict>, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(open) => open,
            None => {
                let opened = PgConnection::connect_with(&self.options).await?;
                self.connection.insert(opened)
            }
        };
        let began = Instant::now();
        let verdicts = if commit_all(&mut *connection, self.worker, rows).await? {
            vec![Verdict::Added; rows.len()]
        } else {
            commit_steps(&mut *connection, self.worker, rows).await?
        };
        histogram!(metrics::COMMIT_SECONDS).record(began.elapsed());
        #[allow(clippy::cast_precision_loss, reason = "bounded by BATCH_ROWS")]
        histogram!(metrics::COMMIT_STEPS).record(rows.len() as f64);
        Ok(verdicts)
    }
}

fn weight(row: &StepRow) -> usize {
    row.delta.len() + row.control.len() + row.snapshot.as_ref().map_or(0, Vec::len)
}
