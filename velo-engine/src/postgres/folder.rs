//! Folders, made and removed with care for who may enter them.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use uuid::Uuid;

use super::error::PostgresError;

/// Where root keeps the data of folders that the server's account may not enter.
const SYSTEM_FOLDER: &str = "/var/lib/velo";

/// For sockets, and for data if nothing else can be written: its path is short and the same for everyone.
pub(super) const SHORT: &str = "/tmp";

/// The folder that stands in for one that the server's account may not enter: always the same one.
pub(super) fn stand_in(asked: &Path) -> Result<PathBuf, PostgresError> {
    let name = hash(asked);
    let system = Path::new(SYSTEM_FOLDER);
    let root = system.join(&name);
    let made = open(system)
        .and_then(|()| open(&root))
        .and_then(|()| root.canonicalize());
    match made {
        Ok(root) => return Ok(root),
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            return Err(PostgresError::files("create the folder", &root, error));
        }
        Err(_) => {}
    }
    let root = Path::new(SHORT).join(format!("velo-data-{name}"));
    open(&root)
        .and_then(|()| root.canonicalize())
        .map_err(|source| PostgresError::files("create the folder", &root, source))
}

/// A folder of ours that others may enter, whatever the umask.
fn open(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() {
        let why = "it belongs to another account, or is no folder";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

pub(super) fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes what is in `folder` under names with that beginning. What resists is tried again next time.
pub(super) fn clear(folder: &Path, beginning: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .as_bytes()
            .starts_with(beginning.as_bytes())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

pub(super) fn hash(path: &Path) -> String {
    short(Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        path.as_os_str().as_bytes(),
    ))
}

pub(super) fn short(id: Uuid) -> String {
    let mut name = id.simple().to_string();
    name.truncate(12);
    name
}
