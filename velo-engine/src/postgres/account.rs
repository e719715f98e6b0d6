//! The account that runs the server when we are root, since Postgres refuses to run as root.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use rustix::process::geteuid;

use super::error::PostgresError;

const PASSWD: &str = "/etc/passwd";

/// In order of preference.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// Who runs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// The caller's own account.
    Own,
    /// An unprivileged one: the caller is root.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// The account for this process.
    pub(super) fn choose() -> Result<Self, PostgresError> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        let accounts = fs::read_to_string(PASSWD)
            .map_err(|source| PostgresError::files("read", Path::new(PASSWD), source))?;
        unprivileged(&accounts).ok_or(PostgresError::NoAccount)
    }

    /// The user id that the server's files must have.
    pub(super) fn uid(&self) -> u32 {
        match self {
            Self::Own => geteuid().as_raw(),
            Self::Other { uid, .. } => *uid,
        }
    }

    /// Gives `path` to the account; of a link, the link itself.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => lchown(path, Some(*uid), Some(*gid)),
        }
    }

    /// The first of `folder` and the folders above it that the account may not enter.
    pub(super) fn barred_from<'a>(&self, folder: &'a Path) -> io::Result<Option<&'a Path>> {
        let Self::Other { uid, gid, .. } = *self else {
            return Ok(None);
        };
        for above in folder.ancestors() {
            let meta = fs::metadata(above)?;
            if !may_enter(meta.mode(), (meta.uid(), meta.gid()), (uid, gid)) {
                return Ok(Some(above));
            }
        }
        Ok(None)
    }
}

/// Whether an account without further groups may enter a folder of that mode and owner.
const fn may_enter(mode: u32, owner: (u32, u32), who: (u32, u32)) -> bool {
    let bit = if who.0 == owner.0 {
        0o100
    } else if who.1 == owner.1 {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

fn unprivileged(accounts: &str) -> Option<Account> {
    NAMES.iter().find_map(|wanted| {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| name == wanted)?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let name = name.to_owned();
            Some(Account::Other { name, uid, gid })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_preferred_to_nobody() {
        let both = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:105:111::/:/bin/sh\n";
        let name = "postgres".to_owned();
        let postgres = Account::Other {
            name,
            uid: 105,
            gid: 111,
        };
        assert_eq!(unprivileged(both), Some(postgres));
        let name = "nobody".to_owned();
        let nobody = Account::Other {
            name,
            uid: 65534,
            gid: 65533,
        };
        assert_eq!(
            unprivileged(both.split("postgres:").next().unwrap()),
            Some(nobody)
        );
        assert_eq!(unprivileged("root:x:0:0::/root:/bin/sh\n"), None);
    }

    #[test]
    fn the_most_specific_class_decides_who_may_enter() {
        assert!(may_enter(0o755, (0, 0), (105, 111)));
        assert!(!may_enter(0o700, (0, 0), (105, 111)));
        assert!(may_enter(0o700, (105, 0), (105, 111)));
        assert!(may_enter(0o710, (0, 111), (105, 111)));
        assert!(!may_enter(0o601, (105, 0), (105, 111)));
        assert!(!may_enter(0o701, (0, 111), (105, 111)));
    }
}
