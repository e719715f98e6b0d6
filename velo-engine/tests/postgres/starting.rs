//! A server that is started, found again and recovered.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use rustix::process::{Signal, geteuid};
use sqlx::{Connection, Executor, PgConnection};
use velo_engine::postgres::{PrivatePostgres, Settings, Stage, wipe};

use crate::other::{kill_group, said, spawn};
use crate::support::{Folder, PATIENCE, is_running, kill, pool, text, until};

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
    let before = pool(server.url()).await;
    before
        .execute("create table kept as select 'committed' as word")
        .await
        .unwrap();
    let mut open = before.begin().await.unwrap();
    open.execute("insert into kept values ('open')")
        .await
        .unwrap();
    let pid = folder.pid();
    kill(pid, Signal::KILL);
    until("the server has ended", || !is_running(pid));
    let again = folder.start().await;
    assert_ne!(folder.pid(), pid);
    let kept = text(
        &pool(again.url()).await,
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

/// Handles are kept in the state of servers and shared between tasks.
#[test]
fn a_handle_may_be_shared() {
    fn is_shareable<T: Send + Sync + 'static>() {}
    fn is_spawnable(_: impl Future<Output: Send> + Send) {}
    is_shareable::<PrivatePostgres>();
    is_spawnable(PrivatePostgres::start(&Settings::default(), |_| ()));
    is_spawnable(wipe(&Settings::default()));
}
