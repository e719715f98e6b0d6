//! Where the models are, who asks, and how patiently.

use std::sync::Arc;
use std::time::Duration;

use super::auth::{Adc, TokenSource};
use super::retry::RetryPolicy;
use super::secret::Secret;
use crate::model::{Tier, price};

/// The API-key endpoint.
pub const API_KEY_BASE_URL: &str = "https://generativelanguage.googleapis.com";
/// The Vertex AI location when none is configured; the newest models are served only there and
/// in the multi-regions `us` and `eu`.
pub const DEFAULT_LOCATION: &str = "global";
/// Most HTTP requests for one call that `VELO_MODEL_ATTEMPTS` may allow.
pub const MAX_ATTEMPTS: u32 = 20;

/// Configuration of a [`Gemini`](super::Gemini) client: plain data, to be adjusted freely.
///
/// ```
/// use velo_agents::model::gemini::{GeminiConfig, Secret};
///
/// let mut config = GeminiConfig::with_api_key(Secret::new("a key"));
/// config.base_url = Some("http://127.0.0.1:9090".to_owned());
/// config.models.pro = "gemini-4-argon".to_owned();
/// ```
#[derive(Debug, Clone)]
pub struct GeminiConfig {
    /// Which of the two endpoints, and the credentials for it.
    pub endpoint: Endpoint,
    /// Scheme, host and port (and a path prefix, if any) in place of Google's; for emulators and proxies.
    pub base_url: Option<String>,
    /// Model id of each tier.
    pub models: TierModels,
    /// Whether replies are streamed; otherwise they arrive in one piece.
    pub streaming: bool,
    /// Longest wait for a TCP and TLS connection.
    pub connect_timeout: Duration,
    /// Longest duration of one HTTP request, from sending it to the last byte of its reply.
    pub request_timeout: Duration,
    /// Longest silence between two pieces of a streamed reply, once the first has arrived.
    pub idle_timeout: Duration,
    /// How often and how patiently a failed request is made again.
    pub retry: RetryPolicy,
}

/// One of the two ways to reach the models.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Endpoint {
    /// The Gemini API, by key.
    ApiKey {
        /// Sent as `x-goog-api-key`.
        key: Secret,
    },
    /// Vertex AI, by access token.
    Vertex {
        /// Google Cloud project id.
        project: String,
        /// `global`, a multi-region (`us`, `eu`) or a region.
        location: String,
        /// Where access tokens come from.
        tokens: Arc<dyn TokenSource>,
    },
}

/// Model id of each [`Tier`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierModels {
    /// For [`Tier::Pro`].
    pub pro: String,
    /// For [`Tier::Flash`].
    pub flash: String,
}

impl TierModels {
    /// The model id of `tier`.
    #[must_use]
    pub fn of(&self, tier: Tier) -> &str {
        match tier {
            Tier::Pro => &self.pro,
            Tier::Flash => &self.flash,
        }
    }
}

impl Default for TierModels {
    fn default() -> Self {
        Self {
            pro: price::default_model(Tier::Pro).to_owned(),
            flash: price::default_model(Tier::Flash).to_owned(),
        }
    }
}

