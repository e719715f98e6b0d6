//! A machine without a database: a private server is started, found again, and stopped.

use std::path::{Path, PathBuf};

use velo_engine::postgres::Settings;

use crate::house::{BRIEF, Ended, ended, velo};

async fn run(folder: &Path, args: &[&str]) -> Ended {
    ended(velo(folder, args.iter().copied())).await
}

/// The file that is there as long as the server runs, wherever its data had to go.
fn running(folder: &Path) -> PathBuf {
    folder.join(".velo/postgres/data/postmaster.pid")
}

#[tokio::test]
async fn without_a_database_and_a_key_the_offline_model_writes_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // The server's account must be able to enter it.
    open_to_all(folder.path());
    let first = run(folder.path(), &["run", BRIEF]).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    first.says(&[
        "creating a private Postgres database",
        "offline model",
        "GEMINI_API_KEY",
    ]);
    assert!(first.stdout.contains("16 tasks, 4 documents"), "{first:?}");
    assert!(
        first
            .stdout
            .contains("offline model (rules, no language model)")
    );
    assert!(
        !format!("{first:?}").contains("\\u{1b}"),
        "no colours when piped"
    );
    assert!(first.stdout.lines().all(|line| line.chars().count() <= 120));
    let outs: Vec<_> = std::fs::read_dir(folder.path().join("velo-out"))
        .unwrap()
        .collect();
    assert_eq!(outs.len(), 1);
    assert!(!running(folder.path()).exists(), "the server was stopped");

    let migrated = run(folder.path(), &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let unsure = run(
        folder.path(),
        &["dev", "--fresh", "--listen", "127.0.0.1:0"],
    )
    .await;
    unsure.refused(2, &["would remove all data", "--yes"]);
    let nothing = run(folder.path(), &["run", "--resume"]).await;
    nothing.refused(2, &["no run is unfinished"]);
    velo_engine::postgres::wipe(&Settings::in_folder(folder.path().join(".velo")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_named_and_what_was_begun_is_not_taken_for_a_database() {
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&disk, "size=8m,mode=755") else {
        eprintln!("skipped: only root may mount a small disk");
        return;
    };
    for _ in 0..2 {
        let full = run(folder.path(), &["run", BRIEF, "--data", "disk"]).await;
        full.refused(4, &["no space left", "disk"]);
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Unmounted at the end.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn tmpfs(at: &'a Path, options: &str) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        let done = mount.output().ok()?;
        done.status.success().then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0)
            .output();
    }
}
