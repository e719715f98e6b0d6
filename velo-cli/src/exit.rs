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
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_each_cause_once() {
        let inner = std::io::Error::other("no route");
        let outer = sqlx::Error::Io(inner);
        let told = chain(&outer);
        assert_eq!(told.matches("no route").count(), 1, "{told}");
    }
}
