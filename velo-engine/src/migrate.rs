//! The engine's tables.

use std::collections::BTreeSet;
use std::fmt;

use sqlx::PgPool;
use sqlx::migrate::{Migrate, MigrateError, Migrator};

/// Creates or upgrades the engine's tables, all in the schema `velo`.
///
/// Several processes may call it at once: one migrates, the others wait.
///
/// # Errors
/// [`MigrateError`] when the database refuses. Tables that a later version has migrated are left as they are: a
/// version works on the tables of the next one, so that workers can be replaced one by one.
///
/// # Cancel safety
/// Each migration is one transaction: call it again.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    migrator().run(pool).await
}

/// A migration that [`migrate`] would apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its number: they are applied in this order.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// Its statements. They create the schema `velo` only in the first one.
    pub sql: String,
}

/// Number and description, such as `3 wait`.
impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.description)
    }
}

/// The migrations that [`migrate`] would apply, in their order. Nothing is changed.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn pending(pool: &PgPool) -> Result<Vec<Pending>, sqlx::Error> {
    pending_of(pool, &migrator(), TABLE).await
}

/// Those of the `migrator`'s migrations that are not noted in `table`, in their order. Nothing is changed. For
/// who keeps tables of its own beside the engine's.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn pending_of(
    pool: &PgPool,
    migrator: &Migrator,
    table: &str,
) -> Result<Vec<Pending>, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let is_begun: bool = sqlx::query_scalar(IS_BEGUN)
        .bind(table)
        .fetch_one(&mut *conn)
        .await?;
    let applied = match is_begun {
        true => conn.list_applied_migrations(table).await?,
        false => Vec::new(),
    };
    let applied: BTreeSet<i64> = applied.iter().map(|applied| applied.version).collect();
    let pending = migrator.iter().filter(|migration| {
        !migration.migration_type.is_down_migration() && !applied.contains(&migration.version)
    });
    Ok(pending
        .map(|migration| Pending {
            version: migration.version,
            description: migration.description.to_string(),
            sql: migration.sql.as_str().to_owned(),
        })
        .collect())
}

const IS_BEGUN: &str = "\
-- velo: migrations.is_begun
select to_regclass($1) is not null";

/// Where it is noted which migrations were applied.
const TABLE: &str = "velo.migrations";

fn migrator() -> Migrator {
    let mut migrator: Migrator = sqlx::migrate!("../migrations/engine");
    migrator.create_schema("velo");
    migrator.set_ignore_missing(true);
    migrator.dangerous_set_table_name(TABLE);
    migrator
}