/// Why there is no client: a person must mend the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable or setting has a value that cannot be used.
    #[error("could not configure the model client: {setting} {reason}")]
    Invalid {
        /// The environment variable, file or field.
        setting: String,
        /// What is wrong and what to write instead; never the value of a secret.
        reason: String,
    },
    /// A credentials file could not be read.
    #[error("could not read the credentials file {path}: check GOOGLE_APPLICATION_CREDENTIALS")]
    Credentials {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client could not be built.
    #[error("could not start the HTTP client of the model: check the system's TLS certificates")]
    Http {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

impl ConfigError {
    pub(super) fn invalid(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            setting: setting.into(),
            reason: reason.into(),
        }
    }
}

impl GeminiConfig {
    /// The API-key endpoint with default models and patience.
    #[must_use]
    pub fn with_api_key(key: Secret) -> Self {
        Self::new(Endpoint::ApiKey { key })
    }

    /// Vertex AI in the location [`DEFAULT_LOCATION`], with default models and patience.
    #[must_use]
    pub fn with_vertex(project: impl Into<String>, tokens: Arc<dyn TokenSource>) -> Self {
        Self::new(Endpoint::Vertex {
            project: project.into(),
            location: DEFAULT_LOCATION.to_owned(),
            tokens,
        })
    }

    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            base_url: None,
            models: TierModels::default(),
            streaming: true,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(180),
            idle_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
        }
    }

    /// What the environment says, or `None` when it configures no model.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `GEMINI_API_KEY`, else `GOOGLE_API_KEY` | key for the API-key endpoint |
    /// | `GEMINI_BASE_URL`, else `GOOGLE_GEMINI_BASE_URL` | base URL in place of [`API_KEY_BASE_URL`] |
    /// | `GOOGLE_GENAI_USE_VERTEXAI` | `true` or `1`: Vertex AI instead, with application default credentials |
    /// | `GOOGLE_CLOUD_PROJECT`, `GOOGLE_CLOUD_LOCATION` | Vertex AI project and location |
    /// | `GOOGLE_VERTEX_BASE_URL` | base URL in place of the location's host |
    /// | `VELO_MODEL_PRO`, `VELO_MODEL_FLASH` | model id of each tier |
    /// | `VELO_MODEL_ATTEMPTS` | [`RetryPolicy::max_attempts`], 1 to [`MAX_ATTEMPTS`] |
    ///
    /// Variables that are empty count as unset.
    ///
    /// # Errors
    /// [`ConfigError`] when what is set cannot be used.
    pub fn from_env() -> Result<Option<Self>, ConfigError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with the variables looked up by `vars`.
    ///
    /// ```
    /// use velo_agents::model::gemini::GeminiConfig;
    ///
    /// let vars = |name: &str| (name == "GEMINI_API_KEY").then(|| "a key".to_owned());
    /// assert!(GeminiConfig::from_vars(vars)?.is_some());
    /// assert!(GeminiConfig::from_vars(|_| None)?.is_none());
    /// # Ok::<(), velo_agents::model::gemini::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] when what is set cannot be used.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let var = |name: &str| {
            vars(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let mut config = if is_true(var("GOOGLE_GENAI_USE_VERTEXAI"))? {
            vertex_from(&var)?
        } else if let Some(key) = var("GEMINI_API_KEY").or_else(|| var("GOOGLE_API_KEY")) {
            let mut config = Self::with_api_key(Secret::new(key));
            config.base_url = var("GEMINI_BASE_URL").or_else(|| var("GOOGLE_GEMINI_BASE_URL"));
            config
        } else {
            return Ok(None);
        };
        if let Some(model) = var("VELO_MODEL_PRO") {
            config.models.pro = model;
        }
        if let Some(model) = var("VELO_MODEL_FLASH") {
            config.models.flash = model;
        }
        if let Some(attempts) = var("VELO_MODEL_ATTEMPTS") {
            config.retry.max_attempts = attempts_from(&attempts)?;
        }
        Ok(Some(config))
    }
}

fn vertex_from(var: &impl Fn(&str) -> Option<String>) -> Result<GeminiConfig, ConfigError> {
    let credentials = Adc::find(var)?;
    let project = var("GOOGLE_CLOUD_PROJECT")
        .or(credentials.project)
        .ok_or_else(|| {
            ConfigError::invalid(
                "GOOGLE_CLOUD_PROJECT",
                "is not set: name the Google Cloud project that Vertex AI is used in",
            )
        })?;
    let location = var("GOOGLE_CLOUD_LOCATION").unwrap_or_else(|| DEFAULT_LOCATION.to_owned());
    let mut config = GeminiConfig::new(Endpoint::Vertex {
        project,
        location,
        tokens: credentials.tokens,
    });
    config.base_url = var("GOOGLE_VERTEX_BASE_URL");
    Ok(config)
}

