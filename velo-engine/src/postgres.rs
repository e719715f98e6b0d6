//! A private, real Postgres server for a machine where nobody set one up.
//!
//! The server is a child of its own: it listens on `127.0.0.1` at a free port and on a Unix socket that only
//! its account may reach, and both ask for a random password that only the same account may read. It goes on
//! when the process that started it ends or crashes, and the next one finds it again. Processes that start at
//! the same time share one server. Unix only.
//!
//! ```no_run
//! use sqlx::postgres::PgPoolOptions;
//! use velo_engine::postgres::{PrivatePostgres, Settings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = PrivatePostgres::start(&Settings::default(), |stage| eprintln!("{stage}")).await?;
//! let pool = PgPoolOptions::new().connect(server.url()).await?;
//! velo_engine::migrate(&pool).await?;
//! // … and at the end:
//! pool.close().await;
//! server.stop_if_unused().await?;
//! # Ok(())
//! # }
//! ```
//!
//! As root the server runs as the account `postgres`, else `nobody`. If that account may not enter the folder
//! that was asked for, the data goes elsewhere, and [`PrivatePostgres::note`] says where.

mod error;
mod settings;
mod stage;

// Where.
mod place;

mod account;
mod folder;
mod lock;
mod log;
mod password;
mod socket;

// From what.
mod binaries;

mod candidates;
mod cluster;
#[cfg(feature = "fetch-postgres")]
mod fetch;

// Running.
mod launch;

mod ending;
mod guardian;
mod options;
mod postmaster;
mod process;
mod program;
mod session;
mod shutdown;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use error::PostgresError;
pub use settings::{DEFAULT_FOLDER, Settings};
pub use stage::Stage;

use binaries::Binaries;
use guardian::Guardian;
use launch::{Parent, Running, Waited};
use lock::Lock;
use place::Place;
use postmaster::Postmaster;
use session::{DATABASE, Session};

/// How long sessions that were just closed may take to vanish.
const CLOSING_LIMIT: Duration = Duration::from_millis(500);

/// How often the sessions are counted meanwhile.
const CLOSING_POLL: Duration = Duration::from_millis(20);

/// A private server that runs, and that this process uses.
///
/// While the handle lives it keeps one session open, which shows other processes that the server is used.
/// Dropping it leaves the server running; a [temporary](Settings::temporary) server is stopped and removed.
pub struct PrivatePostgres {
    place: Place,
    parent: Parent,
    session: Session,
    url: String,
    socket_url: String,
    home: PathBuf,
}

impl PrivatePostgres {
    /// Finds the server of the folder running, or starts it, and creates the database `velo` in it.
    ///
    /// `progress` hears of each stage before it begins: creating a database takes seconds, a download more.
    ///
    /// # Errors
    /// [`PostgresError`], each kind with what to do about it.
    ///
    /// # Cancel safety
    /// Dropped half-way, a database is created whole or not at all, and a server that was being started may
    /// go on; the next call finds it.
    pub async fn start(
        settings: &Settings,
        mut progress: impl FnMut(Stage),
    ) -> Result<Self, PostgresError> {
        let place = Place::choose(settings)?;
        let mut parent = if settings.is_temporary() {
            let arguments = options::arguments(&place, true);
            let guardian = Guardian::watch(&place, &arguments);
            // Nobody watches over the folder yet.
            let guardian = guardian.inspect_err(|_| drop(fs::remove_dir(place.root())))?;
            Parent::Guardian(Box::new(guardian))
        } else {
            Parent::Us(None)
        };
        let lock = Lock::take(&place.lock(), || progress(Stage::Waiting)).await?;
        place.prepare()?;
        let password = password::of(&place)?;
        let attached = attach(&place, &password, &mut progress).await?;
        let running = match attached {
            Some(running) => running,
            None => start(settings, &place, &password, &mut parent, &mut progress).await?,
        };
        drop(lock);
        Ok(Self::new(place, parent, running, &password))
    }

    fn new(place: Place, parent: Parent, running: Running, password: &str) -> Self {
        let Running {
            postmaster,
            port,
            session,
        } = running;
        let socket = postmaster.socket.unwrap_or_else(|| place.socket());
        let login = format!("postgres://{}:{password}", password::ROLE);
        Self {
            home: place.home(),
            place,
            parent,
            session,
            // Said outright, as PGSSLMODE in the environment may ask for what the server does not have.
            url: format!("{login}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"),
            socket_url: format!(
                "{login}@localhost:{port}/{DATABASE}?host={}",
                socket.display()
            ),
        }
    }

    /// Where to connect, on the loopback address. It holds the password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where to connect, through the Unix socket: faster, for this account and root only. It holds the password.
    #[must_use]
    pub fn socket_url(&self) -> &str {
        &self.socket_url
    }

