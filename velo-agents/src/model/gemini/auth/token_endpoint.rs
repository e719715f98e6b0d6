//! The exchange of a credential for a token, common to all sources.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::{AccessToken, Secret};
use crate::model::gemini::address;
use crate::model::gemini::config::ConfigError;
use crate::model::{ModelError, ModelErrorKind};

/// Time for one exchange, connecting included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest reply, in bytes.
const MAX_REPLY_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    expires_in: Option<u64>,
}

/// An HTTP client for `url`, which is checked.
pub(super) fn client(setting: &str, url: &str) -> Result<reqwest::Client, ConfigError> {
    let parsed = reqwest::Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| ConfigError::invalid(setting, "is not an http or https URL"))?;
    let mut http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(EXCHANGE_TIMEOUT);
    if address::is_loopback(&parsed) {
        http = http.no_proxy();
    }
    http.build().map_err(|source| ConfigError::Http { source })
}

/// Sends `request` and reads the token. `who` names the source and `mend` says what to do when
/// it is refused. `check` looks at the headers first.
pub(super) async fn exchange(
    request: RequestBuilder,
    who: &str,
    mend: &str,
    check: impl Fn(&reqwest::header::HeaderMap) -> Result<(), ModelError>,
) -> Result<AccessToken, ModelError> {
    let lost = |error: reqwest::Error| {
        ModelError::new(
            ModelErrorKind::Unavailable,
            format!("could not get an access token from {who}: the server did not answer, check the network"),
        )
        .with_source(error.without_url())
    };
    let mut response = request.send().await.map_err(lost)?;
    check(response.headers())?;
    let status = response.status();
    let mut body = Vec::new();
    while body.len() <= MAX_REPLY_BYTES
        && let Some(bytes) = response.chunk().await.map_err(lost)?
    {
        body.extend_from_slice(&bytes);
    }
    if !status.is_success() {
        let kind = match status.as_u16() {
            408 | 429 | 500..=599 => ModelErrorKind::Unavailable,
            _ => ModelErrorKind::Auth,
        };
        let reason = oauth_error(&body);
        let status = status.as_u16();
        let message =
            format!("could not get an access token from {who} ({status}{reason}): {mend}");
        return Err(ModelError::new(kind, message));
    }
    // The text of a JSON error may quote the token: only its place is told.
    let granted: Granted = serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ModelError::new(
            ModelErrorKind::Unavailable,
            format!("could not read the access token from {who}: the reply has an unknown form at {line}:{column}"),
        )
    })?;
    Ok(AccessToken {
        value: granted.access_token,
        lifetime: granted.expires_in.map(Duration::from_secs),
    })
}

/// The error code of an OAuth reply, such as `, invalid_grant`; codes are never secret.
fn oauth_error(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let is_code =
        |code: &&str| code.len() <= 60 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    body["error"]
        .as_str()
        .filter(is_code)
        .map(|code| format!(", {code}"))
        .unwrap_or_default()
}
