//! A pooler between the workers and the server, which gives each transaction another connection.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use velo_engine::prelude::*;
use velo_engine::{Grade, examine, test_kit};

use super::support::{Beside, Log, line, settled, until, worker};

const FAN: NodeKey<Log> = NodeKey::new("fan");
const WORK: NodeKey<Log, u32> = NodeKey::new("work");
const JOIN: NodeKey<Log> = NodeKey::new("join");

/// Runs of the test, and branches of each.
const RUNS: usize = 20;
const BRANCHES: u32 = 8;

fn graph() -> Graph<Log> {
    let fan = async |_: Context<Log>| Ok(Next::send_all(WORK, 0..BRANCHES));
    let work = async |cx: Context<Log, u32>| {
        let branch = *cx.input();
        let kept: u32 = cx
            .step("keep", async |_| Ok::<_, NodeError>(branch * 2))
            .await?;
        cx.emit("worked", &kept)?;
        Ok(line(kept.to_string()).into())
    };
    let join = async |cx: Context<Log>| {
        cx.sleep("rest", Duration::from_millis(1)).await?;
        let word: String = cx.signal("word").await?;
        Ok(line(word).into())
    };
    Graph::builder("pooled", 1)
        .node(FAN, fan)
        .node(WORK, work)
        .node(JOIN, join)
        .start(FAN)
        .may_go(FAN, WORK)
        .edge(WORK, JOIN)
        .compile()
        .unwrap()
}

/// A pgbouncer of the test's own.
struct Pooler {
    _process: Child,
    _folder: TempDir,
    options: PgConnectOptions,
}

impl Pooler {
    async fn start(program: &Path, server: &PgConnectOptions, mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The pooler may run as somebody else, since it refuses to be root.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let name = server.get_database().unwrap();
        let user = server.get_username();
        let password = server
            .to_url_lossy()
            .password()
            .map(|word| format!(" password={word}"))
            .unwrap_or_default();
        let size = if mode == "session" { 20 } else { 3 };
        let more = match keeps_statements(program).await {
            true => "max_prepared_statements = 200\n",
            false => "",
        };
        let ini = format!(
            "[databases]\n{name} = host={host} port={to} user={user}{password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n\
             ignore_startup_parameters = extra_float_digits\n{more}",
            host = server.get_host(),
            to = server.get_port(),
        );
        let path = folder.path().join("pooler.ini");
        std::fs::write(&path, ini).unwrap();
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = command
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(user)
            .database(name);
        until(|| async {
            use sqlx::Connection as _;
            PgConnection::connect_with(&options).await.is_ok()
        })
        .await;
        Self {
            _process: process,
            _folder: folder,
            options,
        }
    }
}

fn program() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
}

/// Whether this pgbouncer can keep prepared statements in transaction mode: from 1.21 on.
async fn keeps_statements(program: &Path) -> bool {
    let told = Command::new(program)
        .arg("--version")
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let version = told.split_whitespace().nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map(|it| it.parse::<u32>().unwrap());
    (numbers.next(), numbers.next()) >= (Some(1), Some(21))
}

async fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(8)
        .connect_with(options.clone())
        .await
        .unwrap()
}

/// Runs many at once through the pooler, by two workers.
async fn all_is_well(options: &PgConnectOptions) {
    let engine = Engine::connect(pool(options).await);
    let graph = graph();
    let workers = [
        Beside::start(worker(&engine, graph.clone())),
        Beside::start(worker(&engine, graph.clone())),
    ];
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let run = engine.start(&graph, Log::default()).await.unwrap();
        engine.signal(run, "word", &"said", None).await.unwrap();
        runs.push(run);
    }
    for run in runs {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
        let log: Log = engine.state(run).await.unwrap();
        let mut all: Vec<String> = (0..BRANCHES).map(|it| (it * 2).to_string()).collect();
        all.push("said".to_owned());
        assert_eq!(log.lines, all);
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_pooler_in_session_mode_makes_no_difference() {
    let Some(program) = program() else {
        eprintln!("skipped: there is no pgbouncer here");
        return;
    };
    let direct = test_kit::engine().await;
    let server = (*direct.pool().connect_options()).clone();
    let pooler = Pooler::start(&program, &server, "session").await;
    all_is_well(&pooler.options).await;
    let findings = examine(&pool(&pooler.options).await).await.unwrap();
    let found = findings.iter().find(|it| it.check == "pooler").unwrap();
    assert_eq!(found.grade, Grade::Fine, "{findings:?}");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_loses_nothing_or_the_doctor_calls_it_unsafe() {
    let Some(program) = program() else {
        eprintln!("skipped: there is no pgbouncer here");
        return;
    };
    let direct = test_kit::engine().await;
    let server = (*direct.pool().connect_options()).clone();
    let pooler = Pooler::start(&program, &server, "transaction").await;
    let grade = match keeps_statements(&program).await {
        true => {
            all_is_well(&pooler.options).await;
            Grade::Notable
        }
        false => {
            // Whoever was there before has left its statements in the server's sessions.
            let first = pool(&pooler.options).await;
            examine(&first).await.unwrap();
            Grade::Unsafe
        }
    };
    let findings = examine(&pool(&pooler.options).await).await.unwrap();
    let found = findings.iter().find(|it| it.check == "pooler").unwrap();
    assert_eq!(found.grade, grade, "{findings:?}");
}
