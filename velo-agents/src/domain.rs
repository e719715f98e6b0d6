//! What the agency works on and leaves behind: tenants, projects, tasks, artifacts, activities and
//! usage, each with its rows and its SQL.
//!
//! Writes take a connection, so that a workflow node can make them in its own transaction; reads
//! take anything that runs a query. Every statement names the tenant, and every write may be made
//! again: a second run of the same step changes nothing.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use velo_agents::domain::{self, LOCAL_TENANT, PageRequest, project};
//!
//! domain::migrate(&pool).await?;
//! for project in project::list(&pool, LOCAL_TENANT, PageRequest::default()).await?.items {
//!     println!("{} is {}", project.name, project.status);
//! }
//! # Ok(())
//! # }
//! ```

pub mod activity;
pub mod artifact;
mod error;
mod event;
mod id;
mod page;
pub mod project;
pub mod task;
pub mod tenant;
pub mod usage;

use std::sync::LazyLock;

use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

pub use error::StoreError;
pub use event::ProjectEvent;
pub use id::{ActivityId, ArtifactId, ProjectId, TaskId, TenantId, UsageId, UserId, VersionId};
pub use page::{Cursor, CursorError, DEFAULT_PAGE, MAX_PAGE, Page, PageRequest};
pub use tenant::{LOCAL_TENANT, LOCAL_USER};

/// The migrations of the agency's tables, kept apart from the engine's in
/// `velo.agency_migrations`.
pub static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../migrations/agency");
    migrator.create_schema("velo");
    // A version works on the tables of the next one, so that processes can be replaced one by one.
    migrator.set_ignore_missing(true);
    // "Dangerous" because a changed name forgets what was applied. This one has never been another.
    migrator.dangerous_set_table_name(MIGRATIONS);
    migrator
});

const MIGRATIONS: &str = "velo.agency_migrations";

/// Every statement of the domain, for tests that prepare them against a real server.
pub const STATEMENTS: &[&str] = &[
    tenant::GET,
    project::CREATE,
    project::GET,
    project::BRIEF,
    project::LIST,
    project::MOVE_TO,
    project::NEWEST_UNFINISHED,
    project::OF_RUN,
    project::ATTACH_RUN,
    task::ADD,
    task::BY_KEYS,
    task::GET,
    task::LIST,
    task::SET_STATUS,
    artifact::SAVE,
    artifact::ADD_VERSION,
    artifact::BY_NAME,
    artifact::GET,
    artifact::LIST,
    artifact::VERSIONS,
    activity::RECORD,
    activity::LIST,
    usage::RECORD,
    usage::TOTAL,
];

/// Creates or upgrades the agency's tables. Safe to run at every start and from several processes
/// at once: they take turns on an advisory lock.
///
/// # Errors
/// [`MigrateError`] when the database cannot be reached, a migration fails, or the database was
/// written by a newer version.
///
/// # Cancel safety
/// A migration that was cut off is rolled back; run it again.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    MIGRATOR.run(pool).await
}

/// The migrations that [`migrate`] would apply, in their order. Nothing is changed.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn pending(pool: &PgPool) -> Result<Vec<velo_engine::Pending>, sqlx::Error> {
    velo_engine::pending_of(pool, &MIGRATOR, MIGRATIONS).await
}

/// Serialises a run id as text: a 64-bit number does not survive JavaScript.
fn run_id_as_text<S: serde::Serializer>(
    run: &Option<i64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match run {
        Some(run) => serializer.collect_str(run),
        None => serializer.serialize_none(),
    }
}
