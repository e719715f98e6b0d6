//! The file `postmaster.pid`, in which a server says who it is and whether it is ready.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::PostgresError;
use super::process;

/// What a server says of itself in its data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    /// Absent while the server is still writing the file.
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) is_ready: bool,
}

impl Postmaster {
    /// The server that runs on the folder `data`, if one does.
    ///
    /// Call it with the lock held. What a crashed server left is removed where Postgres itself would take
    /// it for a running one: when the process id belongs to another process by now, or to a zombie.
    /// Otherwise the file stays, as Postgres reads in it which shared memory to check for survivors.
    pub(super) fn running(data: &Path) -> Result<Option<Self>, PostgresError> {
        let path = file(data);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PostgresError::files("read", &path, error)),
        };
        let said = Self::parse(&text);
        if let Some(server) = &said
            && process::is_server_of(server.pid, data)
        {
            return Ok(said);
        }
        if said.is_none_or(|server| process::exists(server.pid)) {
            fs::remove_file(&path)
                .map_err(|source| PostgresError::files("remove", &path, source))?;
        }
        Ok(None)
    }

    /// What the server with that process id says now, if it has begun to.
    pub(super) fn said_by(pid: i32, data: &Path) -> Option<Self> {
        let text = fs::read_to_string(file(data)).ok()?;
        Self::parse(&text).filter(|server| server.pid == pid)
    }

    /// Lines: process id, data folder, start time, port, socket folder, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim);
        // A server in single-user mode negates its process id.
        let pid = lines.next()?.parse::<i32>().ok()?.checked_abs()?;
        let port = lines.nth(2).and_then(|port| port.parse().ok());
        let socket = lines
            .next()
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        let is_ready = lines.nth(2) == Some("ready");
        (pid > 1).then_some(Self {
            pid,
            port,
            socket,
            is_ready,
        })
    }
}

fn file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_server_is_read_from_its_file() {
        let text =
            "4711\n/srv/data\n1764000000\n40001\n/tmp/velo-1\n127.0.0.1\n  123456   7\nready   \n";
        let read = Postmaster::parse(text).unwrap();
        assert_eq!(
            (read.pid, read.port, read.is_ready),
            (4711, Some(40001), true)
        );
        assert_eq!(read.socket.as_deref(), Some(Path::new("/tmp/velo-1")));
    }

    #[test]
    fn a_starting_or_stopping_server_is_not_ready() {
        for status in ["starting", "stopping"] {
            let text = format!("4711\n/srv/data\n1\n40001\n\n127.0.0.1\n 1 2\n{status}\n");
            assert!(!Postmaster::parse(&text).unwrap().is_ready);
        }
        assert!(!Postmaster::parse("4711\n/srv/data\n").unwrap().is_ready);
    }

    #[test]
    fn nonsense_names_no_process() {
        for text in ["", "\n", "postgres\n", "0\n", "1\n", "-2147483648\n"] {
            assert_eq!(Postmaster::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_names_a_living_foreigner_is_removed() {
        let data = tempfile::tempdir().unwrap();
        fs::write(file(data.path()), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(Postmaster::running(data.path()).unwrap(), None);
        assert!(!file(data.path()).exists());
    }
}
