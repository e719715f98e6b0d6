//! For tests of graphs and of the engine itself: databases that nobody else uses, time that can be put
//! forward, failures at chosen places.

mod clock;
mod script;

use std::thread;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};
use tokio::sync::{OnceCell, oneshot};
use uuid::Uuid;

use crate::engine::Engine;
use crate::postgres::{PrivatePostgres, Settings};

pub use clock::{Clock, Look, database_url_with_clock, database_with_clock};
pub use script::Script;

/// The server for tests.
async fn server_url() -> &'static str {
    static URL: OnceCell<String> = OnceCell::const_new();
    URL.get_or_init(|| async {
        match std::env::var("DATABASE_URL") {
            Ok(url) if !url.trim().is_empty() => url,
            _ => start_server().await,
        }
    })
    .await
}

/// Starts a server on a thread of its own, which outlives the runtime of the test that came first.
async fn start_server() -> String {
    let (started, url) = oneshot::channel();
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a test may start a runtime");
        runtime.block_on(async {
            let server = PrivatePostgres::start(&Settings::temporary(), |_| ())
                .await
                .unwrap_or_else(|error| panic!("no server for tests: {error}"));
            let _ = started.send(server.url().to_owned());
            // The server ends with the process.
            std::future::pending::<()>().await;
        });
    };
    thread::Builder::new()
        .name("velo-test-postgres".to_owned())
        .spawn(serve)
        .expect("a test may start a thread");
    url.await.expect("the thread has said why it ended")
}

/// Connections of a test's pool.
const POOL: u32 = 10;

/// The address of a new, empty database: on the server that `DATABASE_URL` names, otherwise on a
/// private one that is started for this process and ends with it.
///
/// # Panics
/// When there is no such server and none can be started: a test cannot go on without.
pub async fn database_url() -> String {
    let admin = PgPool::connect(server_url().await)
        .await
        .expect("the server for tests answers");
    let name = format!("velo_test_{}", Uuid::new_v4().simple());
    sqlx::query(AssertSqlSafe(format!("create database {name}")))
        .execute(&admin)
        .await
        .expect("tests may create databases");
    let options = (*admin.connect_options()).clone().database(&name);
    admin.close().await;
    options.to_url_lossy().to_string()
}

/// A pool on a new, empty database.
///
/// # Panics
/// As [`database_url`].
pub async fn database() -> PgPool {
    pool_on(&database_url().await).await
}

async fn pool_on(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(POOL)
        .connect(url)
        .await
        .expect("the database was created for this test")
}

/// An engine on a database of its own.
///
/// # Panics
/// As [`database`].
pub async fn engine() -> Engine {
    Engine::migrate_and_connect(database().await)
        .await
        .expect("an empty database takes the engine's tables")
}
