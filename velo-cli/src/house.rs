//! What every command stands on: a database, the folder of artifacts, a model.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use velo_agents::agency::Agency;
use velo_agents::blob::Blobs;
use velo_agents::domain;
use velo_agents::model::gemini::{Gemini, GeminiConfig};
use velo_agents::model::offline::OfflineModel;
use velo_agents::model::{ChatModel, Tier};
use velo_engine::Engine;
use velo_engine::postgres::{PrivatePostgres, Settings};

use crate::args::HouseArgs;
use crate::exit::{Failure, chain};

/// Connections of the pool.
const CONNECTIONS: u32 = 16;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long connections may take to close.
const CLOSE: Duration = Duration::from_secs(3);
/// How an address of Postgres begins.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// The house in which the agency works.
pub(crate) struct House {
    pub(crate) agency: Agency,
    pub(crate) model: Arc<dyn ChatModel>,
    server: Option<PrivatePostgres>,
}

impl House {
    /// Opens it: starts or finds the database, migrates it, opens the artifacts, configures the model.
    /// `say` is told what takes time.
    pub(crate) async fn open(
        args: &HouseArgs,
        mut say: impl FnMut(&str) + Send,
    ) -> Result<Self, Failure> {
        let model = model()?;
        let (pool, server) = database(args, &mut say).await?;
        let opened = async {
            let engine = migrated(pool.clone()).await?;
            let blobs = Blobs::local(&artifacts(args))
                .map_err(|error| Failure::environment(chain(&error)))?;
            Ok(Agency::new(engine, blobs, Arc::clone(&model)))
        };
        match opened.await {
            Ok(agency) => Ok(Self {
                agency,
                model,
                server,
            }),
            Err(failure) => {
                leave(&pool, server).await;
                Err(failure)
            }
        }
    }

    /// Looks at the database as it is, without migrating it.
    pub(crate) async fn look<T>(
        args: &HouseArgs,
        mut say: impl FnMut(&str) + Send,
        look: impl AsyncFnOnce(&PgPool) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        let (pool, server) = database(args, &mut say).await?;
        let seen = look(&pool).await;
        leave(&pool, server).await;
        seen.map_err(|error| {
            Failure::environment(format!("could not look at the database: {}", chain(&error)))
        })
    }

    /// Whom the agents ask, for people.
    pub(crate) fn asks(&self) -> &str {
        if self.model.is_offline() {
            "the offline model (rules, no language model)"
        } else {
            self.model.name(Tier::Pro)
        }
    }

    /// Closes it; the private server is stopped unless somebody else uses it.
    pub(crate) async fn close(self) {
        leave(self.agency.pool(), self.server).await;
    }
}

/// Closes the pool, and stops the private server unless somebody else uses it.
async fn leave(pool: &PgPool, server: Option<PrivatePostgres>) {
    // Who was cut off may not have given its connection back; the server rolls that back.
    let _ = tokio::time::timeout(CLOSE, pool.close()).await;
    if let Some(server) = server
        && let Err(error) = server.stop_if_unused().await
    {
        tracing::warn!(error = %chain(&error), "could not stop the private Postgres server");
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").finish_non_exhaustive()
    }
}

/// The settings of the private server.
pub(crate) fn private_settings(args: &HouseArgs) -> Settings {
    Settings::in_folder(&args.data)
}

/// The folder of the artifacts.
pub(crate) fn artifacts(args: &HouseArgs) -> PathBuf {
    args.data.join("artifacts")
}

async fn database(
    args: &HouseArgs,
    say: &mut (impl FnMut(&str) + Send),
) -> Result<(PgPool, Option<PrivatePostgres>), Failure> {
    if let Some(url) = args
        .database_url
        .as_deref()
        .map(str::trim)
        .filter(|url| !url.is_empty())
    {
        return Ok((given(url).await?, None));
    }
    let server = PrivatePostgres::start(&private_settings(args), |stage| say(&stage.to_string()))
        .await
        .map_err(|error| Failure::environment(chain(&error)))?;
    if let Some(note) = server.note() {
        say(note);
    }
    let options: PgConnectOptions = server
        .url()
        .parse()
        .map_err(|error| Failure::new("could not read the private server's address", error))?;
    let pool = connect(options)
        .await
        .map_err(|error| Failure::new("could not connect to the private Postgres server", error))?;
    Ok((pool, Some(server)))
}

/// Connects to the server that the person named. The URL is not repeated: it has the password.
async fn given(url: &str) -> Result<PgPool, Failure> {
    let unreadable = |why: &str| {
        Failure::environment(format!(
            "could not read DATABASE_URL: {why}; it is of the form postgres://user:password@host:5432/database"
        ))
    };
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(unreadable("it does not begin with postgres://"));
    }
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        unreadable(
            match &error {
                // Without the word that it was wrapped in.
                sqlx::Error::Configuration(why) => why.to_string(),
                _ => chain(&error),
            }
            .as_str(),
        )
    })?;
    let (host, port) = (options.get_host().to_owned(), options.get_port());
    let name = match options.get_database() {
        Some(name) => format!("database {name}"),
        None => "the default database".to_owned(),
    };
    connect(options).await.map_err(|error| {
        let why = match &error {
            sqlx::Error::PoolTimedOut => format!("no answer within {} s", CONNECT.as_secs()),
            _ => chain(&error),
        };
        Failure::environment(format!(
            "could not connect to {name} on {host}:{port}, which DATABASE_URL names: {why}; \
             mend it, or unset DATABASE_URL to use a private server"
        ))
    })
}

async fn connect(options: PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    let options = options.application_name("velo");
    // The pool would hide why it cannot connect until its time is over: try once by hand.
    let first = tokio::time::timeout(CONNECT, async {
        use sqlx::Connection as _;
        sqlx::PgConnection::connect_with(&options)
            .await?
            .close()
            .await
    });
    first.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT)
        .connect_with(options)
        .await
}

/// An engine on tables that are up to date.
pub(crate) async fn migrated(pool: PgPool) -> Result<Engine, Failure> {
    let cannot = |error: sqlx::migrate::MigrateError| {
        Failure::environment(format!(
            "could not create or upgrade the tables in schema velo: {}",
            chain(&error)
        ))
    };
    let engine = Engine::migrate_and_connect(pool).await.map_err(cannot)?;
    domain::migrate(engine.pool()).await.map_err(cannot)?;
    Ok(engine)
}

/// Gemini, when it is configured, otherwise the offline model.
fn model() -> Result<Arc<dyn ChatModel>, Failure> {
    let unusable =
        |error| Failure::environment(format!("could not configure the model: {}", chain(&error)));
    match GeminiConfig::from_env().map_err(unusable)? {
        None => Ok(Arc::new(OfflineModel)),
        Some(config) => Ok(Arc::new(Gemini::new(config).map_err(unusable)?)),
    }
}
