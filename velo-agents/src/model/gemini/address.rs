//! The URLs of the two endpoints.

use reqwest::Url;

use super::config::{API_KEY_BASE_URL, ConfigError, Endpoint, GeminiConfig};

/// Builds request URLs from checked parts, so that no configured value can leave its segment.
#[derive(Debug, Clone)]
pub(super) struct Address {
    base: String,
    /// Between the base and the model id.
    models: String,
    /// Whether the base is this machine, which no proxy may stand before.
    pub(super) is_loopback: bool,
}

impl Address {
    pub(super) fn of(config: &GeminiConfig) -> Result<Self, ConfigError> {
        let (default_base, models) = match &config.endpoint {
            Endpoint::ApiKey { .. } => (API_KEY_BASE_URL.to_owned(), "/v1beta/models/".to_owned()),
            Endpoint::Vertex {
                project, location, ..
            } => {
                check_segment("GOOGLE_CLOUD_PROJECT", project)?;
                check_segment("GOOGLE_CLOUD_LOCATION", location)?;
                (
                    vertex_host(location),
                    format!(
                        "/v1/projects/{project}/locations/{location}/publishers/google/models/"
                    ),
                )
            }
        };
        let base = config.base_url.clone().unwrap_or(default_base);
        let url = check_base(&base)?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            models,
            is_loopback: is_loopback(&url),
        })
    }

    /// The URL of `method` of `model`, such as `generateContent`.
    pub(super) fn url(&self, model: &str, method: &str) -> String {
        format!("{}{}{model}:{method}", self.base, self.models)
    }
}

fn vertex_host(location: &str) -> String {
    match location {
        "global" => "https://aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
        region => format!("https://{region}-aiplatform.googleapis.com"),
    }
}

/// Whether `text` can stand in a path as it is.
pub(super) fn check_segment(setting: &str, text: &str) -> Result<(), ConfigError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b);
    if text.is_empty() || text.starts_with('.') || !text.bytes().all(is_plain) {
        return Err(ConfigError::invalid(
            setting,
            format!("is {text:?}: use only letters, digits and -_.:@"),
        ));
    }
    Ok(())
}

pub(super) fn check_base(base: &str) -> Result<Url, ConfigError> {
    let refuse = |reason: &str| ConfigError::invalid("the base URL", reason);
    let url = Url::parse(base)
        .map_err(|error| refuse(&format!("cannot be read ({error}): write https://host")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refuse(
            "must begin with https:// or http:// and name a host",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("must not contain a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("must not contain a query or fragment"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        tracing::warn!(
            host = url.host_str(),
            "the model's base URL is not encrypted: credentials travel in the open"
        );
    }
    Ok(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::auth::StaticToken;
    use super::super::secret::Secret;
    use super::*;
    use std::sync::Arc;

    fn vertex(location: &str) -> Result<String, ConfigError> {
        let tokens = Arc::new(StaticToken::new(Secret::new("t")));
        let mut config = GeminiConfig::with_vertex("acme", tokens);
        if let Endpoint::Vertex {
            location: place, ..
        } = &mut config.endpoint
        {
            *place = location.to_owned();
        }
        Ok(Address::of(&config)?.url("m", "countTokens"))
    }

    #[test]
    fn each_kind_of_location_has_its_host() {
        let path = |location| {
            format!("/v1/projects/acme/locations/{location}/publishers/google/models/m:countTokens")
        };
        for (location, host) in [
            ("global", "https://aiplatform.googleapis.com"),
            (
                "us-central1",
                "https://us-central1-aiplatform.googleapis.com",
            ),
            ("eu", "https://aiplatform.eu.rep.googleapis.com"),
        ] {
            assert_eq!(
                vertex(location).unwrap(),
                format!("{host}{}", path(location))
            );
        }
    }

    #[test]
    fn a_base_url_replaces_the_host_only() {
        let mut config = GeminiConfig::with_api_key(Secret::new("k"));
        config.base_url = Some("http://localhost:8080/proxy/".to_owned());
        let address = Address::of(&config).unwrap();
        assert!(address.is_loopback);
        assert_eq!(
            address.url("gemini-x", "generateContent"),
            "http://localhost:8080/proxy/v1beta/models/gemini-x:generateContent"
        );
    }

    #[test]
    fn values_that_would_change_the_path_are_refused() {
        for location in ["", "../x", "a/b", "a?b", "a#b", "a b"] {
            assert!(vertex(location).is_err(), "{location}");
        }
        for base in [
            "ftp://x",
            "nonsense",
            "https://u:p@host",
            "https://host?key=1",
        ] {
            let error = check_base(base).unwrap_err().to_string();
            assert!(
                !error.contains("u:p") && !error.contains("key=1"),
                "{error}"
            );
        }
    }
}
