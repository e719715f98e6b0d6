//! The rate of commits by `pgbench`, whose client costs next to nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::process::Command;

use crate::Outcome;

/// A `pgbench` that is installed beside the server.
#[derive(Debug)]
pub(crate) struct Pgbench {
    program: PathBuf,
    script: PathBuf,
}

impl Pgbench {
    /// Has it repeat `statement`.
    pub(crate) fn new(program: PathBuf, statement: &str) -> Outcome<Self> {
        let name = format!("velo-bench-{}.sql", uuid::Uuid::new_v4().simple());
        let script = std::env::temp_dir().join(name);
        std::fs::write(&script, statement)?;
        Ok(Self { program, script })
    }

    /// Transactions a second of so many clients.
    pub(crate) async fn rate(
        &self,
        options: &PgConnectOptions,
        clients: usize,
        seconds: u64,
    ) -> Outcome<f64> {
        let url = options.to_url_lossy();
        let password = url.password().unwrap_or_default();
        let host = options.get_socket().map_or_else(
            || options.get_host().into(),
            |socket: &PathBuf| socket.as_os_str().to_owned(),
        );
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file"])
            .arg(&self.script)
            .arg(format!("--client={clients}"))
            .arg(format!("--time={seconds}"))
            .env("PGHOST", host)
            .env("PGPORT", options.get_port().to_string())
            .env("PGUSER", options.get_username())
            .env("PGDATABASE", options.get_database().unwrap_or_default())
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let told = String::from_utf8_lossy(&output.stdout);
        read_rate(&told).ok_or_else(|| {
            let why = String::from_utf8_lossy(&output.stderr);
            format!("{} told no rate: {told}{why}", self.program.display()).into()
        })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        // A small file that is left over does no harm.
        let _ = std::fs::remove_file(&self.script);
    }
}

fn read_rate(told: &str) -> Option<f64> {
    let line = told.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_among_what_it_tells() {
        let told = "latency average = 0.155 ms\ntps = 6451.5 (without initial connection time)\n";
        assert_eq!(read_rate(told), Some(6451.5));
        assert_eq!(read_rate("pgbench: error"), None);
    }
}
