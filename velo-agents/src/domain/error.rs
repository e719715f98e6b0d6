//! Why a read or write of the domain did not happen.

/// A statement of the domain that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}")]
pub struct StoreError {
    doing: &'static str,
    #[source]
    source: sqlx::Error,
}

impl StoreError {
    /// Says what was being done, in the form that follows "could not": `"list the projects"`.
    #[must_use]
    pub const fn new(doing: &'static str, source: sqlx::Error) -> Self {
        Self { doing, source }
    }

    /// The same, as a function for `map_err`.
    pub(crate) fn while_doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self { doing, source }
    }

    /// Whether the same call may succeed later: the connection, the pool or the server gave way,
    /// or two transactions met. Wrong data, such as a project of another tenant, stays wrong.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        // A pool is closed when its process ends: another one will answer.
        matches!(self.source, sqlx::Error::PoolClosed) || velo_engine::is_transient(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_lost_connection_may_be_tried_again_and_wrong_data_may_not() {
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(StoreError::new("x", sqlx::Error::Io(lost)).is_transient());
        assert!(StoreError::new("x", sqlx::Error::PoolTimedOut).is_transient());
        assert!(!StoreError::new("x", sqlx::Error::RowNotFound).is_transient());
    }

    #[test]
    fn the_message_says_what_was_being_done_and_keeps_the_cause() {
        let error = StoreError::new("list the projects", sqlx::Error::PoolTimedOut);
        assert_eq!(error.to_string(), "could not list the projects");
        assert!(error.source().is_some());
    }
}
