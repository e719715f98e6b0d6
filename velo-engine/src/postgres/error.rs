//! What can go wrong with the private server, and what to do about it.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the private server could not be started, stopped or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No server that Velo can use is installed, and none could be downloaded.
    #[error(
        "found no Postgres server to start{}; do one of three things: \
         set DATABASE_URL to a server that you have; \
         install one (Debian, Ubuntu: `apt-get install postgresql`, macOS: `brew install postgresql@17`); \
         set VELO_PG_BIN to the folder that holds its initdb and postgres",
        listed(.unusable)
    )]
    NoBinaries {
        /// What was found and cannot be used, and why.
        unusable: Vec<String>,
        /// Why none could be downloaded, if that was tried.
        #[source]
        download: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The folder chosen with `VELO_PG_BIN` or [`Settings::binaries`](super::Settings::binaries) cannot be used.
    #[error(
        "could not use the Postgres binaries in {}: {why}; set VELO_PG_BIN to a folder that holds initdb and postgres, or unset it",
        .folder.display()
    )]
    ChosenBinaries {
        /// The chosen folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// `initdb` failed.
    #[error("could not create a database in {}: initdb failed ({status}): {output}", .folder.display())]
    InitFailed {
        /// The data folder that was to be.
        folder: PathBuf,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        output: String,
    },
    /// The disk is full.
    #[error(
        "no space left for the database in {}: free some space on that disk, or choose another folder, and start again",
        .folder.display()
    )]
    NoSpace {
        /// The folder on the full disk.
        folder: PathBuf,
    },
    /// The data folder belongs to another major version of Postgres than those installed.
    #[error(
        "the database in {} was made by Postgres {data}, which is not installed{}; \
         install Postgres {data}, or set VELO_PG_BIN to its binaries, or remove the folder to start afresh",
        .folder.display(), listed(.unusable)
    )]
    OtherMajor {
        /// The data folder.
        folder: PathBuf,
        /// The major version that made it.
        data: u32,
        /// The servers that were found instead.
        unusable: Vec<String>,
    },
    /// The data folder is there but is not a database.
    #[error(
        "the folder {} is not a whole database ({why}); restore it, or remove it to start afresh",
        .folder.display()
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The folder cannot be written.
    #[error(
        "may not write to {}: change its owner or permissions, or choose another folder",
        .folder.display()
    )]
    NotWritable {
        /// The file or folder.
        folder: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The folder has files that are not Velo's.
    #[error("will not touch {}: it does not look like a folder of Velo's server", .folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// Started as root, and there is no account to run the server as.
    #[error(
        "could not find an account to run Postgres as: it refuses to run as root, and neither the account postgres nor nobody exists"
    )]
    NoAccount,
    /// The server did not accept connections in time. It is left running: it may be recovering.
    #[error(
        "Postgres in {} was not ready within {} s; it is left running, so try again in a while; its last lines: {log}",
        .folder.display(), .limit.as_secs()
    )]
    NotReady {
        /// The data folder.
        folder: PathBuf,
        /// How long it was given.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The server ended while it was starting.
    #[error("Postgres in {} ended while starting; its last lines: {log}", .folder.display())]
    Ended {
        /// The data folder.
        folder: PathBuf,
        /// The last lines of its log.
        log: String,
    },
    /// Its port on the loopback address could not be opened.
    #[error("could not open a port on 127.0.0.1 for Postgres: {log}")]
    Port {
        /// The last lines of its log, or the system's answer.
        log: String,
    },
    /// The folder of its Unix socket could not be used.
    #[error("could not use {} for the socket of Postgres: {why}; remove it and start again", .folder.display())]
    Socket {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The server runs and refuses us.
    #[error("could not connect to the private Postgres in {}", .folder.display())]
    Connect {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Another process held the folder for too long.
    #[error(
        "another process has been starting or stopping Postgres for {} s (it holds {}); end it, or try again later",
        .limit.as_secs(), .lock.display()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The server did not stop.
    #[error("Postgres (process {pid}) did not stop within {} s; end it by hand", .limit.as_secs())]
    NotStopped {
        /// Its process id.
        pid: i32,
        /// How long it was given.
        limit: Duration,
    },
    /// A file or process could not be handled.
    #[error("could not {doing} {}", .path.display())]
    Files {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl PostgresError {
    /// The error for a file operation that failed: a full disk and a forbidden folder have their own kind.
    pub(super) fn files(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace { folder: path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::NotWritable {
                folder: path,
                source,
            },
            _ => Self::Files {
                doing,
                path,
                source,
            },
        }
    }
}

fn listed(unusable: &[String]) -> String {
    if unusable.is_empty() {
        return String::new();
    }
    format!(" (found, but not usable: {})", unusable.join(", "))
}
