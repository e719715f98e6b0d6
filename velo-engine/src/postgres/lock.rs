//! One process at a time starts, stops or removes a server.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::PostgresError;

/// How long another process is waited for: what takes longest is a download, which has ten minutes.
const LOCK_LIMIT: Duration = Duration::from_secs(900);

/// How often a held lock is tried again: the system has no way to wait for it with a limit.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The right to start, stop or remove a server. The system gives it back when the process dies.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Waits for the lock and takes it; `waiting` is called once if another holds it.
    ///
    /// The file stays where it is for ever: a lock on a removed file would exclude nobody.
    pub(super) async fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self, PostgresError> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| PostgresError::files("open the lock file", path, source))?;
        let since = Instant::now();
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_LIMIT => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(PostgresError::Busy {
                        lock: path.to_owned(),
                        limit: LOCK_LIMIT,
                    });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(PostgresError::files("lock", path, source));
                }
            }
            if let Some(tell) = waiting.take() {
                tell();
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_held_lock_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path, || panic!("nobody holds it"))
            .await
            .unwrap();
        let (tell, hear) = tokio::sync::oneshot::channel();
        let second = Lock::take(&path, || tell.send(()).unwrap());
        let release = async {
            hear.await.unwrap();
            drop(first);
        };
        let (second, ()) = tokio::join!(second, release);
        second.unwrap();
    }
}
