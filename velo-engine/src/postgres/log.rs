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
