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
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};

use uuid::Uuid;

use super::account::Account;
use super::error::PostgresError;
use super::folder;
use super::settings::{DEFAULT_FOLDER, Keep, Settings};

const MARK: &str = "velo-postgres";
const MARK_TEXT: &str = "Velo keeps a private Postgres server in this folder.\n";

/// What a removal that was cut short leaves, and the next start finishes.
const REMOVED: &str = "postgres.removed-";

/// What a creation that was cut short leaves, and the next start removes.
const UNFINISHED: &str = "data.new-";

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
        let root = folder::stand_in(&asked)?;
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
            _ => Path::new(folder::SHORT).canonicalize().map_err(|source| {
                PostgresError::files("look at", Path::new(folder::SHORT), source)
            })?,
        };
        let root = parent.join(format!("velo-temporary-{}", folder::short(Uuid::new_v4())));
        let made = folder::private(&root).and_then(|()| account.give(&root));
        made.map_err(|source| PostgresError::files("create the folder", &root, source))?;
        Ok(Self {
            is_temporary: true,
            ..Self::new(root, account)
        })
    }

    pub(super) const fn new(root: PathBuf, account: Account) -> Self {
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
        let name = format!("{UNFINISHED}{}", folder::short(Uuid::new_v4()));
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
        Path::new(folder::SHORT).join(format!("velo-{}", folder::hash(&self.root)))
    }

    /// Makes the server's folder, or finds it as we left it, and clears what was cut short. Needs the lock.
    pub(super) fn prepare(&self) -> Result<(), PostgresError> {
        folder::clear(&self.root, REMOVED);
        let home = self.home();
        let failed = |source| PostgresError::files("create the folder", &home, source);
        match folder::private(&home) {
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
        folder::clear(&home, UNFINISHED);
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
        folder::clear(&self.root, REMOVED);
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
            .join(format!("{REMOVED}{}", folder::short(Uuid::new_v4())));
        fs::rename(&home, &removed)
            .and_then(|()| fs::remove_dir_all(&removed))
            .map_err(|source| PostgresError::files("remove", &home, source))?;
        self.remove_socket()
    }
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
