//! Gemini, over its two HTTP endpoints: with an API key, and on Vertex AI.

mod address;
pub mod auth;
mod call;
mod config;
mod fault;
mod reply;
mod request;
mod retry;
mod secret;
mod sse;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

pub use config::{
    API_KEY_BASE_URL, ConfigError, DEFAULT_LOCATION, Endpoint, GeminiConfig, MAX_ATTEMPTS,
    TierModels,
};
pub use request::MIN_OUTPUT_TOKENS;
pub use retry::RetryPolicy;
pub use secret::Secret;

use super::{
    ChatModel, ChatReply, ChatRequest, ModelError, ModelErrorKind, Progress, Tier, Usage, price,
};
use address::Address;
use auth::TokenCache;
use call::Call;
use fault::{Asked, Fault};
use retry::Attempts;

const KEY_HEADER: HeaderName = HeaderName::from_static("x-goog-api-key");
/// Tells the provider when the client stops waiting, so that it does not work for nobody.
const SERVER_TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-server-timeout");
/// On the API-key endpoint, where requests have no labels, who asks is named in headers.
const AGENT_HEADER: HeaderName = HeaderName::from_static("x-velo-agent");
const PURPOSE_HEADER: HeaderName = HeaderName::from_static("x-velo-purpose");

/// A [`ChatModel`] that asks Gemini.
///
/// Failures that may pass are retried as [`RetryPolicy`] says; see [`ModelErrorKind`] for the
/// rest. The cost of a model that is not listed in [`price`] is reported as zero, and a warning
/// is logged once for each such model.
///
/// ```no_run
/// use velo_agents::model::gemini::{Gemini, GeminiConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = GeminiConfig::from_env()?.ok_or("set GEMINI_API_KEY")?;
/// let model = Gemini::new(config)?;
/// # let _ = model;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Gemini {
    config: GeminiConfig,
    address: Address,
    access: Access,
    http: reqwest::Client,
    warned_unpriced: Mutex<BTreeSet<String>>,
}

/// The credentials, ready to be sent.
#[derive(Debug)]
enum Access {
    Key { key: Secret, header: HeaderValue },
    Tokens(TokenCache),
}

impl Gemini {
    /// A client for `config`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`] when a setting cannot be used.
    pub fn new(mut config: GeminiConfig) -> Result<Self, ConfigError> {
        for (setting, model) in [
            ("VELO_MODEL_PRO", &mut config.models.pro),
            ("VELO_MODEL_FLASH", &mut config.models.flash),
        ] {
            if let Some(id) = model.strip_prefix("models/") {
                *model = id.to_owned();
            }
            address::check_segment(setting, model)?;
            warn_if_retired(model);
        }
        let access = match &config.endpoint {
            Endpoint::ApiKey { key } => {
                let mut header = HeaderValue::from_str(key.expose()).map_err(|_| {
                    ConfigError::invalid(
                        "the API key",
                        "contains characters that no key has: copy it again",
                    )
                })?;
                header.set_sensitive(true);
                let key = key.clone();
                Access::Key { key, header }
            }
            Endpoint::Vertex { tokens, .. } => Access::Tokens(TokenCache::new(tokens.clone())),
        };
        let address = Address::of(&config)?;
        // Redirects would carry the key header to another host.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.connect_timeout);
        if address.is_loopback {
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|source| ConfigError::Http { source })?;
        Ok(Self {
            config,
            address,
            access,
            http,
            warned_unpriced: Mutex::default(),
        })
    }

    /// How many tokens `request` would have as input. The API-key endpoint counts the turns alone,
    /// Vertex AI also the system instruction.
    ///
    /// # Errors
    /// As [`complete`](ChatModel::complete).
    ///
    /// # Cancel safety
    /// Nothing is lost: counting is free of charge.
    pub async fn count_tokens(&self, request: &ChatRequest) -> Result<u64, ModelError> {
        let model = self.config.models.of(request.tier);
        let mut body = json!({"contents": request::contents(request)?});
        if self.is_vertex() && !request.system.is_empty() {
            body["systemInstruction"] = json!({"parts": [{"text": request.system}]});
        }
        let ask = Ask {
            request,
            model,
            method: Method::Count,
            body: body.to_string(),
        };
        let mut spent = Usage::default();
        match self.retrying(&ask, &mut spent, &mut |_| ()).await? {
            Answer::Count(tokens) => Ok(tokens),
            Answer::Reply(_) => unreachable!("counting gives a count"),
        }
    }

    fn is_vertex(&self) -> bool {
        matches!(self.access, Access::Tokens(_))
    }

