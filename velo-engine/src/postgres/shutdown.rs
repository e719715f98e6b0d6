//! Stops a server.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Child;
use tokio::time::sleep;

use super::error::PostgresError;
use super::launch::POLL;
use super::place::Place;
use super::postmaster::Postmaster;
use super::process;

/// How long a server may take for an orderly stop, which writes everything to the data files.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take for a stop like a crash, from which the next start recovers.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// Stops the server of `place`, if one runs, and reaps it if it is our child. Needs the lock.
///
/// # Cancel safety
/// Dropped half-way, the server may go on stopping; stop it again.
pub(super) async fn stop(place: &Place, child: Option<Child>) -> Result<(), PostgresError> {
    let data = place.data();
    if let Some(server) = Postmaster::running(&data)? {
        let pid = server.pid;
        let failed = |source| PostgresError::files("stop the server of", &data, source);
        process::signal(pid, Signal::INT).map_err(failed)?;
        if !has_ended(pid, STOP_LIMIT).await {
            process::signal(pid, Signal::QUIT).map_err(failed)?;
            if !has_ended(pid, QUIT_LIMIT).await {
                let limit = STOP_LIMIT + QUIT_LIMIT;
                return Err(PostgresError::NotStopped { pid, limit });
            }
        }
    }
    // Our child may be an earlier server than the one that ran; if it has ended, it is reaped here.
    if let Some(mut child) = child {
        let _ = child.try_wait();
    }
    place.remove_socket()
}

async fn has_ended(pid: i32, limit: Duration) -> bool {
    let since = Instant::now();
    while process::is_running(pid) {
        if since.elapsed() > limit {
            return false;
        }
        sleep(POLL).await;
    }
    true
}
