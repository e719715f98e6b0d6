//! A folder for a server, and what is seen of its processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use velo_engine::postgres::{PrivatePostgres, Settings};

/// How long an event may take that does come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for a server, which ends with it.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// Open to the account that runs the server, if we are root.
    pub(crate) fn new() -> Self {
        let mode = Permissions::from_mode(0o755);
        let mut builder = tempfile::Builder::new();
        Self(
            builder
                .prefix("velo's földer ")
                .permissions(mode)
                .tempdir()
                .unwrap(),
        )
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::in_folder(self.path())
    }

    pub(crate) async fn start(&self) -> PrivatePostgres {
        PrivatePostgres::start(&self.settings(), |_| ())
            .await
            .unwrap()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("postgres/data")
    }

    pub(crate) fn pid(&self) -> i32 {
        line_of(&self.data(), 0).unwrap().parse().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let socket = line_of(&self.data(), 4);
        if let Some(pid) = line_of(&self.data(), 0).and_then(|pid| pid.parse().ok())
            && works_in(pid, &self.data())
        {
            kill(pid, Signal::QUIT);
            until("the server has ended", || !is_running(pid));
        }
        if let Some(socket) = socket.filter(|socket| socket.starts_with("/tmp/velo-")) {
            let _ = fs::remove_dir_all(socket);
        }
    }
}

pub(crate) fn line_of(data: &Path, line: usize) -> Option<String> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    text.lines().nth(line).map(|line| line.trim().to_owned())
}

pub(crate) fn works_in(pid: i32, folder: &Path) -> bool {
    !cfg!(target_os = "linux")
        || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
}

/// A process that nobody waited for yet has ended all the same.
pub(crate) fn is_running(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !status.contains("State:\tZ")
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Another process gives no event to wait for.
pub(crate) fn until(event: &str, mut has_come: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_come() {
        assert!(
            since.elapsed() < PATIENCE,
            "{event}: not within {PATIENCE:?}"
        );
        sleep(Duration::from_millis(10));
    }
}

pub(crate) async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .connect(url)
        .await
        .unwrap()
}

pub(crate) async fn text(pool: &PgPool, query: &'static str) -> String {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}
