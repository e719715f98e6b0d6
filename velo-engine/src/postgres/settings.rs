//! What a caller chooses about the private server.

use std::path::{Path, PathBuf};

/// The folder of [`Settings::default`], in the current folder.
pub const DEFAULT_FOLDER: &str = ".velo";

/// Where a private server keeps its data, and whether it is thrown away afterwards.
///
/// ```
/// use velo_engine::postgres::Settings;
///
/// let kept = Settings::in_folder("/srv/acme/.velo");
/// let thrown_away = Settings::temporary();
/// assert_eq!(Settings::default(), Settings::in_folder(".velo"));
/// # let _ = (kept, thrown_away);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) keep: Keep,
    pub(super) binaries: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keep {
    In(PathBuf),
    Temporarily,
}

impl Settings {
    /// A server that keeps its data in the folder `postgres` of `folder`, with `fsync` on.
    #[must_use]
    pub fn in_folder(folder: impl AsRef<Path>) -> Self {
        Self {
            keep: Keep::In(folder.as_ref().to_owned()),
            binaries: None,
        }
    }

    /// A server of the caller's own in a temporary folder, with `fsync` off.
    ///
    /// It is stopped and removed when the handle is dropped or the process ends, however it ends.
    #[must_use]
    pub const fn temporary() -> Self {
        Self {
            keep: Keep::Temporarily,
            binaries: None,
        }
    }

    /// Takes `initdb` and `postgres` from `folder` and from nowhere else, as `VELO_PG_BIN` does.
    #[must_use]
    pub fn binaries(mut self, folder: impl AsRef<Path>) -> Self {
        self.binaries = Some(folder.as_ref().to_owned());
        self
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.keep == Keep::Temporarily
    }
}

impl Default for Settings {
    /// A server that keeps its data below [`DEFAULT_FOLDER`].
    fn default() -> Self {
        Self::in_folder(DEFAULT_FOLDER)
    }
}
