use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::time::sleep;
use velo_engine::events;

/// What the listening connection is called in `pg_stat_activity`.
const NAME: &str = "velo-api listener";

/// How long to wait before the first new attempt to listen; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between two attempts. There is no last one: sockets poll meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Something that sockets may want to look at.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// This stream has grown.
    Of(Arc<str>),
    /// Any stream may have grown: notifications may have been lost.
    OfAnything,
}

/// Passes on what the database tells of its events, on a connection of its own, and connects again
/// whenever that is lost.
pub(super) async fn listen(
    options: Arc<PgConnectOptions>,
    news: &broadcast::Sender<News>,
) -> Infallible {
    let options = (*options).clone().application_name(NAME);
    let mut wait = FIRST_WAIT;
    loop {
        let Err(error) = listen_once(&options, news, &mut wait).await;
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            wait_ms = wait.as_millis(),
            "lost the connection that listens for events; sockets poll until it is back"
        );
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Listens until the connection is lost.
async fn listen_once(
    options: &PgConnectOptions,
    news: &broadcast::Sender<News>,
    wait: &mut Duration,
) -> Result<Infallible, sqlx::Error> {
    // Not one of the callers' pool, which could be a single connection.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(options.clone())
        .await?;
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(events::CHANNEL).await?;
    *wait = FIRST_WAIT;
    // What was committed before this connection listened was told to nobody.
    tell(news, News::OfAnything);
    loop {
        match listener.try_recv().await? {
            Some(notification) => tell(news, News::Of(notification.payload().into())),
            None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
        }
    }
}

fn tell(news: &broadcast::Sender<News>, what: News) {
    // An error says that no socket is open.
    let _ = news.send(what);
}
