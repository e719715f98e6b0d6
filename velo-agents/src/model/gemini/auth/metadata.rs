//! The metadata server of a machine at Google: tokens for the account that the machine runs as.

use async_trait::async_trait;
use reqwest::header::HeaderMap;

use super::token_endpoint;
use super::{AccessToken, SCOPE, TokenSource};
use crate::model::gemini::config::ConfigError;
use crate::model::{ModelError, ModelErrorKind};

const HOST: &str = "metadata.google.internal";
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// Asked for in the request and looked for in the reply, so that no other server is believed.
const FLAVOR_HEADER: &str = "metadata-flavor";
const FLAVOR: &str = "Google";

/// Tokens from the machine itself.
#[derive(Debug)]
pub struct MetadataServer {
    url: String,
    http: reqwest::Client,
}

impl MetadataServer {
    /// The server at `host` (`name` or `name:port`), as `GCE_METADATA_HOST` names it; `None` for
    /// the usual one.
    ///
    /// # Errors
    /// [`ConfigError`] when `host` is not one.
    pub fn new(host: Option<&str>) -> Result<Self, ConfigError> {
        let host = host.unwrap_or(HOST);
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(ConfigError::invalid(
                "GCE_METADATA_HOST",
                "must be a host name, with or without a port",
            ));
        }
        let url = format!("http://{host}{TOKEN_PATH}?scopes={SCOPE}");
        // Built for a loopback address, because this server is never behind a proxy.
        let http = token_endpoint::client("GCE_METADATA_HOST", "http://127.0.0.1")?;
        Ok(Self { url, http })
    }
}

#[async_trait]
impl TokenSource for MetadataServer {
    async fn fetch(&self) -> Result<AccessToken, ModelError> {
        let request = self.http.get(&self.url).header(FLAVOR_HEADER, FLAVOR);
        let mend = "set GOOGLE_APPLICATION_CREDENTIALS, or give this machine a service account";
        token_endpoint::exchange(request, "the metadata server", mend, check_flavor).await
    }
}

fn check_flavor(headers: &HeaderMap) -> Result<(), ModelError> {
    let is_google = headers
        .get(FLAVOR_HEADER)
        .is_some_and(|value| value.as_bytes() == FLAVOR.as_bytes());
    if is_google {
        return Ok(());
    }
    Err(ModelError::new(
        ModelErrorKind::Auth,
        "could not get an access token: what answers as metadata server is not one, check GCE_METADATA_HOST",
    ))
}
