//! The language model, behind one trait: [`ChatModel`].
//!
//! A request is plain data and a reply is plain data, so a node can keep a reply with
//! `cx.step` and never ask twice for what was already answered and recorded.

pub mod gemini;
pub mod offline;
pub mod price;
pub mod schema;
mod spent;
pub mod structured;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Something that answers chat requests: Gemini, or the offline model.
#[async_trait]
pub trait ChatModel: fmt::Debug + Send + Sync {
    /// The name that people and usage logs see for `tier`, such as `gemini-3.8-flash`.
    fn name(&self, tier: Tier) -> &str;

    /// Whether replies are made without any network, by rules rather than by a model.
    fn is_offline(&self) -> bool {
        false
    }

    /// Answers `request`. Text is handed to `progress` as it arrives; when a broken stream is
    /// begun again, the text begins again too ([`Progress::Restarted`]).
    ///
    /// # Errors
    /// [`ModelError`], whose [`kind`](ModelError::kind) says whether the same request may succeed later.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the HTTP request. The provider may still have charged for it.
    async fn complete(
        &self,
        request: &ChatRequest,
        progress: &mut (dyn for<'p> FnMut(Progress<'p>) + Send),
    ) -> Result<ChatReply, ModelError>;
}

/// What is seen while a reply is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A piece of the reply's text.
    Text(&'a str),
    /// All text so far is void: the request is made again.
    Restarted,
    /// The provider asked to wait before the next attempt.
    Waiting(Duration),
}

/// How capable, and how dear, a model is wanted. Tiers map to model ids in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The careful one.
    Pro,
    /// The quick one.
    Flash,
}

/// One request to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// Id of the asking agent, such as `oracle`.
    pub agent: String,
    /// What the reply is for, such as `draft_prd`; also how the offline model knows what to write.
    pub purpose: String,
    /// Which class of model to use.
    pub tier: Tier,
    /// The system instruction.
    pub system: String,
    /// The conversation, oldest first; the last turn is the user's.
    pub turns: Vec<Turn>,
    /// JSON Schema of the wanted reply, as `schemars` makes it; `None` for free text.
    pub schema: Option<serde_json::Value>,
    /// Sampling temperature, sent only to models that accept one.
    pub temperature: Option<f32>,
    /// Upper bound on generated tokens, thinking included.
    pub max_output_tokens: u32,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// Who speaks in a [`Turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The side that asks.
    User,
    /// The side that answers.
    Model,
}

/// A finished reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text, thoughts left out.
    pub text: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// Whether the text is whole.
    pub finish: Finish,
    /// What it consumed.
    pub usage: Usage,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model had said everything.
    Stop,
    /// The reply was cut at `max_output_tokens`.
    MaxTokens,
}

/// Tokens consumed and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request, cached ones included.
    pub input_tokens: u64,
    /// Those of the request that came from a cache.
    pub cached_tokens: u64,
    /// Tokens generated, thinking included.
    pub output_tokens: u64,
    /// Price in US dollars; zero for the offline model.
    pub cost_usd: f64,
    /// HTTP requests it took, retries included.
    pub requests: u32,
}

impl Usage {
    /// Tokens in and out.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.output_tokens += other.output_tokens;
        self.cost_usd += other.cost_usd;
        self.requests += other.requests;
    }
}

/// A request that was not answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// Again, or not, and when.
    pub kind: ModelErrorKind,
    /// What was being done, why it failed and what to do now; never a secret.
    pub message: String,
    /// The cause, when there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a [`ModelError`] means for the next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelErrorKind {
    /// The key or token was refused (401, 403): a person must mend the configuration.
    Auth,
    /// The provider refuses the request as it is (400, 404): the same request fails again.
    BadRequest,
    /// Too many requests (429). May be tried again, not before `retry_after` when one was given.
    RateLimited {
        /// The provider's own advice.
        retry_after: Option<Duration>,
    },
    /// A quota that does not refill soon is used up, such as one per day.
    QuotaExhausted,
    /// Overload, a server error, a lost connection or a timeout: may be tried again.
    Unavailable,
    /// The prompt or the reply was blocked by a safety filter: the same request is blocked again.
    Blocked,
    /// The reply was not what was asked for, also after repair.
    InvalidOutput,
}

impl ModelErrorKind {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable)
    }
}
