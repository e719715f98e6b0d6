//! Another process: this test binary, run again.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use velo_engine::postgres::{PrivatePostgres, Settings};

/// What [`another_process`] shall do, and where.
const TASK: &str = "VELO_TEST_TASK";
const WHERE: &str = "VELO_TEST_FOLDER";

/// Runs this test binary again for one task, and reads the lines that it says.
pub(crate) fn spawn(task: &str, folder: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["other::another_process", "--exact", "--nocapture"])
        .env(TASK, task)
        .env(WHERE, folder)
        .env("TMPDIR", folder)
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, said)
}

pub(crate) fn said(lines: &mut Lines<BufReader<ChildStdout>>, beginning: &str) -> String {
    let found = lines.find_map(|line| line.unwrap().strip_prefix(beginning).map(str::to_owned));
    found.unwrap_or_else(|| panic!("the other process ended without saying {beginning:?}"))
}

/// Kills the process with its whole group, as a terminal or a supervisor may.
pub(crate) fn kill_group(mut child: Child) {
    let group = Pid::from_child(&child);
    kill_process_group(group, Signal::KILL).unwrap();
    child.wait().unwrap();
}

/// Not a test by itself: the process that other tests start and kill.
#[tokio::test]
async fn another_process() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let settings = match task.as_str() {
        "temporary" => Settings::temporary(),
        "kept" => Settings::in_folder(std::env::var_os(WHERE).unwrap()),
        other => panic!("no such task: {other}"),
    };
    let server = PrivatePostgres::start(&settings, |stage| println!("\nstage {stage:?}")).await;
    let server = server.unwrap();
    println!("\nurl {}", server.url());
    std::future::pending::<()>().await;
}
