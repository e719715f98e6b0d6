//! What is known about each model: prices, limits and what it accepts.
//!
//! The numbers are data, in `models.toml`, compiled in. A model that is not listed still works:
//! it is asked without a thinking level and without a temperature, its price is unknown
//! ([`price`] is `None`), its cost is recorded as zero and a warning is logged once.

use std::sync::LazyLock;

use chrono::NaiveDate;
use serde::Deserialize;

use super::{Tier, Usage};

/// Above this many input tokens the [`ModelInfo::over_200k`] prices apply.
pub const LONG_PROMPT_TOKENS: u64 = 200_000;
const TOKENS_PER_PRICE: f64 = 1_000_000.0;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    toml::from_str(include_str!("models.toml"))
        .expect("models.toml is part of the program and read by a test")
});

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    defaults: Defaults,
    model: Vec<ModelInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    pro: String,
    flash: String,
}

/// One model, as `models.toml` describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// The id in request paths, such as `gemini-3.8-flash`.
    pub id: String,
    /// US dollars for a million input tokens that came from no cache.
    pub input: f64,
    /// US dollars for a million input tokens from a cache.
    pub cached: f64,
    /// US dollars for a million generated tokens, thinking included.
    pub output: f64,
    /// The prices of a request with more than [`LONG_PROMPT_TOKENS`] input tokens, when they differ.
    #[serde(default)]
    pub over_200k: Option<LongPrices>,
    /// Tokens that a request may have.
    pub context: u64,
    /// Tokens that a reply may have, thinking included.
    pub max_output: u32,
    /// The thinking level to ask for; `None` leaves it to the provider.
    #[serde(default)]
    pub thinking: Option<ThinkingLevel>,
    /// The thinking levels that the model accepts; empty when it has none.
    pub thinking_levels: Vec<ThinkingLevel>,
    /// Whether the model accepts sampling parameters such as a temperature.
    pub sampling: bool,
    /// The day from which the provider may answer 404.
    #[serde(default)]
    pub retires: Option<NaiveDate>,
    /// The listed model to use instead.
    #[serde(default)]
    pub fallback: Option<String>,
}

/// Prices of a long request, in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrices {
    /// Input that came from no cache.
    pub input: f64,
    /// Input from a cache.
    pub cached: f64,
    /// Generated tokens.
    pub output: f64,
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ThinkingLevel {
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// As the provider's default for most models.
    Medium,
    /// As much as it finds useful.
    High,
}

impl ThinkingLevel {
    /// The name on the wire, such as `MEDIUM`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "MINIMAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }
}

/// Every listed model.
#[must_use]
pub fn models() -> &'static [ModelInfo] {
    &CATALOGUE.model
}

/// The model id of `tier` when configuration names none.
#[must_use]
pub fn default_model(tier: Tier) -> &'static str {
    match tier {
        Tier::Pro => &CATALOGUE.defaults.pro,
        Tier::Flash => &CATALOGUE.defaults.flash,
    }
}

/// The listed model that `name` means: the id itself, with a `models/` prefix, or with a numeric
/// version behind it (`gemini-3.5-flash-001`).
#[must_use]
pub fn find(name: &str) -> Option<&'static ModelInfo> {
    let name = name.rsplit('/').next().unwrap_or(name);
    models().iter().find(|model| model.id == name).or_else(|| {
        let (stem, version) = name.rsplit_once('-')?;
        let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
        models().iter().find(|model| is_version && model.id == stem)
    })
}

/// What `usage` costs in US dollars at `model`, from its token counts alone; `None` when the
/// model is not listed. Surcharges for regions and service tiers are not included.
///
/// ```
/// use velo_agents::model::{Usage, price::price};
///
/// let usage = Usage { input_tokens: 1_000_000, output_tokens: 1_000_000, ..Usage::default() };
/// assert!(price("gemini-3.8-flash", &usage).is_some_and(|dollars| dollars > 1.0));
/// assert_eq!(price("a-model-nobody-knows", &usage), None);
/// ```
#[must_use]
pub fn price(model: &str, usage: &Usage) -> Option<f64> {
    let model = find(model)?;
    let (input, cached, output) = match model.over_200k {
        Some(long) if usage.input_tokens > LONG_PROMPT_TOKENS => {
            (long.input, long.cached, long.output)
        }
        _ => (model.input, model.cached, model.output),
    };
    let from_cache = usage.cached_tokens.min(usage.input_tokens);
    let fresh = usage.input_tokens - from_cache;
    #[expect(
        clippy::cast_precision_loss,
        reason = "token counts are far below 2^52, where f64 is exact"
    )]
    let dollars =
        fresh as f64 * input + from_cache as f64 * cached + usage.output_tokens as f64 * output;
    Some(dollars / TOKENS_PER_PRICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input_tokens: u64, cached_tokens: u64, output_tokens: u64) -> Usage {
        Usage {
            input_tokens,
            cached_tokens,
            output_tokens,
            ..Usage::default()
        }
    }

    fn near(found: Option<f64>, wanted: f64) -> bool {
        found.is_some_and(|found| (found - wanted).abs() < 1e-9)
    }

    #[test]
    fn the_data_file_agrees_with_itself() {
        for tier in [Tier::Pro, Tier::Flash] {
            assert!(find(default_model(tier)).is_some(), "{tier:?}");
        }
        for model in models() {
            assert!(models().iter().filter(|other| other.id == model.id).count() == 1);
            assert!(model.cached < model.input && model.input < model.output);
            assert!(u64::from(model.max_output) <= model.context);
            if let Some(level) = model.thinking {
                assert!(model.thinking_levels.contains(&level), "{}", model.id);
            }
            if let Some(fallback) = &model.fallback {
                assert_ne!(fallback, &model.id);
                assert!(
                    find(fallback).is_some(),
                    "{} falls back to nothing",
                    model.id
                );
            }
        }
    }

    #[test]
    fn cached_input_is_cheaper_and_counted_once() {
        let found = price("gemini-3.8-flash", &usage(1_000_000, 400_000, 200_000));
        assert!(
            near(found, 0.6 * 0.75 + 0.4 * 0.075 + 0.2 * 3.75),
            "{found:?}"
        );
    }

    #[test]
    fn a_long_prompt_costs_the_long_price() {
        assert!(near(
            price("gemini-3.1-pro-preview", &usage(200_000, 0, 0)),
            0.2 * 2.0
        ));
        assert!(near(
            price("gemini-3.1-pro-preview", &usage(200_001, 0, 0)),
            0.200_001 * 4.0
        ));
    }

    #[test]
    fn a_version_suffix_is_ignored_but_another_model_is_not_mistaken() {
        assert_eq!(
            find("gemini-3.5-flash-001").map(|m| m.id.as_str()),
            Some("gemini-3.5-flash")
        );
        assert_eq!(
            find("models/gemini-3.5-flash-lite").map(|m| m.id.as_str()),
            Some("gemini-3.5-flash-lite")
        );
        assert_eq!(find("gemini-3.5-flash-mega"), None);
        assert_eq!(price("gemini-9", &usage(1, 0, 1)), None);
    }
}
