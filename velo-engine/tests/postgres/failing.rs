//! What cannot be started, and what is said of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;
use velo_engine::postgres::{PostgresError, PrivatePostgres, Settings};

use crate::other::{kill_group, said, spawn};
use crate::support::{Folder, PATIENCE, pool, text, until};

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
