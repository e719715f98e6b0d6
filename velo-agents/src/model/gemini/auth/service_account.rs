//! A service account's key file: a signed statement, exchanged for a token.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::token_endpoint;
use super::{AccessToken, SCOPE, Secret, TokenSource};
use crate::model::gemini::config::ConfigError;
use crate::model::{ModelError, ModelErrorKind};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Seconds that this clock may be ahead of the server's.
const CLOCK_SKEW_SECONDS: u64 = 10;
/// Life of the statement; the most that is accepted.
const STATEMENT_SECONDS: u64 = 3600;

/// Tokens for the owner of a key file.
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    token_uri: String,
    key: EncodingKey,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: Secret,
    private_key_id: Option<String>,
    #[serde(default = "default_token_uri")]
    token_uri: String,
}

fn default_token_uri() -> String {
    super::authorized_user::TOKEN_URL.to_owned()
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl ServiceAccount {
    /// Reads the JSON text of a key file.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not the key file of a service account.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        // The text of a JSON error may quote the key: only its place is told.
        let file: KeyFile = serde_json::from_str(text).map_err(|error| {
            ConfigError::invalid(
                "the service account key",
                format!(
                    "cannot be read at {}:{}: download it again",
                    error.line(),
                    error.column()
                ),
            )
        })?;
        let key =
            EncodingKey::from_rsa_pem(file.private_key.expose().as_bytes()).map_err(|_| {
                ConfigError::invalid(
                    "the service account key",
                    "has no RSA private key in PEM form: download it again",
                )
            })?;
        let http = token_endpoint::client("token_uri of the service account key", &file.token_uri)?;
        Ok(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            token_uri: file.token_uri,
            key,
            http,
        })
    }

    fn statement(&self) -> Result<String, ModelError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let issued = now.saturating_sub(CLOCK_SKEW_SECONDS);
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.token_uri,
            iat: issued,
            exp: issued + STATEMENT_SECONDS,
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid.clone_from(&self.key_id);
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|error| {
            ModelError::new(
                ModelErrorKind::Auth,
                "could not sign with the service account's key: download the key file again",
            )
            .with_source(error)
        })
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount")
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenSource for ServiceAccount {
    async fn fetch(&self) -> Result<AccessToken, ModelError> {
        let statement = self.statement()?;
        let form = [
            ("grant_type", GRANT_TYPE),
            ("assertion", statement.as_str()),
        ];
        let request = self.http.post(&self.token_uri).form(&form);
        let mend = "check that the key is not deleted and that this machine's clock is right";
        token_endpoint::exchange(request, "the service account", mend, |_| Ok(())).await
    }
}
