//! How the server's programs are run, and what is kept of what they say.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::account::Account;

/// Most lines of a program's output that go into an error.
const EXCERPT_LINES: usize = 8;

/// What Postgres and the system say when the disk is full.
const DISK_FULL: &str = "No space left on device";

/// A command that runs as the server's account, knows nothing of our environment, and is in a process group
/// of its own: Ctrl-C is for us, and we decide what becomes of the server.
pub(super) fn command(program: impl AsRef<OsStr>, account: &Account, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir(folder)
        .stdin(Stdio::null())
        .process_group(0);
    if let Account::Other { uid, gid, .. } = account {
        command.uid(*uid).gid(*gid);
    }
    command
}

/// The last lines of an output, in one line.
pub(super) fn excerpt(output: &str) -> String {
    let lines: Vec<_> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(EXCERPT_LINES)..];
    if last.is_empty() {
        return "(nothing)".to_owned();
    }
    last.join(" / ")
}

pub(super) fn says_disk_full(output: &str) -> bool {
    output.contains(DISK_FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_holds_the_last_lines_only() {
        let long: String = (1..=20).map(|n| format!("line {n}\n\n")).collect();
        assert_eq!(
            excerpt(&long),
            "line 13 / line 14 / line 15 / line 16 / line 17 / line 18 / line 19 / line 20"
        );
        assert_eq!(excerpt("\n \n"), "(nothing)");
    }
}
