//! Briefs whose documents the person has not got yet.
//!
//! A note is written before the project is made, and removed when its documents are delivered. The same
//! command after a crash finds it and goes on with the same project, also when all that was left to do
//! was to deliver.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use velo_agents::blob::sha256_hex;

use crate::exit::Failure;

/// The note about one brief.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    path: PathBuf,
}

impl Pending {
    pub(super) fn of(data: &Path, brief: &str) -> Self {
        let name = sha256_hex(brief.as_bytes());
        Self {
            path: data.join("pending").join(name),
        }
    }

    /// The key of the request that made the project, if the documents were not delivered.
    pub(super) fn key(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let key: Uuid = text.trim().parse().ok()?;
        Some(key.to_string())
    }

    /// Notes that a project is about to be made; returns the key for its request. When two processes
    /// do so at once for one brief, both get the key of the first, and so the same project; `afresh`
    /// makes a key of its own.
    pub(super) fn begin(&self, afresh: bool) -> Result<String, Failure> {
        let key = Uuid::new_v4().to_string();
        let noted = self.note(&key, afresh).map_err(|error| {
            Failure::environment(format!(
                "could not write {}: {error}; make that folder writable, or choose another with --data",
                self.path.display()
            ))
        })?;
        Ok(if noted {
            key
        } else {
            self.key().unwrap_or(key)
        })
    }

    /// Writes the note as a whole or not at all; `false` when a whole one was there.
    fn note(&self, key: &str, afresh: bool) -> io::Result<bool> {
        std::fs::create_dir_all(self.path.parent().unwrap_or_else(|| Path::new(".")))?;
        let beside = self.path.with_extension(key);
        let written = std::fs::File::create(&beside).and_then(|mut file| {
            file.write_all(key.as_bytes())?;
            file.sync_all()
        });
        let noted = written.and_then(|()| {
            // A link, other than a renamed file, takes nobody's place.
            let linked = if afresh {
                Err(io::Error::from(io::ErrorKind::Unsupported))
            } else {
                std::fs::hard_link(&beside, &self.path)
            };
            match linked {
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && self.key().is_some() =>
                {
                    Ok(false)
                }
                Err(_) => std::fs::rename(&beside, &self.path).map(|()| true),
                Ok(()) => Ok(true),
            }
        });
        // Gone already if it was renamed.
        let _ = std::fs::remove_file(&beside);
        noted
    }

    /// The documents are delivered.
    pub(super) fn done(&self) {
        // What is left of it would deliver the same documents once more, and do no other harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_until_it_is_done_and_a_broken_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::of(folder.path(), "a shop");
        assert_eq!(pending.key(), None);
        let key = pending.begin(false).unwrap();
        assert_eq!(Pending::of(folder.path(), "a shop").key(), Some(key));
        assert_eq!(Pending::of(folder.path(), "another shop").key(), None);
        std::fs::write(&pending.path, "half a ke").unwrap();
        assert_eq!(pending.key(), None);
        let mended = pending.begin(false).unwrap();
        assert_eq!(pending.key(), Some(mended));
        pending.done();
        assert_eq!(pending.key(), None);
    }

    #[test]
    fn of_two_who_begin_at_once_both_get_the_key_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Pending::of(folder.path(), "a shop").begin(false).unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let both: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
            both.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let pending = Pending::of(folder.path(), "a shop");
        let afresh = pending.begin(true).unwrap();
        assert_ne!(afresh, keys[0]);
        assert_eq!(pending.key(), Some(afresh));
        let notes = std::fs::read_dir(folder.path().join("pending")).unwrap();
        assert_eq!(notes.count(), 1, "nothing is left beside the note");
    }
}
