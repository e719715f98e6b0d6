//! A reply, put together from its pieces.

use super::fault::Fault;
use super::wire::{Candidate, Piece, UsageMetadata};
use crate::model::{ChatReply, Finish, ModelErrorKind, Usage, price};

/// Longest text of a reply, in bytes; the largest model writes a few hundred kilobytes.
const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// What has arrived of a reply.
#[derive(Debug)]
pub(super) struct ReplyParts<'a> {
    asked_model: &'a str,
    text: String,
    finish: Option<String>,
    finish_message: Option<String>,
    blocked_prompt: Option<String>,
    usage: Option<UsageMetadata>,
    model: Option<String>,
}

impl<'a> ReplyParts<'a> {
    pub(super) fn new(asked_model: &'a str) -> Self {
        Self {
            asked_model,
            text: String::new(),
            finish: None,
            finish_message: None,
            blocked_prompt: None,
            usage: None,
            model: None,
        }
    }

    /// Takes the next piece and returns the text that it added.
    pub(super) fn push(&mut self, piece: Piece) -> Result<&str, Fault> {
        let before = self.text.len();
        if let Some(usage) = piece.usage_metadata {
            self.usage = Some(usage);
        }
        if piece.model_version.is_some() {
            self.model = piece.model_version;
        }
        if let Some(feedback) = piece.prompt_feedback
            && let Some(reason) = feedback.block_reason
        {
            self.blocked_prompt = Some(match feedback.block_reason_message {
                Some(message) => format!("{reason}: {message}"),
                None => reason,
            });
        }
        if let Some(candidate) = piece.candidates.into_iter().next() {
            self.take(candidate);
        }
        if self.text.len() > MAX_REPLY_BYTES {
            return Err(self.failed(
                ModelErrorKind::InvalidOutput,
                format!("the reply is longer than {MAX_REPLY_BYTES} bytes: ask for less at once"),
            ));
        }
        Ok(&self.text[before..])
    }

    fn take(&mut self, candidate: Candidate) {
        for part in candidate
            .content
            .into_iter()
            .flat_map(|content| content.parts)
        {
            if part.thought != Some(true)
                && let Some(text) = part.text
            {
                self.text.push_str(&text);
            }
        }
        if candidate.finish_reason.is_some() {
            self.finish = candidate.finish_reason;
            self.finish_message = candidate.finish_message;
        }
    }

    /// The reply, now that nothing more comes.
    pub(super) fn finish(self) -> Result<ChatReply, Fault> {
        if let Some(reason) = &self.blocked_prompt {
            let message = format!(
                "the prompt was blocked by the provider's filter ({reason}): change what is asked"
            );
            return Err(self.failed(ModelErrorKind::Blocked, message));
        }
        let finish = match self.finish.as_deref() {
            Some("MAX_TOKENS") => Finish::MaxTokens,
            Some(
                reason @ ("SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
                | "MODEL_ARMOR"),
            ) => {
                let message = format!(
                    "the reply was blocked by the provider's filter ({}): change what is asked",
                    self.reason(reason)
                );
                return Err(self.failed(ModelErrorKind::Blocked, message));
            }
            Some(reason @ ("MALFORMED_FUNCTION_CALL" | "MALFORMED_RESPONSE")) => {
                let message = format!("the model broke off its reply ({})", self.reason(reason));
                return Err(self.failed(ModelErrorKind::Unavailable, message));
            }
            Some(reason) if self.text.trim().is_empty() => {
                let message = format!("the model's reply was empty ({})", self.reason(reason));
                return Err(self.failed(ModelErrorKind::Unavailable, message));
            }
            // Reasons that are not known end a reply that has text like any other.
            Some(_) => Finish::Stop,
            None => {
                let message = "the model's reply was cut: it ended without a reason to end";
                return Err(self.failed(ModelErrorKind::Unavailable, message.to_owned()));
            }
        };
        Ok(ChatReply {
            usage: self.usage(),
            model: self.model.unwrap_or_else(|| self.asked_model.to_owned()),
            text: self.text,
            finish,
        })
    }

