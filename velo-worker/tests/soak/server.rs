//! A Postgres of the test's own, which it can crash.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tempfile::TempDir;
use velo_engine::postgres::{PrivatePostgres, Settings};

pub(crate) struct Server {
    pool: PgPool,
    pg_ctl: PathBuf,
    data: PathBuf,
    _folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let settings = Settings::in_folder(folder.path());
        let private = PrivatePostgres::start(&settings, |_| ()).await.unwrap();
        let options = PgConnectOptions::from_str(private.url()).unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(30)
            .acquire_timeout(Duration::from_secs(60))
            .connect_with(options)
            .await
            .unwrap();
        let setting = async |sql: &'static str| -> String {
            sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap()
        };
        let bin = setting("select setting from pg_config where name = 'BINDIR'").await;
        let data = setting("select current_setting('data_directory')").await;
        // The handle's own session ends with the first crash; from here on the server is looked after by hand.
        drop(private);
        Self {
            pg_ctl: PathBuf::from(bin).join("pg_ctl"),
            data: data.into(),
            pool,
            _folder: folder,
        }
    }

    pub(crate) async fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// As after a loss of power, but for what the kernel still had in memory.
    pub(crate) async fn crash(&self) {
        let restart = self.command(&["restart", "-m", "immediate", "-w", "-t", "60"]);
        let ended = tokio::task::spawn_blocking(move || {
            let mut restart = restart;
            restart.status()
        });
        let ended = ended.await.unwrap().unwrap();
        assert!(ended.success(), "Postgres comes back: {ended}");
    }

    /// Ends all its sessions but the one that asks.
    pub(crate) async fn end_sessions(&self) {
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
        // This session may be ended by the like of it.
        let _ = sqlx::query(end).execute(&self.pool).await;
    }

    pub(crate) async fn stop(self) {
        self.pool.close().await;
    }

    fn command(&self, what: &[&str]) -> Command {
        let mut command = Command::new(&self.pg_ctl);
        command.args(what).arg("-D").arg(&self.data);
        command.current_dir(&self.data);
        // It refuses to be run by others than the data's owner.
        let owner = std::fs::metadata(&self.data).unwrap();
        if !rustix::process::getuid().is_root() || owner.uid() == 0 {
            // Whoever this is, the server was started by the same account.
        } else {
            command.gid(owner.gid()).uid(owner.uid());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is kept.
        let _ = self.command(&["stop", "-m", "immediate"]).status();
    }
}
