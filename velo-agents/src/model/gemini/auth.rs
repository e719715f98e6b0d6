//! Access tokens for Vertex AI.
//!
//! Four sources: a service-account key, a user's refresh token, the metadata server of the
//! machine, and a fixed token. [`Adc`] picks one as Google's own tools do.

mod adc;
mod authorized_user;
mod cache;
mod metadata;
mod service_account;
mod token_endpoint;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use adc::Adc;
pub use authorized_user::AuthorizedUser;
pub use cache::TokenCache;
pub use metadata::MetadataServer;
pub use service_account::ServiceAccount;

use super::secret::Secret;
use crate::model::ModelError;

/// The scope that tokens are asked for.
pub const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Somewhere that access tokens come from. Every call fetches a new one; [`TokenCache`] keeps it.
#[async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// Fetches a token.
    ///
    /// # Errors
    /// [`ModelErrorKind::Auth`](crate::model::ModelErrorKind::Auth) when the credentials are
    /// refused, `Unavailable` when there was no answer.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the request; nothing else is lost.
    async fn fetch(&self) -> Result<AccessToken, ModelError>;
}

/// A token and how long it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Sent as `Authorization: Bearer …`.
    pub value: Secret,
    /// From now; `None` when it does not end or nobody knows.
    pub lifetime: Option<Duration>,
}

/// A token that somebody else keeps fresh.
#[derive(Debug, Clone)]
pub struct StaticToken(Secret);

impl StaticToken {
    /// Always `token`.
    #[must_use]
    pub fn new(token: Secret) -> Self {
        Self(token)
    }
}

#[async_trait]
impl TokenSource for StaticToken {
    async fn fetch(&self) -> Result<AccessToken, ModelError> {
        Ok(AccessToken {
            value: self.0.clone(),
            lifetime: None,
        })
    }
}
