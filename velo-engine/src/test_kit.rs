//! For tests of graphs and of the engine itself: databases that nobody else uses.

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::engine::Engine;

/// Connections of a test's pool.
const POOL: u32 = 10;

/// A pool on a new, empty database of the server that `DATABASE_URL` names.
///
/// # Panics
/// When there is no such server: a test cannot go on without.
pub async fn database() -> PgPool {
    let server = std::env::var("DATABASE_URL")
        .expect("DATABASE_URL names a Postgres server on which tests may create databases");
    let admin = PgPool::connect(&server)
        .await
        .expect("the server that DATABASE_URL names answers");
    let name = format!("velo_test_{}", Uuid::new_v4().simple());
    sqlx::query(AssertSqlSafe(format!("create database {name}")))
        .execute(&admin)
        .await
        .expect("tests may create databases");
    let options = (*admin.connect_options()).clone().database(&name);
    admin.close().await;
    PgPoolOptions::new()
        .max_connections(POOL)
        .connect_with(options)
        .await
        .expect("the database was created above")
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
