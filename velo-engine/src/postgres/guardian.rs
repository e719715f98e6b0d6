//! Stops and removes a temporary server when the process that asked for it is gone, however it went.
//!
//! The guardian is a shell that reads from a pipe of which only that process holds the other end: when the
//! process dies, even by SIGKILL, the system closes the pipe and the read ends. The server is the shell's
//! child, so its process id cannot have been given to another process.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::error::PostgresError;
use super::place::Place;
use super::program;

/// How long the guardian may take to stop the server and remove its files.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

const SHELL: &str = "/bin/sh";

/// Takes the folders to remove and the log, then the server's arguments. Each line that it reads starts the
/// server, on a port and from a program, and is answered with a process id; the end of input ends it all.
/// The process may be gone before it is answered, hence the trap. A server that has only just begun ignores the
/// first signals, so they are repeated while it is waited for. An `initdb` that was orphaned may write for a
/// moment more, so the removal is tried again.
const SCRIPT: &str = r#"
trap '' PIPE HUP
root=$1; socket=$2; log=$3; shift 3
server=
while IFS=' ' read -r port program; do
  if [ -n "$server" ]; then wait "$server"; fi
  "$program" "$@" -p "$port" </dev/null >>"$log" 2>&1 &
  server=$!
  echo "$server"
done
if [ -n "$server" ]; then
  {
    for try in 1 2 3 4 5 6 7 8 9 10; do kill -QUIT "$server" || exit; sleep 1; done
    kill -KILL "$server"
  } 2>/dev/null &
  wait "$server"
  kill "$!" 2>/dev/null
fi
for try in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$root" "$socket" 2>/dev/null
  if [ ! -e "$root" ]; then break; fi
  sleep 1
done
"#;

/// The guardian of one temporary server. Dropped, it sets to work.
#[derive(Debug)]
pub(super) struct Guardian {
    shell: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Guardian {
    /// Watches over `place` from now on. `arguments` are the server's, without its port.
    pub(super) fn watch(place: &Place, arguments: &[OsString]) -> Result<Self, PostgresError> {
        let failed = |source| PostgresError::files("run", Path::new(SHELL), source);
        let mut shell = program::command(SHELL, &place.account, Path::new("/"));
        shell
            .args(["-c", SCRIPT, "velo-guardian"])
            .args([place.root(), &place.socket(), &place.log()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut shell = shell.spawn().map_err(failed)?;
        let orders = shell.stdin.take().expect("piped above");
        let answers = BufReader::new(shell.stdout.take().expect("piped above")).lines();
        Ok(Self {
            shell,
            orders,
            answers,
        })
    }

    /// Starts the server, after the one started before has ended, and returns its process id.
    pub(super) async fn start(&mut self, program: &Path, port: u16) -> Result<i32, PostgresError> {
        let failed = |source| PostgresError::files("start", program, source);
        let order = [
            format!("{port} ").as_bytes(),
            program.as_os_str().as_bytes(),
            b"\n",
        ]
        .concat();
        self.orders.write_all(&order).await.map_err(failed)?;
        let answer = self.answers.next_line().await.map_err(failed)?;
        let pid = answer.and_then(|line| line.parse().ok());
        pid.ok_or_else(|| failed(std::io::Error::other("the guardian does not answer")))
    }

    /// Has the guardian stop the server and remove its files, and waits until that is done.
    pub(super) async fn finish(self) -> Result<ExitStatus, PostgresError> {
        let Self {
            mut shell,
            orders,
            answers,
        } = self;
        let pid = shell.id().and_then(|pid| pid.try_into().ok());
        drop(orders);
        let ended = timeout(FINISH_LIMIT, shell.wait()).await;
        drop(answers);
        match ended {
            Ok(status) => {
                status.map_err(|source| PostgresError::files("wait for", Path::new(SHELL), source))
            }
            Err(_) => Err(PostgresError::NotStopped {
                pid: pid.unwrap_or_default(),
                limit: FINISH_LIMIT,
            }),
        }
    }
}
