//! The binary in a folder of its own, with a database and a fake Gemini of its own.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use velo_agents::fake_gemini::{DEFAULT_KEY, FakeGemini, FromModel};
use velo_agents::model::offline::OfflineModel;
use velo_engine::test_kit;

pub(crate) const BRIEF: &str = "A habit tracker with streaks and reminders";
/// A command that takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);

pub(crate) struct House {
    pub(crate) fake: FakeGemini,
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The one JSON object on standard output.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        for field in [
            "project_id",
            "run_id",
            "status",
            "tasks",
            "artifacts",
            "tokens",
            "cost_usd",
            "model",
        ] {
            assert!(value.get(field).is_some(), "{field} is missing in {value}");
        }
        value
    }

    /// The one message of a command that failed, which ended with `code` and says `words`.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.matches("error:").count(), 1, "{self:?}");
        self.says(words);
    }

    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        let url = test_kit::database_url().await;
        Self {
            fake: FakeGemini::builder()
                .fallback(FromModel(Arc::new(OfflineModel)))
                .start()
                .await
                .unwrap(),
            pool: PgPool::connect(&url).await.unwrap(),
            url,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The binary with these arguments, asking the fake Gemini.
    pub(crate) fn velo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut velo = velo(self.path(), args);
        velo.env("DATABASE_URL", &self.url)
            .env("GEMINI_BASE_URL", self.fake.base_url())
            .env("GEMINI_API_KEY", DEFAULT_KEY);
        velo
    }

    pub(crate) async fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ended {
        ended(self.velo(args)).await
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// How often `agent` has asked, however it was answered.
    pub(crate) fn asked(&self, agent: &str) -> usize {
        let requests = self.fake.requests();
        let of_agent = requests
            .iter()
            .filter(|asked| asked.agent.as_deref() == Some(agent));
        of_agent.count()
    }
}

/// The binary in `folder`, knowing nothing of this process's environment.
pub(crate) fn velo<'a>(folder: &Path, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut velo = Command::new(env!("CARGO_BIN_EXE_velo"));
    for name in [
        "DATABASE_URL",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GEMINI_BASE_URL",
        "GOOGLE_GEMINI_BASE_URL",
        "GOOGLE_GENAI_USE_VERTEXAI",
        "VELO_MODEL_ATTEMPTS",
        "VELO_FAILPOINT",
        "VELO_DATA",
        "VELO_LOG",
    ] {
        velo.env_remove(name);
    }
    velo.args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    velo
}

/// Runs it to its end.
pub(crate) async fn ended(mut velo: Command) -> Ended {
    let output = tokio::time::timeout(HANGS, velo.output());
    output.await.expect("the command hangs").unwrap().into()
}

/// Waits for its end.
pub(crate) async fn end(child: Child) -> Ended {
    let output = tokio::time::timeout(HANGS, child.wait_with_output());
    output.await.expect("the command hangs").unwrap().into()
}

/// Runs it with `text` as standard input.
pub(crate) async fn fed(mut velo: Command, text: &[u8]) -> Ended {
    let mut child = velo.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may refuse before it has read all.
    let _ = stdin.write_all(text).await;
    drop(stdin);
    end(child).await
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().expect("it still runs")).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Sends it until the command ends: one that comes too soon after another counts as the same.
pub(crate) async fn insist(child: Child, by: Signal) -> Ended {
    let pid = Pid::from_raw(i32::try_from(child.id().expect("it still runs")).unwrap()).unwrap();
    let again = async {
        loop {
            // Gone when it has ended, which is what is wanted.
            let _ = kill_process(pid, by);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        ended = end(child) => ended,
        () = again => unreachable!("it has no end"),
    }
}

/// What a command says on standard error, line by line.
pub(crate) struct Says(Lines<BufReader<ChildStderr>>);

impl Says {
    pub(crate) fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stderr.take().unwrap()).lines())
    }

    /// The next line that contains `words`.
    pub(crate) async fn wait_for(&mut self, words: &str) -> String {
        let found = async {
            loop {
                let line = self.0.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended without {words:?}"));
                if line.contains(words) {
                    return line;
                }
            }
        };
        let found = tokio::time::timeout(HANGS, found).await;
        found.unwrap_or_else(|_| panic!("it never said {words:?}"))
    }
}

/// The first line on standard error that contains `words`; what comes later is still read, so that
/// the command is never blocked.
pub(crate) async fn told(child: &mut Child, words: &str) -> String {
    let mut says = Says::of(child);
    let line = says.wait_for(words).await;
    tokio::spawn(async move { while let Ok(Some(_)) = says.0.next_line().await {} });
    line
}
