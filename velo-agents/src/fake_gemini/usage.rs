//! Token counts, from the texts.

use serde_json::{Map, Value, json};

use super::received::Received;

/// Characters of a token, roughly what English text has.
const CHARS_PER_TOKEN: usize = 4;
/// A model that thinks spends a token of thought on so many tokens of the prompt.
const PROMPT_TOKENS_PER_THOUGHT: u64 = 8;

/// The tokens of `text`.
pub(super) fn tokens(text: &str) -> u64 {
    tokens_of(text.chars().count())
}

fn tokens_of(chars: usize) -> u64 {
    chars.div_ceil(CHARS_PER_TOKEN) as u64
}

/// The tokens of what was asked.
pub(super) fn prompt_tokens(received: &Received) -> u64 {
    let turns: u64 = received.turns.iter().map(|turn| tokens(&turn.text)).sum();
    tokens(&received.system) + turns
}

/// What a reply consumes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    prompt: u64,
    thoughts: u64,
    is_vertex: bool,
}

impl Meter {
    pub(super) fn new(received: &Received) -> Self {
        let prompt = prompt_tokens(received);
        Self {
            prompt,
            thoughts: if received.thinks {
                prompt.div_ceil(PROMPT_TOKENS_PER_THOUGHT)
            } else {
                0
            },
            is_vertex: received.is_vertex(),
        }
    }

    /// The beginning of `text` that fits under the limit of the reply, thoughts included.
    pub(super) fn fitting<'a>(&self, text: &'a str, limit: Option<u32>) -> &'a str {
        let Some(limit) = limit else { return text };
        let left = u64::from(limit).saturating_sub(self.thoughts);
        let chars = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .saturating_mul(CHARS_PER_TOKEN);
        match text.char_indices().nth(chars) {
            Some((end, _)) => &text[..end],
            None => text,
        }
    }

    /// The counts once so many characters have been written. Those that are zero are left out.
    pub(super) fn after(&self, chars: usize) -> Value {
        self.counts(tokens_of(chars), self.thoughts)
    }

    /// The counts when nothing was generated.
    pub(super) fn prompt_only(&self) -> Value {
        self.counts(0, 0)
    }

    fn counts(&self, candidates: u64, thoughts: u64) -> Value {
        let mut usage = Map::new();
        for (name, count) in [
            ("promptTokenCount", self.prompt),
            ("candidatesTokenCount", candidates),
            ("thoughtsTokenCount", thoughts),
            ("totalTokenCount", self.prompt + candidates + thoughts),
        ] {
            if count > 0 {
                usage.insert(name.to_owned(), count.into());
            }
        }
        if self.prompt > 0 {
            let details = json!([{"modality": "TEXT", "tokenCount": self.prompt}]);
            usage.insert("promptTokensDetails".to_owned(), details);
        }
        let (name, tier) = if self.is_vertex {
            ("trafficType", "ON_DEMAND")
        } else {
            ("serviceTier", "standard")
        };
        usage.insert(name.to_owned(), tier.into());
        Value::Object(usage)
    }
}
