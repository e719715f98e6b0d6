//! What the system knows of another process.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Whether the process has not ended. One that has ended and was not waited for (a zombie) has.
pub(super) fn is_running(pid: i32) -> bool {
    exists(pid) && !is_zombie(pid)
}

/// Whether there is such a process, a zombie included: what Postgres takes for a running server.
pub(super) fn exists(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| {
        matches!(
            test_kill_process(pid),
            Ok(()) | Err(Errno::PERM | Errno::ACCESS)
        )
    })
}

/// Whether the process runs and is the Postgres server of the folder `data`.
///
/// A process id alone proves nothing: after a crash it may have been given to another process.
pub(super) fn is_server_of(pid: i32, data: &Path) -> bool {
    is_running(pid) && is_postgres(pid) && works_in(pid, data)
}

/// Sends a signal. A process that is gone needs none.
pub(super) fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends what a crashed server of the folder `data` left: a session that computes does not see that the
/// server is gone. Needs the lock, and no server running.
#[cfg(target_os = "linux")]
pub(super) fn end_survivors(data: &Path) {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| is_postgres(*pid) && works_in(*pid, data)) {
        // It may have ended by itself meanwhile; and if it stays, the server says so.
        let _ = signal(pid, Signal::QUIT);
    }
}

/// Elsewhere they are waited for: there is no way to tell them from the processes of other servers.
#[cfg(not(target_os = "linux"))]
pub(super) const fn end_survivors(_data: &Path) {}

/// A shell may work in the data folder too.
#[cfg(target_os = "linux")]
fn is_postgres(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

#[cfg(target_os = "linux")]
fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in brackets and may hold brackets itself.
    let state = stat.rsplit(')').next().map(str::trim_start);
    state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// Postgres makes the data folder its working folder, and keeps it when the folder is moved.
#[cfg(target_os = "linux")]
fn works_in(pid: i32, data: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data)
}

#[cfg(not(target_os = "linux"))]
fn is_zombie(pid: i32) -> bool {
    listed(pid, "stat=").starts_with('Z')
}

#[cfg(not(target_os = "linux"))]
fn is_postgres(pid: i32) -> bool {
    listed(pid, "comm=").trim().ends_with("postgres")
}

#[cfg(not(target_os = "linux"))]
fn works_in(pid: i32, data: &Path) -> bool {
    listed(pid, "command=").contains(&*data.to_string_lossy())
}

#[cfg(not(target_os = "linux"))]
fn listed(pid: i32, column: &str) -> String {
    let listing = std::process::Command::new("ps")
        .args(["-ww", "-o", column, "-p", &pid.to_string()])
        .output();
    listing.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
