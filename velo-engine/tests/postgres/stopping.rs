//! A server that is stopped or removed.

use std::fs;
use std::path::PathBuf;

use sqlx::{Connection, Executor, PgConnection};
use velo_engine::postgres::{PostgresError, wipe};

use crate::support::{Folder, is_running, line_of, pool, text};

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
