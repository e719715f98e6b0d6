//! The server that is measured.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;
use velo_engine::postgres::{PrivatePostgres, Settings};

use crate::Outcome;
use crate::cpu;
use crate::database::Database;

/// Where a private server keeps its data. Nothing in it is worth keeping.
const FOLDER: &str = ".velo/bench";

/// What a private server is set to: it counts statements, and no checkpoint falls into a measurement.
const SET: [&str; 6] = [
    "alter system set shared_preload_libraries = 'pg_stat_statements'",
    "alter system set max_wal_size = '8GB'",
    "alter system set min_wal_size = '1GB'",
    "alter system set wal_keep_size = '2GB'",
    "alter system set checkpoint_timeout = '30min'",
    "alter system set autovacuum_naptime = '10s'",
];

/// A running server, on which databases come and go.
#[derive(Debug)]
pub(crate) struct Server {
    private: Option<PrivatePostgres>,
    options: PgConnectOptions,
    /// Its first process, if that is on this machine.
    pub(crate) postmaster: Option<i32>,
    /// Where its programs are, if that is on this machine.
    programs: Option<PathBuf>,
    /// Whether meters tell what the server spent its time on.
    pub(crate) tells_statements: bool,
    /// Whether workers' pools leave connections untested.
    pub(crate) is_untested: bool,
}

impl Server {
    /// The server that DATABASE_URL names, or a private one.
    pub(crate) async fn find(tells_statements: bool, is_untested: bool) -> Outcome<Self> {
        let (private, options) = match std::env::var("DATABASE_URL") {
            Ok(url) if !url.trim().is_empty() => (None, PgConnectOptions::from_str(&url)?),
            _ => {
                let private = private().await?;
                let options = PgConnectOptions::from_str(private.socket_url())?;
                (Some(private), options)
            }
        };
        let mut server = Self::at(options).await?;
        server.private = private;
        server.tells_statements = tells_statements;
        server.is_untested = is_untested;
        server.drop_leftovers().await?;
        Ok(server)
    }

    /// The server at an address, as it is.
    pub(crate) async fn at(options: PgConnectOptions) -> Outcome<Self> {
        let mut admin = PgConnection::connect_with(&options).await?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut admin)
            .await?;
        // Only a superuser may ask, so there may be no answer.
        let programs: Option<String> =
            sqlx::query_scalar("select setting from pg_config where name = 'BINDIR'")
                .fetch_optional(&mut admin)
                .await
                .unwrap_or(None);
        admin.close().await?;
        Ok(Self {
            private: None,
            tells_statements: false,
            is_untested: false,
            options,
            postmaster: cpu::parent(backend),
            programs: programs.map(PathBuf::from),
        })
    }

    /// Drops the databases of benchmarks that were cut short.
    async fn drop_leftovers(&self) -> Outcome {
        let mut admin = PgConnection::connect_with(&self.options).await?;
        let leftovers: Vec<String> = sqlx::query_scalar(
            "select datname from pg_database where datname like 'velo\\_bench\\_%'
             and not exists (select from pg_stat_activity a where a.datname = pg_database.datname)",
        )
        .fetch_all(&mut admin)
        .await?;
        for left in leftovers {
            sqlx::query(AssertSqlSafe(format!("drop database if exists {left}")))
                .execute(&mut admin)
                .await?;
        }
        Ok(admin.close().await?)
    }

    /// A new, empty database.
    pub(crate) async fn database(&self) -> Outcome<Database<'_>> {
        let name = format!("velo_bench_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect_with(&self.options).await?;
        sqlx::query(AssertSqlSafe(format!("create database {name}")))
            .execute(&mut admin)
            .await?;
        admin.close().await?;
        Database::open(self, self.options.clone().database(&name)).await
    }

    pub(crate) async fn drop_database(&self, name: &str) -> Outcome {
        let mut admin = PgConnection::connect_with(&self.options).await?;
        sqlx::query(AssertSqlSafe(format!("drop database {name} with (force)")))
            .execute(&mut admin)
            .await?;
        Ok(admin.close().await?)
    }

    /// One of the server's programs, such as `pgbench`, if it is on this machine.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        self.postmaster?;
        let found = self.programs.as_deref().map(|folder| folder.join(name))?;
        found.is_file().then_some(found)
    }

    /// Stops a private server.
    pub(crate) async fn end(self) -> Outcome {
        if let Some(private) = self.private {
            private.stop_if_unused().await?;
        }
        Ok(())
    }
}

async fn private() -> Outcome<PrivatePostgres> {
    let settings = Settings::in_folder(Path::new(FOLDER));
    let start = || PrivatePostgres::start(&settings, |stage| eprintln!("{stage}"));
    let server = start().await?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(server.url())
        .await?;
    let loaded: String = sqlx::query_scalar("show shared_preload_libraries")
        .fetch_one(&pool)
        .await?;
    let library: Option<String> = sqlx::query_scalar(
        "select name from pg_available_extensions where name = 'pg_stat_statements'",
    )
    .fetch_optional(&pool)
    .await?;
    if loaded.contains("pg_stat_statements") || library.is_none() {
        pool.close().await;
        return Ok(server);
    }
    for statement in SET {
        sqlx::query(statement).execute(&pool).await?;
    }
    pool.close().await;
    server.stop().await?;
    Ok(start().await?)
}
