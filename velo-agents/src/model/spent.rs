//! What a call that failed has consumed nevertheless.
//!
//! A blocked prompt, a stream cut half-way and a reply that was not what was asked for are
//! charged by the provider. A budget that forgets them leaks, so the numbers travel in the error.

use std::error::Error;

use super::{ModelError, ModelErrorKind, Usage};

/// The source of an error whose call was charged: the numbers, and the cause below them.
#[derive(Debug, thiserror::Error)]
#[error("the failed call consumed {} tokens in {} requests", .usage.total_tokens(), .usage.requests)]
struct Spent {
    usage: Usage,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ModelError {
    /// An error of this kind with this message and no cause.
    ///
    /// ```
    /// use velo_agents::model::{ModelError, ModelErrorKind};
    ///
    /// let error = ModelError::new(ModelErrorKind::Blocked, "the prompt was blocked (SAFETY)");
    /// assert!(!error.kind.is_transient());
    /// assert_eq!(error.usage().requests, 0);
    /// ```
    #[must_use]
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, remembering that `usage` more was consumed. Added to what is known already.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        let spent = match self.source.take().map(|source| source.downcast::<Spent>()) {
            Some(Ok(mut known)) => {
                known.usage += usage;
                *known
            }
            Some(Err(source)) => Spent {
                usage,
                source: Some(source),
            },
            None => Spent {
                usage,
                source: None,
            },
        };
        self.source = Some(Box::new(spent));
        self
    }

    /// What the failed call consumed, as far as the provider said; all zero when nothing is known.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.source
            .as_ref()
            .and_then(|source| source.downcast_ref::<Spent>())
            .map(|spent| spent.usage)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input_tokens: u64) -> Usage {
        Usage {
            input_tokens,
            requests: 1,
            ..Usage::default()
        }
    }

    #[test]
    fn usage_adds_up_and_keeps_the_cause() {
        let error = ModelError::new(ModelErrorKind::InvalidOutput, "not a plan")
            .with_source("the cause")
            .with_usage(tokens(3))
            .with_usage(tokens(4));
        assert_eq!(
            error.usage(),
            Usage {
                requests: 2,
                ..tokens(7)
            }
        );
        let spent = error.source().expect("a source");
        assert_eq!(spent.source().expect("a cause").to_string(), "the cause");
    }
}
