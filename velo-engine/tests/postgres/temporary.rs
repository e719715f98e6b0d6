//! A server that ends with its process.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use velo_engine::postgres::{PrivatePostgres, Settings};

use crate::other::{kill_group, said, spawn};
use crate::support::{Folder, is_running, line_of, pool, text, until};

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
