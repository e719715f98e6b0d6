use std::iter::Sum;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Complexity;
use crate::model::price::{default_model, price};
use crate::model::{Tier, Usage};

/// What a task is thought to take: a rule of thumb by its complexity, never a model's guess.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Minutes of an agent's work, reviews included.
    pub minutes: u32,
    /// Tokens that its calls will read.
    pub input_tokens: u64,
    /// Tokens that its calls will write.
    pub output_tokens: u64,
    /// Most US dollars that these tokens cost with the agent's usual model.
    pub usd_max: f64,
}

impl Estimate {
    /// For a task of `complexity`, done by an agent whose model is of `tier`; the dearer tier when
    /// that is not known.
    #[must_use]
    pub fn of(complexity: Complexity, tier: Option<Tier>) -> Self {
        let (minutes, input_tokens, output_tokens) = match complexity {
            Complexity::S => (5, 20_000, 6_000),
            Complexity::M => (12, 60_000, 16_000),
            Complexity::L => (25, 150_000, 40_000),
        };
        let usage = Usage {
            input_tokens,
            output_tokens,
            ..Usage::default()
        };
        Self {
            minutes,
            input_tokens,
            output_tokens,
            usd_max: price(default_model(tier.unwrap_or(Tier::Pro)), &usage).unwrap_or_default(),
        }
    }
}

impl Sum for Estimate {
    fn sum<I: Iterator<Item = Self>>(estimates: I) -> Self {
        estimates.fold(Self::default(), |sum, next| Self {
            minutes: sum.minutes + next.minutes,
            input_tokens: sum.input_tokens + next.input_tokens,
            output_tokens: sum.output_tokens + next.output_tokens,
            usd_max: sum.usd_max + next.usd_max,
        })
    }
}
