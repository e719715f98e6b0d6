//! Why a schedule did not do what it was asked for.

use crate::codec::SealError;
use crate::engine::EngineError;
use crate::store;

/// Why a schedule did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The database refused or was away.
    #[error("could not {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// There is none of this name.
    #[error("there is no schedule `{0}`")]
    NoSchedule(String),
    /// There is one of this name already.
    #[error("there is a schedule `{0}` already: replace it, or take another name")]
    Exists(String),
    /// The name cannot be used.
    #[error(
        "`{0}` cannot be the name of a schedule: take 1 to 200 characters, and none that cannot be seen"
    )]
    Name(String),
    /// The state has no JSON form that can be read back.
    #[error("could not store what the runs of schedule `{name}` begin with")]
    State {
        /// The schedule.
        name: String,
        /// The cause.
        #[source]
        source: Box<EngineError>,
    },
    /// What is stored cannot be read.
    #[error(
        "could not read when schedule `{name}` fires: was it written by a newer version? replace it"
    )]
    Unreadable {
        /// The schedule.
        name: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// What its runs begin with cannot be sealed or opened; see [`codec`](crate::codec).
    #[error("could not seal or open what the runs of schedule `{name}` begin with")]
    Sealed {
        /// The schedule.
        name: String,
        /// The cause.
        #[source]
        source: SealError,
    },
    /// More times than one call fills in.
    #[error("more than {most} times of schedule `{name}` lie in that window: fill it in by parts")]
    TooMany {
        /// The schedule.
        name: String,
        /// The limit.
        most: usize,
    },
}

impl ScheduleError {
    pub(crate) fn on(doing: &'static str) -> impl Fn(sqlx::Error) -> Self + Copy {
        move |source| Self::Database { doing, source }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database { source, .. } if store::is_transient(source))
    }
}
