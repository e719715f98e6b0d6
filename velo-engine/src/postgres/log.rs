//! What the server writes to its log.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::error::PostgresError;
use super::place::Place;

/// A log longer than this is put aside at the next start, in place of the one put aside before.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// Most bytes of a log that are read to find out why a server ended.
const LOG_READ_LIMIT: u64 = 64 * 1024;

/// Root must not write where a link in a folder of the server's account leads.
const NO_LINKS: i32 = OFlags::NOFOLLOW.bits().cast_signed();

impl Place {
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
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::postgres::account::Account;

    fn prepared(root: &tempfile::TempDir) -> Place {
        let place = Place::new(root.path().to_owned(), Account::Own);
        place.prepare().unwrap();
        place
    }

    #[test]
    fn a_log_beyond_its_limit_is_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let place = prepared(&root);
        place.open_log().unwrap().set_len(LOG_LIMIT).unwrap();
        place.open_log().unwrap();
        assert_eq!(place.log_length(), LOG_LIMIT);
        place.open_log().unwrap().set_len(LOG_LIMIT + 1).unwrap();
        place.open_log().unwrap();
        assert_eq!(place.log_length(), 0);
        let aside = place.log().with_extension("log.1");
        assert_eq!(fs::metadata(aside).unwrap().len(), LOG_LIMIT + 1);
    }

    #[test]
    fn what_was_logged_is_read_from_a_place_on_and_never_too_much() {
        let root = tempfile::tempdir().unwrap();
        let place = prepared(&root);
        let mut log = place.open_log().unwrap();
        log.write_all(b"old\n").unwrap();
        let logged = place.log_length();
        log.write_all(b"new\n").unwrap();
        assert_eq!(place.log_since(logged), "new\n");
        log.write_all(&vec![b'x'; LOG_READ_LIMIT as usize]).unwrap();
        assert_eq!(place.log_since(0), "x".repeat(LOG_READ_LIMIT as usize));
    }

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let place = prepared(&root);
        let target = root.path().join("target");
        symlink(&target, place.log()).unwrap();
        place.open_log().unwrap_err();
        assert!(!target.exists());
    }
}
