//! What is being done while a server starts.

use std::fmt;

/// What [`PrivatePostgres::start`](super::PrivatePostgres::start) is about to do, for a line on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Another process is starting or stopping the same server: wait for it.
    Waiting,
    /// The server runs already: connect to it.
    Attaching,
    /// No server is installed: download one.
    Downloading,
    /// The folder is new: create the database in it.
    Creating,
    /// Start the server.
    Starting,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for another process that is starting or stopping Postgres",
            Self::Attaching => "connecting to the private Postgres that is running",
            Self::Downloading => "downloading Postgres",
            Self::Creating => "creating a private Postgres database",
            Self::Starting => "starting the private Postgres",
        })
    }
}
