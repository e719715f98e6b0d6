//! A request as the server has read it.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::model::{ChatRequest, Role, Tier, Turn, price};

/// What a server that was told nothing else allows a reply, in tokens.
const DEFAULT_MAX_OUTPUT_TOKENS: u32 = 65_536;

/// A request to a model and what became of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// Its number since the server started, from one.
    pub n: usize,
    /// When it had arrived whole.
    pub at: DateTime<Utc>,
    /// Which of the two endpoints it came to.
    pub endpoint: Endpoint,
    /// The model's id in the path.
    pub model: String,
    /// What it wants.
    pub method: Method,
    /// Who asks, from the header `x-velo-agent` or the label `velo_agent`.
    pub agent: Option<String>,
    /// What for, from the header `x-velo-purpose` or the label `velo_purpose`.
    pub purpose: Option<String>,
    /// The system instruction; empty when there is none.
    pub system: String,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// The JSON schema that the reply must have.
    pub schema: Option<Value>,
    /// The limit of the reply, thinking included.
    pub max_output_tokens: Option<u32>,
    /// The sampling temperature.
    pub temperature: Option<f32>,
    /// The body as it came.
    pub body: String,
    /// Names in lower case, and values; those that carry credentials are left out.
    pub headers: Vec<(String, String)>,
    /// What became of it so far.
    pub outcome: Outcome,
    /// Whether it asks for thoughts.
    pub(super) thinks: bool,
}

/// Where a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// The Gemini API, by key.
    ApiKey {
        /// `v1` or `v1beta`.
        version: String,
    },
    /// Vertex AI, by access token.
    Vertex {
        /// The Google Cloud project.
        project: String,
        /// The location.
        location: String,
    },
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// A reply in one piece.
    Generate,
    /// A reply as server-sent events.
    Stream,
    /// A reply as one JSON array that is written piece by piece.
    StreamArray,
    /// The number of tokens of the request.
    Count,
}

impl Method {
    /// Whether a reply is generated, which the real server charges for.
    #[must_use]
    pub fn is_paid(self) -> bool {
        self != Self::Count
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is being answered.
    Open,
    /// It waits at a [`Hold`](super::Hold).
    Held,
    /// The whole reply was handed on for sending, all but the mark of its end. Whether the client
    /// has read it is not known.
    Answered,
    /// The whole refusal was written, with this HTTP status.
    Failed(u16),
    /// The reply was cut short or spoilt, as the script said.
    Cut,
    /// The client closed the connection before the reply was whole.
    ClientGone,
}

impl Received {
    /// A hash of what was asked: equal for two requests that ask the same of the same model for
    /// the same agent and purpose, whether streamed or not, at either endpoint.
    ///
    /// A paid call was repeated when two requests whose [`outcome`](Self::outcome) is
    /// [`Outcome::Answered`] have the same fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let asked = json!({
            "model": self.model,
            "is_paid": self.method.is_paid(),
            "agent": self.agent,
            "purpose": self.purpose,
            "system": self.system,
            "turns": self.turns,
            "schema": self.schema,
            "max_output_tokens": self.max_output_tokens,
        });
        let mut hex = String::new();
        for byte in Sha256::digest(asked.to_string()) {
            write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        }
        hex
    }

    /// The request as the client was given it, for a [`ChatModel`](crate::model::ChatModel) that
    /// answers in place of Gemini. The schema is the one that was sent. Agent and purpose come as
    /// labels write them: in lower case, with `_` for other signs. Light models are taken for [`Tier::Flash`].
    #[must_use]
    pub fn chat_request(&self) -> ChatRequest {
        let is_light =
            self.model == price::default_model(Tier::Flash) || self.model.contains("lite");
        ChatRequest {
            agent: self.agent.clone().unwrap_or_default(),
            purpose: self.purpose.clone().unwrap_or_default(),
            tier: if is_light { Tier::Flash } else { Tier::Pro },
            system: self.system.clone(),
            turns: self.turns.clone(),
            schema: self.schema.clone(),
            temperature: self.temperature,
            max_output_tokens: self.max_output_tokens.unwrap_or(DEFAULT_MAX_OUTPUT_TOKENS),
        }
    }

    pub(super) fn is_vertex(&self) -> bool {
        matches!(self.endpoint, Endpoint::Vertex { .. })
    }

    /// Reads what `body` says into the fields. What has another form than expected is left empty:
    /// refusing it is another file's task.
    pub(super) fn read_body(&mut self, body: &Value) {
        let system = either(body, "systemInstruction", "system_instruction");
        self.system = system.map(text_of).unwrap_or_default();
        let turns = body["contents"].as_array().map_or(&[][..], Vec::as_slice);
        self.turns = turns
            .iter()
            .map(|turn| Turn {
                role: match turn["role"].as_str() {
                    Some("model") => Role::Model,
                    _ => Role::User,
                },
                text: text_of(turn),
            })
            .collect();
        for (label, field) in [
            ("velo_agent", &mut self.agent),
            ("velo_purpose", &mut self.purpose),
        ] {
            if let Some(text) = body["labels"][label].as_str() {
                *field = Some(text.to_owned());
            }
        }
        let Some(config) = either(body, "generationConfig", "generation_config") else {
            return;
        };
        self.schema = either(config, "responseJsonSchema", "response_json_schema")
            .or_else(|| either(config, "responseSchema", "response_schema"))
            .or_else(|| {
                either(config, "responseFormat", "response_format")?[0]["text"].get("schema")
            })
            .cloned();
        self.thinks = either(config, "thinkingConfig", "thinking_config")
            .and_then(|thinking| either(thinking, "thinkingLevel", "thinking_level"))
            .is_some();
        self.max_output_tokens = either(config, "maxOutputTokens", "max_output_tokens")
            .and_then(Value::as_u64)
            .and_then(|most| u32::try_from(most).ok());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a temperature is a small number that was an f32 before"
        )]
        let temperature = config["temperature"].as_f64().map(|number| number as f32);
        self.temperature = temperature;
    }
}

/// A field by its name in either of the two spellings that the provider reads.
fn either<'a>(object: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    object.get(camel).or_else(|| object.get(snake))
}

/// The texts of a content's parts, joined.
fn text_of(content: &Value) -> String {
    let parts = content["parts"].as_array().map_or(&[][..], Vec::as_slice);
    parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect()
}

#[cfg(test)]
impl Received {
    /// One that asks nothing.
    pub(super) fn example(method: Method, endpoint: Endpoint, model: &str) -> Self {
        Self {
            n: 1,
            at: Utc::now(),
            endpoint,
            model: model.to_owned(),
            method,
            agent: None,
            purpose: None,
            system: String::new(),
            turns: Vec::new(),
            schema: None,
            max_output_tokens: None,
            temperature: None,
            body: String::new(),
            headers: Vec::new(),
            outcome: Outcome::Open,
            thinks: false,
        }
    }
}
