//! The database on disk: created whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::binaries::Binaries;
use super::error::PostgresError;
use super::password::ROLE;
use super::place::Place;
use super::program;

/// How long `initdb` may take: seconds, on a slow disk a minute.
const CREATION_LIMIT: Duration = Duration::from_secs(300);

/// The major version of Postgres that made the data folder, or `None` if there is no such folder yet.
pub(super) fn major(place: &Place) -> Result<Option<u32>, PostgresError> {
    let data = place.data();
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => {
                let why = format!("its PG_VERSION says {:?}", text.trim());
                Err(PostgresError::Damaged { folder: data, why })
            }
        },
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(PostgresError::files("read", &path, error))
        }
        Err(_) if data.exists() => {
            let why = "it has no PG_VERSION".to_owned();
            Err(PostgresError::Damaged { folder: data, why })
        }
        Err(_) => Ok(None),
    }
}

/// Creates the data folder with `initdb`: in a folder beside it, which takes its name when it is complete.
///
/// # Cancel safety
/// Dropped half-way, `initdb` is killed, and nothing or the whole folder is there.
pub(super) async fn create(
    place: &Place,
    binaries: &Binaries,
    is_temporary: bool,
) -> Result<(), PostgresError> {
    let new = Unfinished::create(place)?;
    let mut initdb = program::command(binaries.initdb(), &place.account, &place.home());
    initdb
        .args(["--username", ROLE, "--encoding", "UTF8", "--locale", "C"])
        .args(["--data-checksums", "--auth", "scram-sha-256"])
        .arg("--pwfile")
        .arg(place.password())
        .arg("--pgdata")
        .arg(&new.0)
        .kill_on_drop(true);
    if is_temporary {
        initdb.arg("--no-sync");
    }
    let data = place.data();
    let Ok(ended) = timeout(CREATION_LIMIT, initdb.output()).await else {
        return Err(PostgresError::InitFailed {
            folder: data,
            status: format!("not done after {} s", CREATION_LIMIT.as_secs()),
            output: "the disk may be too slow".to_owned(),
        });
    };
    let output = ended.map_err(|source| PostgresError::files("run", &binaries.initdb(), source))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        if program::says_disk_full(&said) {
            return Err(PostgresError::NoSpace {
                folder: place.home(),
            });
        }
        return Err(PostgresError::InitFailed {
            folder: data,
            status: output.status.to_string(),
            output: program::excerpt(&said),
        });
    }
    fs::rename(&new.0, &data)
        .and_then(|()| File::open(place.home())?.sync_all())
        .map_err(|source| PostgresError::files("name the new database", &data, source))
}

/// A data folder in the making, removed unless it was renamed.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Unfinished {
    fn create(place: &Place) -> Result<Self, PostgresError> {
        let path = place.unfinished();
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .and_then(|()| place.account.give(&path))
            .map_err(|source| PostgresError::files("create the folder", &path, source))?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Best effort: the next start clears what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}
