//! Briefs whose documents the person has not got yet.
//!
//! A note is written before the project is made, and removed when its documents are delivered. The same
//! command after a crash finds it and goes on with the same project, also when all that was left to do
//! was to deliver.

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

    /// Notes that a project is about to be made; returns the key for its request.
    pub(super) fn begin(&self) -> Result<String, Failure> {
        let key = Uuid::new_v4().to_string();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&self.path, &key))
            .map_err(|error| {
                Failure::environment(format!("could not write {}: {error}", self.path.display()))
            })?;
        Ok(key)
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
        let key = pending.begin().unwrap();
        assert_eq!(Pending::of(folder.path(), "a shop").key(), Some(key));
        assert_eq!(Pending::of(folder.path(), "another shop").key(), None);
        std::fs::write(&pending.path, "half a ke").unwrap();
        assert_eq!(pending.key(), None);
        pending.done();
        assert_eq!(pending.key(), None);
    }
}