    /// The server's version, such as `17.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.session.version
    }

    /// The folder with the server's data, password and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.home
    }

    /// What the user should know: that the data is not in the folder that was asked for, and why.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.place.note.as_deref()
    }

    /// Stops the server, whoever else uses it. A temporary server is also removed.
    ///
    /// What was committed is safe; open transactions are rolled back.
    ///
    /// # Errors
    /// [`PostgresError::NotStopped`] or [`PostgresError::Busy`] after a limit, or that of a file operation.
    ///
    /// # Cancel safety
    /// Dropped half-way, the server may go on stopping.
    pub async fn stop(self) -> Result<(), PostgresError> {
        let Self {
            place,
            parent,
            session,
            ..
        } = self;
        match parent {
            Parent::Guardian(guardian) => {
                drop(session);
                guardian.finish().await?;
                remove_rest(&place)
            }
            Parent::Us(child) => {
                let _lock = Lock::take(&place.lock(), || ()).await?;
                shutdown::stop(&place, child).await
            }
        }
    }

    /// Stops the server unless another session is connected, and returns whether it did.
    ///
    /// Close your own pool first. Processes that hold a [`PrivatePostgres`] count, even without a pool. A
    /// temporary server is the caller's own: it is always stopped.
    ///
    /// # Errors
    /// As [`stop`](Self::stop), and [`PostgresError::Connect`] when the server does not answer.
    ///
    /// # Cancel safety
    /// As [`stop`](Self::stop).
    pub async fn stop_if_unused(mut self) -> Result<bool, PostgresError> {
        if let Parent::Guardian(_) = self.parent {
            return self.stop().await.map(|()| true);
        }
        let _lock = Lock::take(&self.place.lock(), || ()).await?;
        let since = Instant::now();
        loop {
            let others = self.session.others().await;
            let others = others.map_err(|source| PostgresError::Connect {
                folder: self.place.data(),
                source,
            })?;
            if others == 0 {
                break;
            }
            if since.elapsed() > CLOSING_LIMIT {
                return Ok(false);
            }
            tokio::time::sleep(CLOSING_POLL).await;
        }
        let Parent::Us(child) = self.parent else {
            return Ok(false);
        };
        shutdown::stop(&self.place, child).await?;
        Ok(true)
    }
}

impl fmt::Debug for PrivatePostgres {
    /// Without the addresses, which hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivatePostgres")
            .field("folder", &self.home)
            .field("version", &self.session.version)
            .finish_non_exhaustive()
    }
}

/// Stops the server of these settings, whoever uses it, and removes all of its data.
///
/// # Errors
/// [`PostgresError::NotOurs`] when the folder does not look like one of Velo's server; otherwise as
/// [`PrivatePostgres::stop`].
///
/// # Cancel safety
/// Dropped half-way, the data is there or gone as a whole; files that are left over are removed next time.
pub async fn wipe(settings: &Settings) -> Result<(), PostgresError> {
    if settings.is_temporary() {
        return Ok(());
    }
    let place = Place::choose(settings)?;
    let _lock = Lock::take(&place.lock(), || ()).await?;
    shutdown::stop(&place, None).await?;
    place.remove()
}

async fn attach(
    place: &Place,
    password: &str,
    progress: &mut impl FnMut(Stage),
) -> Result<Option<Running>, PostgresError> {
    let Some(found) = Postmaster::running(&place.data())? else {
        return Ok(None);
    };
    progress(Stage::Attaching);
    // A server that was stopping ends here, and is started again.
    match launch::until_ready(place, found.pid, password, 0).await? {
        Waited::Ready(running) => Ok(Some(*running)),
        Waited::Ended => {
            Postmaster::running(&place.data())?;
            Ok(None)
        }
    }
}

async fn start(
    settings: &Settings,
    place: &Place,
    password: &str,
    parent: &mut Parent,
    progress: &mut impl FnMut(Stage),
) -> Result<Running, PostgresError> {
    let major = cluster::major(place)?;
    let binaries = Binaries::find(settings, place, major, progress).await?;
    if major.is_none() {
        progress(Stage::Creating);
        cluster::create(place, &binaries, settings.is_temporary()).await?;
    }
    progress(Stage::Starting);
    launch::start(place, &binaries, password, parent).await
}

/// The server's account may not remove the folder itself if its parent is not open to all.
fn remove_rest(place: &Place) -> Result<(), PostgresError> {
    let root = place.root();
    if !root.exists() {
        return Ok(());
    }
    fs::remove_dir_all(root).map_err(|source| PostgresError::files("remove", root, source))
}
