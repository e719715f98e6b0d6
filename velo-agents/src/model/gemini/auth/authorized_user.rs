//! A user's own login: a refresh token, exchanged for an access token.

use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;

use super::token_endpoint;
use super::{AccessToken, Secret, TokenSource};
use crate::model::ModelError;
use crate::model::gemini::config::ConfigError;

/// Google's token endpoint.
pub(super) const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// Tokens for a user who has logged in with `gcloud auth application-default login`.
pub struct AuthorizedUser {
    login: Login,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Login {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    #[serde(default = "default_token_url")]
    token_uri: String,
}

fn default_token_url() -> String {
    TOKEN_URL.to_owned()
}

impl AuthorizedUser {
    /// Reads the JSON text of a credentials file. Its field `token_uri` names another token
    /// endpoint than Google's.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not a user's login.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let login: Login = serde_json::from_str(text).map_err(|error| {
            ConfigError::invalid(
                "the user credentials",
                format!(
                    "cannot be read at {}:{}: run `gcloud auth application-default login`",
                    error.line(),
                    error.column()
                ),
            )
        })?;
        let http = token_endpoint::client("token_uri of the user credentials", &login.token_uri)?;
        Ok(Self { login, http })
    }
}

impl fmt::Debug for AuthorizedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizedUser").finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenSource for AuthorizedUser {
    async fn fetch(&self) -> Result<AccessToken, ModelError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.login.client_id),
            ("client_secret", self.login.client_secret.expose()),
            ("refresh_token", self.login.refresh_token.expose()),
        ];
        let request = self.http.post(&self.login.token_uri).form(&form);
        let mend = "run `gcloud auth application-default login` again";
        token_endpoint::exchange(request, "the user's login", mend, |_| Ok(())).await
    }
}