fn attempts_from(value: &str) -> Result<u32, ConfigError> {
    value
        .parse()
        .ok()
        .filter(|attempts| (1..=MAX_ATTEMPTS).contains(attempts))
        .ok_or_else(|| {
            let reason = format!("must be a number from 1 to {MAX_ATTEMPTS}");
            ConfigError::invalid("VELO_MODEL_ATTEMPTS", reason)
        })
}

fn is_true(value: Option<String>) -> Result<bool, ConfigError> {
    match value.map(|value| value.to_ascii_lowercase()).as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(ConfigError::invalid(
            "GOOGLE_GENAI_USE_VERTEXAI",
            "must be true or false",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Option<GeminiConfig>, ConfigError> {
        GeminiConfig::from_vars(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_configured_is_no_client() {
        assert!(config(&[]).unwrap().is_none());
        assert!(config(&[("GEMINI_API_KEY", "  ")]).unwrap().is_none());
        assert!(config(&[("GOOGLE_CLOUD_PROJECT", "p")]).unwrap().is_none());
    }

    #[test]
    fn the_own_variable_wins_over_the_shared_one() {
        let found = config(&[
            ("GOOGLE_API_KEY", "shared"),
            ("GEMINI_API_KEY", "own\n"),
            ("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1"),
            ("VELO_MODEL_FLASH", "gemini-9-flash"),
        ])
        .unwrap()
        .expect("a key is set");
        let Endpoint::ApiKey { key } = &found.endpoint else {
            panic!("not the API-key endpoint: {found:?}");
        };
        assert_eq!(key.expose(), "own");
        assert_eq!(found.base_url.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(found.models.of(Tier::Flash), "gemini-9-flash");
        assert_eq!(found.models.of(Tier::Pro), price::default_model(Tier::Pro));
    }

    #[test]
    fn the_key_is_not_in_debug_output() {
        let found = config(&[("GEMINI_API_KEY", "AIza-secret")]).unwrap();
        assert!(!format!("{found:?}").contains("AIza-secret"));
    }

    #[test]
    fn vertex_needs_a_project_and_defaults_to_global() {
        let error = config(&[("GOOGLE_GENAI_USE_VERTEXAI", "true")]).unwrap_err();
        assert!(
            error.to_string().contains("GOOGLE_CLOUD_PROJECT"),
            "{error}"
        );
        let found = config(&[
            ("GOOGLE_GENAI_USE_VERTEXAI", "1"),
            ("GOOGLE_CLOUD_PROJECT", "acme"),
        ])
        .unwrap()
        .expect("Vertex is on");
        let Endpoint::Vertex {
            project, location, ..
        } = &found.endpoint
        else {
            panic!("not Vertex: {found:?}");
        };
        assert_eq!((project.as_str(), location.as_str()), ("acme", "global"));
    }

    #[test]
    fn the_number_of_attempts_is_read_within_its_limits() {
        let attempts = |value| config(&[("GEMINI_API_KEY", "k"), ("VELO_MODEL_ATTEMPTS", value)]);
        let set = |value| attempts(value).unwrap().unwrap().retry.max_attempts;
        assert_eq!((set("1"), set("20")), (1, MAX_ATTEMPTS));
        assert_eq!(set(""), RetryPolicy::default().max_attempts);
        for bad in ["0", "21", "many"] {
            let error = attempts(bad).unwrap_err();
            assert!(error.to_string().contains("1 to 20"), "{error}");
        }
    }

    #[test]
    fn a_switch_that_is_neither_true_nor_false_is_refused() {
        let error = config(&[("GOOGLE_GENAI_USE_VERTEXAI", "maybe")]).unwrap_err();
        assert!(error.to_string().contains("true or false"), "{error}");
    }
}
