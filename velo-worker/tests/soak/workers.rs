//! Worker processes, which are this test, started again.

use std::env;
use std::fmt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::ConnectOptions as _;
use tokio::process::{Child, Command};

use crate::proxy::Proxy;

/// How long a worker may take to stop in order.
const STOPPING: Duration = Duration::from_secs(60);
/// A heap may be this much larger at the end than once it was warm.
const FLAT: f64 = 1.5;
/// Before that long, a heap is still warming up.
const WARM: Duration = Duration::from_secs(60);

pub(crate) struct Workers {
    url: String,
    processes: Vec<Child>,
    began: Instant,
    /// Resident pages of the first process, which is never killed, by time.
    pages: Vec<(Duration, u64)>,
}

/// Memory of one process over time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    warm: Option<u64>,
    last: u64,
}

impl Memory {
    #[allow(
        clippy::cast_precision_loss,
        reason = "mebibytes of a process are far below 2^52"
    )]
    pub(crate) fn is_flat(&self) -> bool {
        self.warm
            .is_none_or(|warm| self.last as f64 <= warm as f64 * FLAT)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.warm {
            Some(warm) => write!(f, "{warm} MiB when warm, {} MiB at the end", self.last),
            None => write!(f, "{} MiB (too short to say whether it grows)", self.last),
        }
    }
}

impl Workers {
    pub(crate) fn start(proxy: &Proxy, number: usize) -> Self {
        let options = proxy.engine.pool().connect_options();
        let url = options.to_url_lossy().to_string();
        let processes = (0..number).map(|_| start(&url)).collect();
        Self {
            url,
            processes,
            began: Instant::now(),
            pages: Vec::new(),
        }
    }

    pub(crate) fn number(&self) -> usize {
        self.processes.len()
    }

    /// Kills one as the kernel would, and starts another in its place.
    pub(crate) async fn kill(&mut self, which: usize) {
        self.processes[which].kill().await.unwrap();
        self.processes[which] = start(&self.url);
    }

    /// Asks one to stop, waits until it has, and starts another in its place.
    pub(crate) async fn replace(&mut self, which: usize) {
        stop(&mut self.processes[which]).await;
        self.processes[which] = start(&self.url);
    }

    /// Freezes one for a time.
    pub(crate) async fn freeze(&mut self, which: usize, time: Duration) {
        let pid = pid(&self.processes[which]);
        kill_process(pid, Signal::STOP).unwrap();
        tokio::time::sleep(time).await;
        kill_process(pid, Signal::CONT).unwrap();
    }

    /// Notes how much memory the first has; fails when it has died by itself.
    pub(crate) fn look(&mut self) {
        let is_dead = self.processes[0].try_wait().unwrap();
        assert_eq!(is_dead, None, "a worker that nobody killed has ended");
        let pid = pid(&self.processes[0]).as_raw_nonzero();
        if let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status"))
            && let Some(kib) = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .and_then(|rest| {
                    rest.trim()
                        .trim_end_matches("kB")
                        .trim()
                        .parse::<u64>()
                        .ok()
                })
        {
            self.pages.push((self.began.elapsed(), kib / 1024));
        }
    }

    pub(crate) fn memory(&mut self) -> Memory {
        self.look();
        let warm = self.pages.iter().find(|(at, _)| *at >= WARM);
        Memory {
            warm: warm.map(|(_, mib)| *mib),
            last: self.pages.last().map_or(0, |(_, mib)| *mib),
        }
    }

    /// Stops all in order.
    pub(crate) async fn stop(mut self) {
        for process in &mut self.processes {
            stop(process).await;
        }
    }
}

fn pid(process: &Child) -> Pid {
    let id = process.id().expect("it has not been waited for");
    Pid::from_raw(id.cast_signed()).unwrap()
}

fn start(url: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", crate::NAME, "--nocapture"])
        .env(crate::WORKER, url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn stop(process: &mut Child) {
    kill_process(pid(process), Signal::TERM).unwrap();
    let ended = tokio::time::timeout(STOPPING, process.wait()).await;
    let ended = ended.expect("a worker stops in time").unwrap();
    assert!(ended.success(), "a worker that was asked to stop: {ended}");
}
