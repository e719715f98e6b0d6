use super::{MAX_BRIEF, MAX_NAME, MAX_REQUEST_KEY};
use velo_engine::EngineError;

use crate::domain::{ProjectId, StoreError};

/// Why no project was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgencyError {
    /// The brief says nothing.
    #[error("could not make a project, because the brief is empty: say what is to be built")]
    BriefEmpty,
    /// The brief exceeds [`MAX_BRIEF`].
    #[error(
        "could not make a project, because the brief has {bytes} bytes and at most {MAX_BRIEF} are read: shorten it"
    )]
    BriefTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The brief contains a NUL character, which no text in the database may.
    #[error(
        "could not make a project, because the brief contains a NUL character at byte {at}: send it as plain text"
    )]
    BriefHasNul {
        /// Where the first one is.
        at: usize,
    },
    /// The name exceeds [`MAX_NAME`].
    #[error(
        "could not make a project, because its name has {characters} characters and at most {MAX_NAME} are allowed: shorten it, or leave it out to have one made of the brief"
    )]
    NameTooLong {
        /// Its length.
        characters: usize,
    },
    /// The name contains a line break or another control character.
    #[error(
        "could not make a project, because its name contains a control character: give it as one line of text"
    )]
    NameHasControl,
    /// The request key is empty or exceeds [`MAX_REQUEST_KEY`].
    #[error(
        "could not make a project, because its request key has {bytes} bytes and 1 to {MAX_REQUEST_KEY} are allowed: use a UUID"
    )]
    KeyLength {
        /// Its length.
        bytes: usize,
    },
    /// A project was made under this request key before, of another brief.
    #[error(
        "could not make a project, because this request key made project {project} of another brief: use a new key for a new project"
    )]
    KeyReused {
        /// That project.
        project: ProjectId,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The planning run could not be started.
    #[error("could not begin the planning of the project")]
    Start(#[from] EngineError),
}

impl AgencyError {
    /// Whether the same call may succeed later without being changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Start(error) => error.is_transient(),
            _ => false,
        }
    }
}
