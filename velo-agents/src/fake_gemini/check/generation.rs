//! How a reply may be asked for.

use serde_json::{Map, Value};

use super::{field, object, only, schema, wrong_type};
use crate::fake_gemini::refusal::Refusal;
use crate::model::price::ModelInfo;

const GENERATION: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "presencePenalty",
    "frequencyPenalty",
    "seed",
    "responseLogprobs",
    "logprobs",
    "responseModalities",
    "mediaResolution",
    "speechConfig",
    "thinkingConfig",
    "responseMimeType",
    "responseJsonSchema",
    "responseSchema",
    "responseFormat",
];
const GENERATION_ON_VERTEX: &[&str] = &["audioTimestamp", "routingConfig"];
const SAMPLING: &[&str] = &["temperature", "topP", "topK"];
const THINKING: &[&str] = &["includeThoughts", "thinkingBudget", "thinkingLevel"];

/// Refuses a `generationConfig` that the model does not take.
pub(super) fn check(
    config: &Map<String, Value>,
    info: Option<&ModelInfo>,
    is_vertex: bool,
) -> Result<(), Refusal> {
    let place = "generation_config";
    let more = if is_vertex { GENERATION_ON_VERTEX } else { &[] };
    only(config, &[GENERATION, more], place)?;
    if let Some(limit) = field(config, "maxOutputTokens") {
        let place = "generation_config.max_output_tokens";
        let limit = limit
            .as_i64()
            .ok_or_else(|| wrong_type(place, "TYPE_INT32"))?;
        let most = i64::from(info.map_or(u32::MAX, |info| info.max_output));
        if !(1..=most).contains(&limit) {
            return Err(Refusal::invalid(format!(
                "Unable to submit request because it has a maxOutputTokens value of {limit} but \
                 the supported range is from 1 (inclusive) to {} (exclusive).",
                most + 1
            )));
        }
    }
    for name in SAMPLING {
        let Some(value) = field(config, name) else {
            continue;
        };
        if !value.is_number() {
            return Err(wrong_type(&format!("{place}.{name}"), "TYPE_FLOAT"));
        }
        if info.is_some_and(|info| !info.sampling) {
            return Err(Refusal::invalid(format!(
                "{name} is not supported by this model."
            )));
        }
    }
    if let Some(thinking) = field(config, "thinkingConfig") {
        let place = "generation_config.thinking_config";
        let thinking = object(thinking, place)?;
        only(thinking, &[THINKING], place)?;
        let level = field(thinking, "thinkingLevel");
        if let (Some(level), Some(info)) = (level, info) {
            let knows = info
                .thinking_levels
                .iter()
                .any(|known| Some(known.as_str()) == level.as_str());
            if !knows {
                return Err(Refusal::invalid(format!(
                    "Thinking level {level} is not supported for this model."
                )));
            }
        }
    }
    wanted_json(config)
}

fn wanted_json(config: &Map<String, Value>) -> Result<(), Refusal> {
    let json = field(config, "responseJsonSchema");
    let open_api = field(config, "responseSchema");
    if json.is_some() && open_api.is_some() {
        return Err(Refusal::invalid(
            "response_schema and response_json_schema must not both be set.",
        ));
    }
    if json.or(open_api).is_some()
        && field(config, "responseMimeType").and_then(Value::as_str) != Some("application/json")
    {
        return Err(Refusal::invalid(
            "A response schema requires the response_mime_type application/json.",
        ));
    }
    if let Some(wanted) = json {
        schema::json(wanted, "generation_config.response_json_schema")?;
    }
    if let Some(wanted) = open_api {
        schema::open_api(wanted, "generation_config.response_schema")?;
    }
    let formats = field(config, "responseFormat").and_then(Value::as_array);
    for format in formats.into_iter().flatten() {
        if let Some(wanted) = format["text"].get("schema") {
            schema::json(wanted, "generation_config.response_format.text.schema")?;
        }
    }
    Ok(())
}
