//! The folder of the server's Unix socket.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;

use super::error::PostgresError;
use super::folder;
use super::place::Place;

impl Place {
    /// Makes an empty folder for the socket, which only the server's account may enter. Needs the lock,
    /// and no server running.
    pub(super) fn prepare_socket(&self) -> Result<(), PostgresError> {
        self.remove_socket()?;
        let socket = self.socket();
        folder::private(&socket)
            .and_then(|()| self.account.give(&socket))
            .map_err(|source| PostgresError::files("create the folder", &socket, source))
    }

    /// Removes the folder of the socket. Needs the lock, and no server running.
    pub(super) fn remove_socket(&self) -> Result<(), PostgresError> {
        if !self.socket_is_ours()? {
            return Ok(());
        }
        let socket = self.socket();
        fs::remove_dir_all(&socket)
            .map_err(|source| PostgresError::files("remove", &socket, source))
    }

    /// Whether the socket's folder is there. Anyone may create it first, so its owner matters.
    fn socket_is_ours(&self) -> Result<bool, PostgresError> {
        let socket = self.socket();
        let meta = match fs::symlink_metadata(&socket) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(PostgresError::files("look at", &socket, error)),
        };
        if meta.is_dir() && [self.account.uid(), geteuid().as_raw()].contains(&meta.uid()) {
            return Ok(true);
        }
        let why = "it belongs to another account, or is no folder".to_owned();
        Err(PostgresError::Socket {
            folder: socket,
            why,
        })
    }
}
