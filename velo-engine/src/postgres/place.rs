//! Where a private server keeps its files.
//!
//! ```text
//! <root>/postgres.lock       held while the server is started, stopped or removed; never removed itself
//! <root>/postgres/
//!   velo-postgres            says that the folder is ours
//!   password                 of the role velo, made before the database; for the server's account alone
//!   postgres.log             what the server says
//!   data/                    appears when it is complete; for the server's account alone
//! <root>/binaries/<version>/ what was downloaded
//! /tmp/velo-<hash of root>/  the Unix socket: its path must not exceed 107 bytes
//! ```

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{self, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use uuid::Uuid;

use super::account::Account;
use super::error::PostgresError;
use super::settings::{DEFAULT_FOLDER, Keep, Settings};

/// Where root keeps the data of folders that the server's account may not enter.
const SYSTEM_FOLDER: &str = "/var/lib/velo";

/// For sockets, and for data if nothing else can be written: its path is short and the same for everyone.
const SHORT_FOLDER: &str = "/tmp";

const MARK: &str = "velo-postgres";
const MARK_TEXT: &str = "Velo keeps a private Postgres server in this folder.\n";

/// What a removal that was cut short leaves, and the next start finishes.
const REMOVED: &str = "postgres.removed-";

/// What a creation that was cut short leaves, and the next start removes.
const UNFINISHED: &str = "data.new-";

/// A log longer than this is put aside at the next start, in place of the one put aside before.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// Most bytes of a log that are read to find out why a server ended.
const LOG_READ_LIMIT: u64 = 64 * 1024;

/// The folders and files of one server.
#[derive(Debug, Clone)]
pub(super) struct Place {
    root: PathBuf,
    pub(super) account: Account,
    /// Why the data is not where the caller asked for it.
    pub(super) note: Option<String>,
    is_temporary: bool,
}

impl Place {
    /// Decides where the data goes and creates that folder, no more.
    pub(super) fn choose(settings: &Settings) -> Result<Self, PostgresError> {
        let account = Account::choose()?;
        match &settings.keep {
            Keep::Temporarily => Self::temporary(account),
            Keep::In(folder) => Self::kept(folder, account),
        }
    }

    fn kept(folder: &Path, account: Account) -> Result<Self, PostgresError> {
        let asked = fs::create_dir_all(folder)
            .and_then(|()| folder.canonicalize())
            .map_err(|source| PostgresError::files("create the folder", folder, source))?;
        let barred = account
            .barred_from(&asked)
            .map_err(|source| PostgresError::files("look at", &asked, source))?;
        let Some(barred) = barred else {
            return Ok(Self::new(asked, account));
        };
        let root = stand_in(&asked)?;
        let note = format!(
            "the database of {} is kept in {}: Postgres does not run as root, and the account that it runs as may not enter {}",
            asked.display(),
            root.display(),
            barred.display()
        );
        Ok(Self {
            note: Some(note),
            ..Self::new(root, account)
        })
    }

    fn temporary(account: Account) -> Result<Self, PostgresError> {
        let usual = env::temp_dir();
        let parent = match usual.canonicalize() {
            Ok(usual) if matches!(account.barred_from(&usual), Ok(None)) => usual,
            _ => Path::new(SHORT_FOLDER).canonicalize().map_err(|source| {
                PostgresError::files("look at", Path::new(SHORT_FOLDER), source)
            })?,
        };
        let root = parent.join(format!("velo-temporary-{}", short(Uuid::new_v4())));
        let made = private_folder(&root).and_then(|()| account.give(&root));
        made.map_err(|source| PostgresError::files("create the folder", &root, source))?;
        Ok(Self {
            is_temporary: true,
            ..Self::new(root, account)
        })
    }

    const fn new(root: PathBuf, account: Account) -> Self {
        Self {
            root,
            account,
            note: None,
            is_temporary: false,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        let name = format!("{UNFINISHED}{}", short(Uuid::new_v4()));
        self.home().join(name)
    }

    pub(super) fn password(&self) -> PathBuf {
        self.home().join("password")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("postgres.lock")
    }

    /// Where downloads go. They outlive a temporary server.
    pub(super) fn binaries(&self) -> PathBuf {
        let kept = if self.is_temporary {
            path::absolute(DEFAULT_FOLDER).unwrap_or_else(|_| DEFAULT_FOLDER.into())
        } else {
            self.root.clone()
        };
        kept.join("binaries")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.home().join("postgres.log")
    }

    pub(super) fn socket(&self) -> PathBuf {
        Path::new(SHORT_FOLDER).join(format!("velo-{}", hash(&self.root)))
    }

    /// Makes the server's folder, or finds it as we left it, and clears what was cut short. Needs the lock.
    pub(super) fn prepare(&self) -> Result<(), PostgresError> {
        clear(&self.root, REMOVED);
        let home = self.home();
        let failed = |source| PostgresError::files("create the folder", &home, source);
        match private_folder(&home) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        if !self.is_ours()? {
            return Err(PostgresError::NotOurs { folder: home });
        }
        let mark = home.join(MARK);
        if !mark.is_file() {
            fs::write(&mark, MARK_TEXT)
                .map_err(|source| PostgresError::files("write", &mark, source))?;
        }
        clear(&home, UNFINISHED);
        self.open_home().map_err(failed)
    }

    /// Lets the server's account in. It owns a temporary folder, which it has to remove; it does not own a
    /// lasting one, in which it could lead root's writes elsewhere.
    fn open_home(&self) -> io::Result<()> {
        let home = self.home();
        if self.is_temporary {
            return self.account.give(&home);
        }
        let mode = match self.account {
            Account::Own => 0o700,
            Account::Other { .. } => 0o711,
        };
        fs::set_permissions(&home, Permissions::from_mode(mode))
    }

    /// Whether the server's folder bears our mark. An empty one was about to.
    fn is_ours(&self) -> Result<bool, PostgresError> {
        let home = self.home();
        let look = || {
            if !fs::symlink_metadata(&home)?.is_dir() {
                return Ok(false);
            }
            Ok(home.join(MARK).is_file() || fs::read_dir(&home)?.next().is_none())
        };
        look().map_err(|source| PostgresError::files("look at", &home, source))
    }

    /// Removes the server's folder and its socket. Needs the lock, and the server stopped.
    pub(super) fn remove(&self) -> Result<(), PostgresError> {
        clear(&self.root, REMOVED);
        let home = self.home();
        if fs::symlink_metadata(&home).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(());
        }
        if !self.is_ours()? {
            return Err(PostgresError::NotOurs { folder: home });
        }
        // Out of sight in one step: a folder that lacks half of its files must not be started.
        let removed = self
            .root
            .join(format!("{REMOVED}{}", short(Uuid::new_v4())));
        fs::rename(&home, &removed)
            .and_then(|()| fs::remove_dir_all(&removed))
            .map_err(|source| PostgresError::files("remove", &home, source))?;
        self.remove_socket()
    }

    /// Makes an empty folder for the socket, which only the server's account may enter. Needs the lock,
    /// and no server running.
    pub(super) fn prepare_socket(&self) -> Result<(), PostgresError> {
        self.remove_socket()?;
        let socket = self.socket();
        private_folder(&socket)
            .and_then(|()| self.account.give(&socket))
            .map_err(|source| PostgresError::files("create the folder", &socket, source))
    }

    /// Removes the folder of the socket. Needs the lock, and no server running.
    pub(super) fn remove_socket(&self) -> Result<(), PostgresError> {
        if !self.socket_is_ours()? {
            return Ok(());
        }
        let socket = self.socket();
        fs::remove_dir_all(&socket)
            .map_err(|source| PostgresError::files("remove", &socket, source))
    }

    /// Whether the socket's folder is there. Anyone may create it first, so its owner matters.
    fn socket_is_ours(&self) -> Result<bool, PostgresError> {
        let socket = self.socket();
        let meta = match fs::symlink_metadata(&socket) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(PostgresError::files("look at", &socket, error)),
        };
        if meta.is_dir() && [self.account.uid(), geteuid().as_raw()].contains(&meta.uid()) {
            return Ok(true);
        }
        let why = "it belongs to another account, or is no folder".to_owned();
        Err(PostgresError::Socket {
            folder: socket,
            why,
        })
    }

    /// Opens the log at its end, for the server to write to.
    pub(super) fn open_log(&self) -> Result<File, PostgresError> {
        let path = self.log();
        let open = || {
            if self.log_length() > LOG_LIMIT {
                fs::rename(&path, path.with_extension("log.1"))?;
            }
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(0o600);
            let log = options.custom_flags(NO_LINKS).open(&path)?;
            self.account.give(&path)?;
            Ok(log)
        };
        open().map_err(|source| PostgresError::files("open the log", &path, source))
    }

    pub(super) fn log_length(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |meta| meta.len())
    }

    /// The end of what was logged after that length.
    pub(super) fn log_since(&self, length: u64) -> String {
        let from = length.max(self.log_length().saturating_sub(LOG_READ_LIMIT));
        let mut text = Vec::new();
        let read = File::open(self.log()).and_then(|mut log| {
            log.seek(SeekFrom::Start(from))?;
            log.take(LOG_READ_LIMIT).read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("could not read {}: {error}", self.log().display()),
        }
    }

    /// Writes a file that only the server's account may read; it appears when it is complete.
    pub(super) fn write_secret(&self, path: &Path, secret: &str) -> io::Result<()> {
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        self.account.give(&new)?;
        fs::rename(&new, path)
    }
}

