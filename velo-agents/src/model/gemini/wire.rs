//! The provider's JSON, as far as it is read.
//!
//! Everything may be missing and unknown fields are ignored: zero-valued fields are left out on
//! the wire, and new ones appear without notice.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A whole reply, or one piece of a streamed one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Piece {
    pub(super) candidates: Vec<Candidate>,
    pub(super) prompt_feedback: Option<PromptFeedback>,
    pub(super) usage_metadata: Option<UsageMetadata>,
    pub(super) model_version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Candidate {
    pub(super) content: Option<Content>,
    /// Text rather than an enum: the list grows.
    pub(super) finish_reason: Option<String>,
    pub(super) finish_message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Part {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PromptFeedback {
    pub(super) block_reason: Option<String>,
    pub(super) block_reason_message: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UsageMetadata {
    #[serde(deserialize_with = "count")]
    pub(super) prompt_token_count: u64,
    #[serde(deserialize_with = "count")]
    pub(super) cached_content_token_count: u64,
    #[serde(deserialize_with = "count")]
    pub(super) candidates_token_count: u64,
    #[serde(deserialize_with = "count")]
    pub(super) thoughts_token_count: u64,
    #[serde(deserialize_with = "count")]
    pub(super) tool_use_prompt_token_count: u64,
}

/// The reply to `countTokens`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenCount {
    #[serde(deserialize_with = "count")]
    pub(super) total_tokens: u64,
}

/// A count as a number, or as text, which is how 64-bit integers travel in the provider's JSON.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Null => Some(0),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.ok_or_else(|| serde::de::Error::custom("not a count of tokens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_numbers_and_from_text() {
        let usage: UsageMetadata = serde_json::from_str(
            r#"{"promptTokenCount":"14","thoughtsTokenCount":43,"trafficType":"ON_DEMAND"}"#,
        )
        .unwrap();
        assert_eq!(
            usage,
            UsageMetadata {
                prompt_token_count: 14,
                thoughts_token_count: 43,
                ..UsageMetadata::default()
            }
        );
    }
}