    /// What has been consumed so far, priced; requests are counted by whoever makes them.
    pub(super) fn usage(&self) -> Usage {
        let Some(counted) = self.usage else {
            return Usage::default();
        };
        let mut usage = Usage {
            input_tokens: counted.prompt_token_count + counted.tool_use_prompt_token_count,
            cached_tokens: counted.cached_content_token_count,
            output_tokens: counted.candidates_token_count + counted.thoughts_token_count,
            ..Usage::default()
        };
        // An alias is priced as what answered, a version nobody listed as what was asked.
        let answered = self.model.as_deref().unwrap_or(self.asked_model);
        usage.cost_usd = price::price(answered, &usage)
            .or_else(|| price::price(self.asked_model, &usage))
            .unwrap_or(0.0);
        usage
    }

    fn reason(&self, reason: &str) -> String {
        match &self.finish_message {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        }
    }

    fn failed(&self, kind: ModelErrorKind, message: String) -> Fault {
        let mut fault = Fault::new(kind, message);
        fault.usage = self.usage();
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn reply(pieces: &[Value]) -> Result<ChatReply, Fault> {
        let mut parts = ReplyParts::new("gemini-3.8-flash");
        for piece in pieces {
            parts.push(serde_json::from_value(piece.clone()).unwrap())?;
        }
        parts.finish()
    }

    fn ended(reason: &str) -> Value {
        json!({"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": reason}]})
    }

    #[test]
    fn thoughts_are_left_out_and_the_last_usage_wins() {
        let found = reply(&[
            json!({"candidates": [{"content": {"parts": [
                {"text": "hmm", "thought": true}, {"text": "one "}]}}],
                "usageMetadata": {"promptTokenCount": 5}}),
            json!({"candidates": [{"content": {"parts": [{"text": "two"},
                {"text": "", "thoughtSignature": "c2ln"}]}, "finishReason": "STOP"}],
                "modelVersion": "gemini-3.8-flash-002",
                "usageMetadata": {"promptTokenCount": 1_000_000, "candidatesTokenCount": 60_000,
                    "thoughtsTokenCount": 40_000}}),
        ])
        .unwrap();
        assert_eq!(found.text, "one two");
        assert_eq!(found.model, "gemini-3.8-flash-002");
        assert_eq!(
            (found.usage.input_tokens, found.usage.output_tokens),
            (1_000_000, 100_000)
        );
        assert!(
            (found.usage.cost_usd - 1.125).abs() < 1e-9,
            "{:?}",
            found.usage
        );
    }

    #[test]
    fn each_filter_blocks_with_its_reason() {
        for reason in [
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
        ] {
            let fault = reply(&[ended(reason)]).unwrap_err();
            assert_eq!(fault.error.kind, ModelErrorKind::Blocked);
            assert!(fault.error.message.contains(reason), "{}", fault.error);
        }
        let piece = json!({"promptFeedback": {"blockReason": "JAILBREAK"}, "usageMetadata": {"promptTokenCount": 9}});
        let fault = reply(&[piece]).unwrap_err();
        assert_eq!(fault.error.kind, ModelErrorKind::Blocked);
        assert_eq!(fault.usage.input_tokens, 9);
    }

    #[test]
    fn an_unknown_reason_is_tolerated_when_there_is_text() {
        assert_eq!(
            reply(&[ended("PUP_LIMITED_DISABLED")]).unwrap().finish,
            Finish::Stop
        );
        assert_eq!(
            reply(&[ended("MAX_TOKENS")]).unwrap().finish,
            Finish::MaxTokens
        );
        let empty = json!({"candidates": [{"finishReason": "OTHER"}]});
        assert_eq!(
            reply(&[empty]).unwrap_err().error.kind,
            ModelErrorKind::Unavailable
        );
    }

    #[test]
    fn a_reply_without_an_end_is_cut() {
        let piece = json!({"candidates": [{"content": {"parts": [{"text": "hal"}]}}]});
        for pieces in [&[piece][..], &[]] {
            let fault = reply(pieces).unwrap_err();
            assert_eq!(fault.error.kind, ModelErrorKind::Unavailable);
        }
    }
}
