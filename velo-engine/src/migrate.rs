//! The engine's tables.

use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

/// Creates or upgrades the engine's tables, all in the schema `velo`.
///
/// Several processes may call it at once: one migrates, the others wait.
///
/// # Errors
/// [`MigrateError`] when the database refuses, or was migrated by a newer version.
///
/// # Cancel safety
/// Each migration is one transaction: call it again.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    let mut migrator: Migrator = sqlx::migrate!("../migrations/engine");
    migrator.create_schema("velo");
    migrator.dangerous_set_table_name("velo.migrations");
    migrator.run(pool).await
}