/// The folder that stands in for one that the server's account may not enter: always the same one.
fn stand_in(asked: &Path) -> Result<PathBuf, PostgresError> {
    let name = hash(asked);
    let system = Path::new(SYSTEM_FOLDER);
    let root = system.join(&name);
    let made = open_folder(system)
        .and_then(|()| open_folder(&root))
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
    let root = Path::new(SHORT_FOLDER).join(format!("velo-data-{name}"));
    open_folder(&root)
        .and_then(|()| root.canonicalize())
        .map_err(|source| PostgresError::files("create the folder", &root, source))
}

/// Root must not write where a link in a folder of the server's account leads.
const NO_LINKS: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// A folder of ours that others may enter, whatever the umask.
fn open_folder(path: &Path) -> io::Result<()> {
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

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes what is in `folder` under names with that beginning. What resists is tried again next time.
fn clear(folder: &Path, beginning: &str) {
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

fn hash(path: &Path) -> String {
    short(Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        path.as_os_str().as_bytes(),
    ))
}

fn short(id: Uuid) -> String {
    let mut name = id.simple().to_string();
    name.truncate(12);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_is_short_however_long_the_folder() {
        let deep = format!("/{}", "folder/".repeat(100));
        let place = Place::new(deep.into(), Account::Own);
        let socket = place.socket().join(".s.PGSQL.65535");
        assert!(socket.as_os_str().len() <= 107, "{}", socket.display());
    }

    #[test]
    fn a_folder_with_files_of_others_is_neither_used_nor_removed() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path().to_owned(), Account::Own);
        fs::create_dir(place.home()).unwrap();
        fs::write(place.home().join("letter"), "dear all").unwrap();
        for refused in [place.prepare(), place.remove()] {
            assert!(
                matches!(refused, Err(PostgresError::NotOurs { .. })),
                "{refused:?}"
            );
        }
        assert!(place.home().join("letter").exists());
    }

    #[test]
    fn a_creation_and_a_removal_cut_short_are_cleared_up() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path().to_owned(), Account::Own);
        place.prepare().unwrap();
        let removed = root.path().join(format!("{REMOVED}1"));
        for left in [&place.unfinished(), &removed] {
            fs::create_dir(left).unwrap();
            fs::write(left.join("half"), "").unwrap();
        }
        place.prepare().unwrap();
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&place.home()), [MARK]);
        assert_eq!(names(root.path()), ["postgres"]);
    }
}