    /// Makes attempts until one succeeds or no more may be made. `spent` sums up what the failed
    /// ones consumed, and counts them all.
    async fn retrying(
        &self,
        ask: &Ask<'_>,
        spent: &mut Usage,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Answer, ModelError> {
        let mut attempts = Attempts::begin(&self.config.retry, Instant::now());
        let mut may_renew_token = self.is_vertex();
        loop {
            let mut has_shown_text = false;
            let limit = attempts.time_for_attempt(Instant::now(), self.config.request_timeout);
            let made = async {
                let (call, token) = self.call(ask, limit).await.map_err(|fault| (fault, None))?;
                spent.requests += 1;
                let mut watch = |seen: Progress<'_>| {
                    has_shown_text |= matches!(seen, Progress::Text(_));
                    progress(seen);
                };
                ask.method
                    .make(call, &mut watch)
                    .await
                    .map_err(|fault| (fault, Some(token)))
            };
            let (fault, token) = match made.await {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            *spent += fault.usage;
            if has_shown_text {
                progress(Progress::Restarted);
            }
            if let (Access::Tokens(cache), Some(token)) = (&self.access, token)
                && fault.is_unauthorized
                && std::mem::take(&mut may_renew_token)
            {
                cache.refuse(&token).await;
                continue;
            }
            let wait = attempts
                .after(fault, Instant::now())
                .map_err(|error| error.with_usage(*spent))?;
            tracing::debug!(
                model = ask.model,
                wait_ms = wait.nominal.as_millis(),
                "the model did not answer, asking again"
            );
            progress(Progress::Waiting(wait.nominal));
            tokio::time::sleep(wait.slept).await;
        }
    }

    /// Readies one attempt; also returns the credential that it carries.
    async fn call<'a>(
        &'a self,
        ask: &Ask<'a>,
        limit: Duration,
    ) -> Result<(Call<'a>, Secret), Fault> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut headers = HeaderMap::new();
        headers.insert(
            SERVER_TIMEOUT_HEADER,
            HeaderValue::from(limit.as_secs() + 1),
        );
        let secret = match &self.access {
            Access::Key { key, header } => {
                headers.insert(KEY_HEADER, header.clone());
                for (name, text) in [
                    (AGENT_HEADER, &ask.request.agent),
                    (PURPOSE_HEADER, &ask.request.purpose),
                ] {
                    let value = HeaderValue::from_str(&request::label(text))
                        .expect("labels are letters, digits, _ and -");
                    headers.insert(name, value);
                }
                key.clone()
            }
            Access::Tokens(cache) => {
                let token = tokio::time::timeout_at(deadline, cache.token())
                    .await
                    .map_err(|_| Fault::unavailable("no access token arrived in time"))??;
                let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                    .map_err(|_| {
                        Fault::new(
                            ModelErrorKind::Auth,
                            "the access token is malformed: check the credentials",
                        )
                    })?;
                header.set_sensitive(true);
                headers.insert(AUTHORIZATION, header);
                token
            }
        };
        let call = Call {
            http: &self.http,
            url: self.address.url(ask.model, ask.method.path()),
            headers,
            body: ask.body.clone(),
            asked: Asked {
                model: ask.model,
                is_vertex: self.is_vertex(),
                secret: secret.clone(),
            },
            deadline,
            idle_timeout: self.config.idle_timeout,
        };
        Ok((call, secret))
    }

    fn warn_if_unpriced(&self, asked: &str, answered: &str) {
        if price::find(answered)
            .or_else(|| price::find(asked))
            .is_some()
        {
            return;
        }
        let mut warned = self
            .warned_unpriced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Bounded by the two configured models.
        if warned.insert(asked.to_owned()) {
            tracing::warn!(
                model = asked,
                "the model's price is not known: its cost is recorded as zero"
            );
        }
    }
}

/// What is asked, the same in every attempt.
#[derive(Debug)]
struct Ask<'a> {
    request: &'a ChatRequest,
    model: &'a str,
    method: Method,
    body: String,
}

#[derive(Debug, Clone, Copy)]
enum Method {
    Stream,
    Unary,
    Count,
}

#[derive(Debug)]
enum Answer {
    Reply(ChatReply),
    Count(u64),
}

impl Method {
    fn path(self) -> &'static str {
        match self {
            Self::Stream => "streamGenerateContent?alt=sse",
            Self::Unary => "generateContent",
            Self::Count => "countTokens",
        }
    }

    async fn make(
        self,
        call: Call<'_>,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Answer, Fault> {
        match self {
            Self::Stream => call.streamed(progress).await.map(Answer::Reply),
            Self::Unary => call.unary(progress).await.map(Answer::Reply),
            Self::Count => call.count().await.map(Answer::Count),
        }
    }
}

#[async_trait]
impl ChatModel for Gemini {
    fn name(&self, tier: Tier) -> &str {
        self.config.models.of(tier)
    }

    async fn complete(
        &self,
        request: &ChatRequest,
        progress: &mut (dyn for<'p> FnMut(Progress<'p>) + Send),
    ) -> Result<ChatReply, ModelError> {
        let model = self.config.models.of(request.tier);
        let ask = Ask {
            request,
            model,
            method: if self.config.streaming {
                Method::Stream
            } else {
                Method::Unary
            },
            body: request::body(request, model, self.is_vertex())?.to_string(),
        };
        let mut spent = Usage::default();
        match self.retrying(&ask, &mut spent, progress).await? {
            Answer::Reply(mut reply) => {
                reply.usage += spent;
                self.warn_if_unpriced(model, &reply.model);
                Ok(reply)
            }
            Answer::Count(_) => unreachable!("a reply was asked for"),
        }
    }
}

fn warn_if_retired(model: &str) {
    let Some(info) = price::find(model) else {
        return;
    };
    if let Some(retires) = info.retires
        && retires <= chrono::Utc::now().date_naive()
    {
        tracing::warn!(
            model,
            %retires,
            fallback = info.fallback.as_deref(),
            "the model is retired: requests may be answered with 404"
        );
    }
}
