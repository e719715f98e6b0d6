//! A database that lives as long as one workload.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use velo_engine::Engine;

use crate::Outcome;
use crate::meter::Meter;
use crate::server::Server;

/// Connections that the benchmark itself uses.
const OWN: u32 = 32;

/// What a repetition leaves behind.
const CLEAR: &str = "\
truncate velo.run, velo.step, velo.queue, velo.thread, velo.memo, velo.outcome, velo.failure, velo.event";

#[derive(Debug)]
pub(crate) struct Database<'a> {
    server: &'a Server,
    pub(crate) options: PgConnectOptions,
    /// For starting runs and looking at them; workers have pools of their own.
    pub(crate) pool: PgPool,
    pub(crate) engine: Engine,
    pub(crate) meter: Meter,
}

impl<'a> Database<'a> {
    pub(crate) async fn open(server: &'a Server, options: PgConnectOptions) -> Outcome<Self> {
        let options = if server.tells_statements {
            // Only a superuser may set it.
            options.options([("pg_stat_statements.track", "all")])
        } else {
            options
        };
        let pool = PgPoolOptions::new()
            .max_connections(OWN)
            .connect_with(options.clone())
            .await?;
        let meter = Meter::new(&options, server.postmaster, server.tells_statements).await?;
        Ok(Self {
            server,
            engine: Engine::migrate_and_connect(pool.clone()).await?,
            meter,
            options,
            pool,
        })
    }

    /// An engine with connections of its own, as a worker process has.
    pub(crate) async fn worker_engine(&self, connections: u32) -> Outcome<Engine> {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(60))
            .test_before_acquire(!self.server.is_untested)
            .connect_with(self.options.clone())
            .await?;
        Ok(Engine::connect(pool))
    }

    /// Removes all runs, so that each repetition begins alike.
    pub(crate) async fn clear(&self) -> Outcome {
        sqlx::query(CLEAR).execute(&self.pool).await?;
        sqlx::query("checkpoint").execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) fn server(&self) -> &Server {
        self.server
    }

    pub(crate) async fn drop(self) -> Outcome {
        self.pool.close().await;
        let name = self.options.get_database().unwrap_or_default().to_owned();
        self.server.drop_database(&name).await
    }
}
