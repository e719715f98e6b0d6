//! How a command ends: its exit code, and what it says when it failed.

use std::error::Error;
use std::process::ExitCode;

use crate::paint;

/// The exit codes that `velo --help` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Unforeseen,
    Unusable,
    Paused,
    Environment,
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Unforeseen => 1,
            Exit::Unusable => 2,
            Exit::Paused => 3,
            Exit::Environment => 4,
            Exit::Interrupted => 130,
        })
    }
}

/// A command that could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// What was being done, why it failed, what to do now.
    message: String,
}

impl Failure {
    /// Something nobody foresaw.
    pub(crate) fn new(doing: &str, error: impl Into<Box<dyn Error>>) -> Self {
        let error = error.into();
        Self {
            exit: Exit::Unforeseen,
            message: format!("{doing}: {}", chain(error.as_ref())),
        }
    }

    /// What was given cannot be used.
    pub(crate) fn unusable(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Unusable,
            message: message.into(),
        }
    }

    /// The database, the files or the configuration cannot be used.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Environment,
            message: message.into(),
        }
    }

    /// Whether it lies in the surroundings, and so may pass.
    pub(crate) fn may_pass(&self) -> bool {
        self.exit == Exit::Environment
    }

    /// Prints it, and says with what code to exit.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!(
            "{} {}",
            paint::err("error:", paint::Tone::Bad),
            self.message
        );
        self.exit.into()
    }
}

/// An error and its causes in one line, each said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = said(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = said(error);
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// What an error says by itself: of the database's the server's own words, without the place in the
/// server's source, and nothing that its cause says again.
fn said(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(error)) => error.message().to_owned(),
        Some(sqlx::Error::Io(error)) => error.to_string(),
        Some(sqlx::Error::Tls(error)) => error.to_string(),
        Some(sqlx::Error::PoolTimedOut) => "the database did not answer in time".to_owned(),
        Some(error) => error.to_string(),
        None => match error.downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            Some(error) => error.message().to_owned(),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_each_cause_once() {
        let inner = std::io::Error::other("no route");
        let outer = sqlx::Error::Io(inner);
        let told = chain(&outer);
        assert_eq!(told, "no route");
    }
}
