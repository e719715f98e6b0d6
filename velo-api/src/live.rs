//! Projects told live: the events of their streams, on WebSockets, as they are committed.
//!
//! The events are read from the database, each socket from its own place on, so nothing depends on
//! a notification arriving. One connection of the process listens for those, and a socket that is
//! told of news looks at once; every [`POLL_EVERY`] it looks anyway.

mod heartbeat;
mod listener;
mod message;
mod session;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use sqlx::PgPool;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use velo_engine::events::{self, Event};

use crate::caller::Caller;
use crate::http::{Kind, Problem};
use crate::router::Api;
use listener::News;

/// The most sockets of one process.
pub const MAX_SOCKETS: usize = 256;

/// The most projects that one socket watches.
pub const MAX_SUBSCRIPTIONS: usize = 32;

/// The longest message of a client, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// How often the server asks whether the client is still there. One that has been silent from one
/// time to the next is not.
pub const PING_EVERY: Duration = Duration::from_secs(20);

/// How often a socket looks for events that no notification told of.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// How long a client may take to accept one message before the socket is closed with 1013.
pub const SEND_TIME: Duration = Duration::from_secs(5);

/// How long a client may take to accept the closing of its socket.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How long one read of events may take, waiting for a connection included.
const READ_TIME: Duration = Duration::from_secs(5);

/// The most reads of events at once, so that sockets leave connections of the pool to requests.
const READS: usize = 2;

/// Events that are read at a time.
const PAGE: i64 = 100;

/// News that a socket may fall behind before it is told to look at everything instead.
const NEWS: usize = 1_024;

/// All sockets of a server, and the one connection that tells them of news. Cheap to clone; the
/// clones are the same.
#[derive(Debug, Clone)]
pub struct Live {
    pool: PgPool,
    news: broadcast::Sender<News>,
    reads: Arc<Semaphore>,
    room: Arc<Semaphore>,
    sockets: TaskTracker,
    stop: CancellationToken,
}

impl Live {
    /// Sockets over the events in `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            news: broadcast::Sender::new(NEWS),
            reads: Arc::new(Semaphore::new(READS)),
            room: Arc::new(Semaphore::new(MAX_SOCKETS)),
            sockets: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Listens for news until `shutdown` is cancelled, then closes all sockets and waits for them,
    /// which takes seconds at most. To be run once, beside the server.
    ///
    /// # Cancel safety
    /// Dropped, it tells the sockets to close and does not wait for them.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let _stop_when_dropped = self.stop.clone().drop_guard();
        let listening = listener::listen(self.pool.connect_options(), &self.news);
        // It ends by the token alone.
        shutdown.run_until_cancelled(listening).await;
        self.stop.cancel();
        self.sockets.close();
        // Each ends by itself within this; the limit is for a runtime that is too busy.
        if timeout(READ_TIME + CLOSE_TIME, self.sockets.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                sockets = self.sockets.len(),
                "left sockets to end by themselves"
            );
        }
    }

    /// The events of `stream` after the place `seen`, at most [`PAGE`].
    async fn read(&self, stream: &str, seen: i64) -> Result<Vec<Event>, ReadError> {
        let read = async {
            let _turn = self
                .reads
                .acquire()
                .await
                .expect("nobody closes the semaphore");
            events::read(&self.pool, stream, seen, PAGE).await
        };
        match timeout(READ_TIME, read).await {
            Ok(page) => page.map_err(ReadError::Database),
            Err(_) => Err(ReadError::Late),
        }
    }
}

/// Why events could not be read this time.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("could not read events, because the database refused")]
    Database(#[source] sqlx::Error),
    #[error("could not read events within {} s", READ_TIME.as_secs())]
    Late,
}

/// `GET /ws`.
pub(crate) async fn open(
    State(api): State<Api>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|error| Problem::new(Kind::NotAnUpgrade, error.body_text()))?;
    let live = api.live;
    let room = Arc::clone(&live.room).try_acquire_owned().map_err(|full| {
        let detail = format!("all {MAX_SOCKETS} sockets of this server are taken: try again later");
        Problem::unavailable(detail, full)
    })?;
    // Counted before the answer goes out, so that a stop in between waits for this one too.
    let counted = live.sockets.token();
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(async move |socket| {
            session::run(socket, caller, &live).await;
            drop((room, counted));
        }))
}
