//! The connection that shows that a server works, and that it is used.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

use super::password::ROLE;

/// The database for the caller.
pub(super) const DATABASE: &str = "velo";

/// How long a question to a server that runs may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Seen in `pg_stat_activity`.
const NAME: &str = "velo: uses this server";

const DESCRIBE: &str = "\
-- velo: postgres.describe
select current_setting('server_version'),
       exists (select from pg_database where datname = 'velo')";

const CREATE: &str = "\
-- velo: postgres.create_database
create database velo";

/// Sessions other than this one, replicas included.
const OTHERS: &str = "\
-- velo: postgres.others
select count(*)
from pg_stat_activity
where backend_type in ('client backend', 'walsender')
  and pid <> pg_backend_pid()";

/// An open session, kept as long as its holder uses the server.
#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    pub(super) version: String,
}

impl Session {
    /// Connects over TCP, as the caller will, and creates the caller's database if it is not there.
    pub(super) async fn open(
        port: u16,
        password: &str,
        limit: Duration,
    ) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(ROLE)
            .password(password)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
            .application_name(NAME)
            .disable_statement_logging();
        within(limit, async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let described = connection.fetch_one(DESCRIBE).await?;
            let version: String = described.try_get(0)?;
            if !described.try_get::<bool, _>(1)? {
                connection.execute(CREATE).await?;
            }
            // Distributions add their own: 15.18 (Debian 15.18-0+deb12u1).
            let version = version.split(' ').next().unwrap_or_default().to_owned();
            Ok(Self {
                connection,
                version,
            })
        })
        .await
    }

    /// How many other sessions there are.
    pub(super) async fn others(&mut self) -> Result<i64, sqlx::Error> {
        let counted = within(ANSWER_LIMIT, self.connection.fetch_one(OTHERS)).await?;
        counted.try_get(0)
    }
}

/// A server that accepts connections may still not answer: it may be frozen.
async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = |_| sqlx::Error::Io(ErrorKind::TimedOut.into());
    timeout(limit, asked).await.map_err(late)?
}
