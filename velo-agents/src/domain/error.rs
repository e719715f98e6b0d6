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
        match &self.source {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient(&code)),
            _ => false,
        }
    }
}

/// Connection failure (08), rollback by the server (40), no resources (53), operator's
/// intervention (57), trouble outside the server (58).
fn is_transient(sqlstate: &str) -> bool {
    ["08", "40", "53", "57", "58"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
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
        assert!(is_transient("40001") && is_transient("57P01"));
        assert!(!is_transient("23503"));
    }

    #[test]
    fn the_message_says_what_was_being_done_and_keeps_the_cause() {
        let error = StoreError::new("list the projects", sqlx::Error::PoolTimedOut);
        assert_eq!(error.to_string(), "could not list the projects");
        assert!(error.source().is_some());
    }
}
