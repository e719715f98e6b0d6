//! What a private Postgres server promises, on real servers in temporary folders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group, test_kill_process};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tempfile::TempDir;
use velo_engine::postgres::{PostgresError, PrivatePostgres, Settings, Stage, wipe};

/// How long an event may take that does come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for a server, which ends with it.
struct Folder(TempDir);

impl Folder {
    /// Open to the account that runs the server, if we are root.
    fn new() -> Self {
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

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn settings(&self) -> Settings {
        Settings::in_folder(self.path())
    }

    async fn start(&self) -> PrivatePostgres {
        PrivatePostgres::start(&self.settings(), |_| ())
            .await
            .unwrap()
    }

    fn data(&self) -> PathBuf {
        self.path().join("postgres/data")
    }

    fn pid(&self) -> i32 {
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

fn line_of(data: &Path, line: usize) -> Option<String> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    text.lines().nth(line).map(|line| line.trim().to_owned())
}

fn works_in(pid: i32, folder: &Path) -> bool {
    !cfg!(target_os = "linux")
        || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
}

/// A process that nobody waited for yet has ended all the same.
fn is_running(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !status.contains("State:\tZ")
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Another process gives no event to wait for.
fn until(event: &str, mut has_come: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_come() {
        assert!(
            since.elapsed() < PATIENCE,
            "{event}: not within {PATIENCE:?}"
        );
        sleep(Duration::from_millis(10));
    }
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .connect(url)
        .await
        .unwrap()
}

async fn text(pool: &PgPool, query: &'static str) -> String {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

/// What [`another_process`] shall do, and where.
const TASK: &str = "VELO_TEST_TASK";
const WHERE: &str = "VELO_TEST_FOLDER";

/// Runs this test binary again for one task, and reads the lines that it says.
fn spawn(task: &str, folder: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["another_process", "--exact", "--nocapture"])
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

fn said(lines: &mut Lines<BufReader<ChildStdout>>, beginning: &str) -> String {
    let found = lines.find_map(|line| line.unwrap().strip_prefix(beginning).map(str::to_owned));
    found.unwrap_or_else(|| panic!("the other process ended without saying {beginning:?}"))
}

/// Kills the process with its whole group, as a terminal or a supervisor may.
fn kill_group(mut child: Child) {
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
    println!("\nfolder {}", server.folder().display());
    println!("\nurl {}", server.url());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_new_folder_gets_a_durable_server_that_answers() {
    let folder = Folder::new();
    let mut stages = Vec::new();
    let server = PrivatePostgres::start(&folder.settings(), |stage| stages.push(stage))
        .await
        .unwrap();
    assert_eq!(stages, [Stage::Creating, Stage::Starting]);
    assert_eq!(
        (server.folder(), server.note()),
        (&*folder.path().join("postgres"), None)
    );
    for url in [server.url(), server.socket_url()] {
        let pool = pool(url).await;
        let is = text(
            &pool,
            "select concat_ws(' ', current_database(), current_user, getdatabaseencoding(),
               current_setting('fsync'), current_setting('data_checksums'), current_setting('synchronous_commit'))",
        );
        assert_eq!(is.await, "velo velo UTF8 on on on");
        let version = text(&pool, "select current_setting('server_version')").await;
        assert!(
            version.starts_with(server.version()) && !server.version().is_empty(),
            "{version}"
        );
    }
}

#[tokio::test]
async fn the_server_asks_for_a_password_that_only_its_account_may_read() {
    let folder = Folder::new();
    let server = folder.start().await;
    let file = folder.path().join("postgres/password");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    let password = fs::read_to_string(file).unwrap();
    assert!(server.url().contains(&password) && !format!("{server:?}").contains(&password));
    for url in [server.url(), server.socket_url()] {
        let refused = PgConnection::connect(&url.replace(&password, "guess"))
            .await
            .unwrap_err();
        assert_eq!(
            refused.as_database_error().unwrap().code().unwrap(),
            "28P01",
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_second_start_finds_the_server_that_runs() {
    let folder = Folder::new();
    let first = folder.start().await;
    let pid = folder.pid();
    let mut stages = Vec::new();
    let second = PrivatePostgres::start(&folder.settings(), |stage| stages.push(stage))
        .await
        .unwrap();
    assert_eq!(stages, [Stage::Attaching]);
    assert_eq!(
        (folder.pid(), first.url(), first.socket_url()),
        (pid, second.url(), second.socket_url())
    );
}

#[tokio::test]
async fn a_server_outlives_the_process_that_started_it() {
    let folder = Folder::new();
    let (starter, mut lines) = spawn("kept", folder.path());
    let url = said(&mut lines, "url ");
    kill_group(starter);
    assert_eq!(folder.start().await.url(), url);
}

#[tokio::test]
async fn a_killed_server_recovers_what_was_committed() {
    let folder = Folder::new();
    let server = folder.start().await;
    let pool = pool(server.url()).await;
    pool.execute("create table kept as select 'committed' as word")
        .await
        .unwrap();
    let mut open = pool.begin().await.unwrap();
    open.execute("insert into kept values ('open')")
        .await
        .unwrap();
    let pid = folder.pid();
    kill(pid, Signal::KILL);
    until("the server has ended", || !is_running(pid));
    let again = folder.start().await;
    assert_ne!(folder.pid(), pid);
    let kept = text(
        &self::pool(again.url()).await,
        "select string_agg(word, ',') from kept",
    )
    .await;
    assert_eq!(kept, "committed");
}

#[tokio::test]
async fn a_query_that_outlives_a_killed_server_does_not_keep_it_down() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: only Linux tells which processes are left of a server");
        return;
    }
    let folder = Folder::new();
    let server = folder.start().await;
    let busy = pool(server.url()).await;
    let mut session = busy.acquire().await.unwrap();
    let query = tokio::spawn(async move {
        let endless = "/* endless */ select count(*) from generate_series(1, 1000000000000)";
        session.execute(endless).await.map(|_| ())
    });
    let is_computing = "\
        select exists (select from pg_stat_activity
          where query like '/* endless */%' and state = 'active' and wait_event is null)::text";
    let since = Instant::now();
    while text(&busy, is_computing).await != "true" {
        assert!(since.elapsed() < PATIENCE, "the query has not begun");
    }
    let pid = folder.pid();
    kill(pid, Signal::KILL);
    until("the server has ended", || !is_running(pid));
    assert!(!query.is_finished());
    assert_eq!(
        text(&pool(folder.start().await.url()).await, "select 'works'").await,
        "works"
    );
    query.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn starts_at_the_same_time_share_one_server() {
    let folder = Folder::new();
    let (other, mut lines) = spawn("kept", folder.path());
    let stages = Mutex::new(Vec::new());
    let start = || async {
        let hear = |stage| stages.lock().unwrap().push(stage);
        PrivatePostgres::start(&folder.settings(), hear)
            .await
            .unwrap()
    };
    let servers = futures::future::join_all((0..4).map(|_| start())).await;
    let url = said(&mut lines, "url ");
    kill_group(other);
    assert!(
        servers.iter().all(|server| server.url() == url),
        "{url}: {servers:?}"
    );
    let stages = stages.into_inner().unwrap();
    let attached = stages
        .iter()
        .filter(|stage| **stage == Stage::Attaching)
        .count();
    assert!(
        attached >= 3 && stages.contains(&Stage::Waiting),
        "{stages:?}"
    );
}

#[tokio::test]
async fn a_creation_killed_half_way_leaves_nothing_half_made() {
    let folder = Folder::new();
    let (starter, mut lines) = spawn("kept", folder.path());
    said(&mut lines, "stage Creating");
    let home = folder.path().join("postgres");
    let unfinished = || {
        let entries = fs::read_dir(&home)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.to_string_lossy().contains("data.new-"))
            .collect::<Vec<_>>()
    };
    until("initdb has begun", || {
        unfinished().iter().any(|new| new.join("global").exists())
    });
    kill_group(starter);
    assert!(!folder.data().exists());
    let server = folder.start().await;
    assert_eq!(
        text(&pool(server.url()).await, "select 'works'").await,
        "works"
    );
    drop(server);
    // The initdb that lost its parent may write for a moment more; what it leaves goes at a later start.
    let since = Instant::now();
    while !unfinished().is_empty() {
        assert!(since.elapsed() < PATIENCE, "{:?}", unfinished());
        folder.start().await;
    }
}

/// A folder with programs that do as the scripts say.
fn programs(initdb: &str, postgres: &str) -> TempDir {
    let mode = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new()
        .permissions(mode.clone())
        .tempdir()
        .unwrap();
    for (name, script) in [("initdb", initdb), ("postgres", postgres)] {
        let program = folder.path().join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(program, mode.clone()).unwrap();
    }
    folder
}

const TELL_VERSION: &str = "echo 'postgres (PostgreSQL) 16.1'";

#[tokio::test]
async fn a_failed_creation_leaves_nothing_and_says_why() {
    let folder = Folder::new();
    let initdb = "for last; do :; done; echo half >$last/PG_VERSION; echo 'initdb: error: no luck' >&2; kill -9 $$";
    let fake = programs(initdb, TELL_VERSION);
    let settings = folder.settings().binaries(fake.path());
    let error = PrivatePostgres::start(&settings, |_| ()).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::InitFailed { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("no luck"), "{error}");
    let mut left: Vec<_> = fs::read_dir(folder.path().join("postgres"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["password", "velo-postgres"]);
}

#[tokio::test]
async fn a_server_that_ends_while_starting_is_reported_with_its_last_lines() {
    let folder = Folder::new();
    folder.start().await.stop().await.unwrap();
    fs::remove_file(folder.data().join("global/pg_control")).unwrap();
    let error = PrivatePostgres::start(&folder.settings(), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, PostgresError::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("pg_control"), "{error}");
}

#[tokio::test]
async fn chosen_binaries_that_are_not_there_are_an_error() {
    let folder = Folder::new();
    let settings = folder.settings().binaries("/nowhere/bin");
    let error = PrivatePostgres::start(&settings, |_| ()).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::ChosenBinaries { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("/nowhere/bin"), "{error}");
}

#[tokio::test]
async fn data_of_another_major_version_is_refused() {
    let folder = Folder::new();
    folder.start().await.stop().await.unwrap();
    fs::write(folder.data().join("PG_VERSION"), "9\n").unwrap();
    let fake = programs("exit 1", TELL_VERSION);
    let settings = folder.settings().binaries(fake.path());
    let error = PrivatePostgres::start(&settings, |_| ()).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::OtherMajor { data: 9, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("Postgres 16 in"), "{error}");
}

#[tokio::test]
async fn a_stale_file_that_names_a_living_process_does_not_stop_the_server() {
    let folder = Folder::new();
    folder.start().await.stop().await.unwrap();
    let owner = folder.data().metadata().unwrap();
    // Postgres itself takes any process of its own account for a running server.
    let mut stranger = Command::new("sleep");
    stranger.arg("600");
    if geteuid().is_root() {
        stranger.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = stranger.spawn().unwrap();
    let stale = format!(
        "{}\n{}\n1\n40001\n\n127.0.0.1\n 1 2\nready\n",
        stranger.id(),
        folder.data().display()
    );
    fs::write(folder.data().join("postmaster.pid"), stale).unwrap();
    let started = PrivatePostgres::start(&folder.settings(), |_| ()).await;
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "the stranger was ended"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    started.unwrap();
}

#[tokio::test]
async fn a_server_in_use_by_another_is_not_stopped() {
    let folder = Folder::new();
    let (first, second) = (folder.start().await, folder.start().await);
    let pid = folder.pid();
    assert!(
        !first.stop_if_unused().await.unwrap(),
        "another handle was not respected"
    );
    let mut stranger = PgConnection::connect(second.url()).await.unwrap();
    assert!(
        !second.stop_if_unused().await.unwrap(),
        "another session was not respected"
    );
    stranger.execute("select 1").await.unwrap();
    stranger.close().await.unwrap();
    let third = folder.start().await;
    assert_eq!(folder.pid(), pid);
    let pool = pool(third.url()).await;
    pool.close().await;
    assert!(third.stop_if_unused().await.unwrap());
    assert!(!is_running(pid) && line_of(&folder.data(), 0).is_none());
}

#[tokio::test]
async fn wiping_stops_the_server_and_removes_its_data_alone() {
    let folder = Folder::new();
    let server = folder.start().await;
    let pid = folder.pid();
    let socket = PathBuf::from(line_of(&folder.data(), 4).unwrap());
    fs::write(folder.path().join("notes"), "mine").unwrap();
    pool(server.url())
        .await
        .execute("create table gone ()")
        .await
        .unwrap();
    wipe(&folder.settings()).await.unwrap();
    assert!(!is_running(pid) && !folder.path().join("postgres").exists() && !socket.exists());
    assert!(folder.path().join("notes").exists());
    wipe(&folder.settings()).await.unwrap();
    let fresh = pool(folder.start().await.url()).await;
    assert_eq!(
        text(&fresh, "select coalesce(to_regclass('gone')::text, 'none')").await,
        "none"
    );
}

#[tokio::test]
async fn wiping_refuses_a_folder_that_is_not_ours() {
    let folder = Folder::new();
    let home = folder.path().join("postgres");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), "dear all").unwrap();
    let refused = wipe(&folder.settings()).await.unwrap_err();
    assert!(
        matches!(refused, PostgresError::NotOurs { .. }),
        "{refused:?}"
    );
    assert!(home.join("letter").exists());
}

#[tokio::test]
async fn a_temporary_server_is_removed_when_stopped_and_when_dropped() {
    for is_stopped in [true, false] {
        let server = PrivatePostgres::start(&Settings::temporary(), |_| ())
            .await
            .unwrap();
        let fsync = text(&pool(server.url()).await, "select current_setting('fsync')").await;
        assert_eq!(fsync, "off");
        let root = server.folder().parent().unwrap().to_owned();
        let pid = line_of(&root.join("postgres/data"), 0)
            .unwrap()
            .parse()
            .unwrap();
        let socket = PathBuf::from(line_of(&root.join("postgres/data"), 4).unwrap());
        if is_stopped {
            server.stop().await.unwrap();
            assert!(!is_running(pid) && !root.exists() && !socket.exists());
        } else {
            drop(server);
            until("all is removed", || {
                !is_running(pid) && !root.exists() && !socket.exists()
            });
        }
    }
}

#[test]
fn a_temporary_server_ends_with_a_process_that_is_killed_at_any_time() {
    for moment in ["stage Creating", "stage Starting", "url "] {
        let temporary = Folder::new();
        // As `/tmp` is: the server's account removes its folder.
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o1777)).unwrap();
        let roots = || {
            fs::read_dir(temporary.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect::<Vec<_>>()
        };
        let (starter, mut lines) = spawn("temporary", temporary.path());
        said(&mut lines, moment);
        let [root] = roots().try_into().unwrap();
        assert!(is_named_by_a_process(&root));
        kill_group(starter);
        until("all is removed", || {
            roots().is_empty() && !is_named_by_a_process(&root)
        });
    }
}

/// Whether the arguments of a process name the folder: the server's and the guardian's do.
fn is_named_by_a_process(folder: &Path) -> bool {
    let listing = Command::new("ps")
        .args(["-ww", "-e", "-o", "args"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&listing.stdout).contains(&*folder.to_string_lossy())
}

#[tokio::test]
async fn a_folder_that_the_servers_account_may_not_enter_is_stood_in_for() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root runs the server as another account");
        return;
    }
    let mut builder = tempfile::Builder::new();
    let folder = builder
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .unwrap();
    let settings = Settings::in_folder(folder.path());
    let server = PrivatePostgres::start(&settings, |_| ()).await.unwrap();
    let root = server.folder().parent().unwrap().to_owned();
    assert!(!root.starts_with(folder.path()), "{}", root.display());
    let note = server.note().unwrap();
    for named in [&root, folder.path()] {
        assert!(note.contains(&named.display().to_string()), "{note}");
    }
    let again = PrivatePostgres::start(&settings, |_| ()).await.unwrap();
    assert_eq!(again.folder(), server.folder());
    wipe(&settings).await.unwrap();
    fs::remove_dir_all(root).unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = Path::new("/proc/velo");
    let error = PrivatePostgres::start(&Settings::in_folder(folder), |_| ())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/proc/velo"), "{error}");
}

/// A disk of the given size.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "velo-test"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_reported_as_such() {
    let folder = Folder::new();
    let Some(_disk) = Disk::mount(folder.path(), "8m") else {
        eprintln!("skipped: only root may mount a small disk");
        return;
    };
    let error = PrivatePostgres::start(&folder.settings(), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, PostgresError::NoSpace { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains(&*folder.path().to_string_lossy()),
        "{error}"
    );
    assert!(!folder.data().exists());
}

#[tokio::test]
async fn a_disk_that_is_full_later_is_reported_as_such() {
    let folder = Folder::new();
    let Some(_disk) = Disk::mount(folder.path(), "128m") else {
        eprintln!("skipped: only root may mount a small disk");
        return;
    };
    folder.start().await.stop().await.unwrap();
    let filler = folder.path().join("filler");
    let full = fs::write(&filler, vec![1; 128 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let error = PrivatePostgres::start(&folder.settings(), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, PostgresError::NoSpace { .. }), "{error:?}");
    fs::remove_file(filler).unwrap();
    folder.start().await.stop().await.unwrap();
}

/// Handles are kept in the state of servers and shared between tasks.
#[test]
fn a_handle_may_be_shared() {
    fn is_shareable<T: Send + Sync + 'static>() {}
    fn is_spawnable(_: impl Future<Output: Send> + Send) {}
    is_shareable::<PrivatePostgres>();
    is_spawnable(PrivatePostgres::start(&Settings::default(), |_| ()));
    is_spawnable(wipe(&Settings::default()));
}
