//! The request body, from a [`ChatRequest`].

use serde_json::{Map, Value, json};

use crate::model::price::{self, ModelInfo};
use crate::model::{ChatRequest, ModelError, ModelErrorKind, Role, schema};

/// Least value of `maxOutputTokens`: thinking is counted too, so that a small cap gives a
/// fragment instead of a short reply.
pub const MIN_OUTPUT_TOKENS: u32 = 8_192;
/// Longest value of a billing label.
const MAX_LABEL_CHARS: usize = 63;

/// The body of `generateContent`.
pub(super) fn body(
    request: &ChatRequest,
    model: &str,
    has_labels: bool,
) -> Result<Value, ModelError> {
    let mut body = Map::new();
    body.insert("contents".to_owned(), contents(request)?);
    if !request.system.is_empty() {
        let system = json!({"parts": [{"text": request.system}]});
        body.insert("systemInstruction".to_owned(), system);
    }
    let generation = generation_config(request, price::find(model))?;
    body.insert("generationConfig".to_owned(), generation);
    if has_labels {
        let labels = json!({
            "velo_agent": label(&request.agent),
            "velo_purpose": label(&request.purpose),
        });
        body.insert("labels".to_owned(), labels);
    }
    Ok(Value::Object(body))
}

/// The turns alone, which is all that `countTokens` of the API-key endpoint takes.
pub(super) fn contents(request: &ChatRequest) -> Result<Value, ModelError> {
    match request.turns.last() {
        Some(last) if last.role == Role::User => {}
        _ => {
            return Err(ModelError::new(
                ModelErrorKind::BadRequest,
                format!(
                    "could not ask the model for {}: the last turn must be the user's, add one",
                    request.purpose
                ),
            ));
        }
    }
    let turn = |role: &str, text: &str| json!({"role": role, "parts": [{"text": text}]});
    Ok(request
        .turns
        .iter()
        .map(|said| match said.role {
            Role::User => turn("user", &said.text),
            Role::Model => turn("model", &said.text),
        })
        .collect())
}

fn generation_config(request: &ChatRequest, info: Option<&ModelInfo>) -> Result<Value, ModelError> {
    let most = info.map_or(u32::MAX, |info| info.max_output);
    let cap = request.max_output_tokens.max(MIN_OUTPUT_TOKENS).min(most);
    let mut config = Map::new();
    config.insert("maxOutputTokens".to_owned(), cap.into());
    if let Some(temperature) = request.temperature
        && info.is_some_and(|info| info.sampling)
    {
        config.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(level) = info.and_then(|info| info.thinking) {
        let thinking = json!({"thinkingLevel": level.as_str()});
        config.insert("thinkingConfig".to_owned(), thinking);
    }
    if let Some(wanted) = &request.schema {
        let accepted = schema::for_gemini(wanted).map_err(|error| {
            ModelError::new(
                ModelErrorKind::BadRequest,
                format!(
                    "could not ask the model for {}: its reply type cannot be described to it: {error}",
                    request.purpose
                ),
            )
            .with_source(error)
        })?;
        config.insert("responseMimeType".to_owned(), "application/json".into());
        config.insert("responseJsonSchema".to_owned(), accepted);
    }
    Ok(Value::Object(config))
}

/// `text` as a billing label takes it: lowercase letters, digits, `_` and `-`.
pub(super) fn label(text: &str) -> String {
    text.chars()
        .take(MAX_LABEL_CHARS)
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' => c,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Tier, Turn};

    fn request() -> ChatRequest {
        ChatRequest {
            agent: "Oracle".to_owned(),
            purpose: "draft prd".to_owned(),
            tier: Tier::Pro,
            system: "be brief".to_owned(),
            turns: vec![Turn {
                role: Role::User,
                text: "hello".to_owned(),
            }],
            schema: None,
            temperature: Some(0.5),
            max_output_tokens: 100,
        }
    }

    #[test]
    fn a_model_without_sampling_gets_no_temperature_and_its_thinking_level() {
        let sent = body(&request(), "gemini-3.8-flash", false).unwrap();
        assert_eq!(
            sent,
            json!({
                "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
                "systemInstruction": {"parts": [{"text": "be brief"}]},
                "generationConfig": {
                    "maxOutputTokens": 8192,
                    "thinkingConfig": {"thinkingLevel": "MEDIUM"},
                },
            })
        );
    }

    #[test]
    fn a_model_with_sampling_gets_the_temperature_and_labels_are_made_legal() {
        let sent = body(&request(), "gemini-3.1-flash-lite", true).unwrap();
        assert_eq!(sent["generationConfig"]["temperature"], 0.5);
        assert_eq!(
            sent["labels"],
            json!({"velo_agent": "oracle", "velo_purpose": "draft_prd"})
        );
    }

    #[test]
    fn an_unknown_model_gets_neither() {
        let sent = body(&request(), "gemini-9", false).unwrap();
        assert_eq!(sent["generationConfig"], json!({"maxOutputTokens": 8192}));
    }

    #[test]
    fn the_cap_stays_below_the_most_that_the_model_gives() {
        let mut request = request();
        request.max_output_tokens = u32::MAX;
        let sent = body(&request, "gemini-3.8-flash", false).unwrap();
        assert_eq!(sent["generationConfig"]["maxOutputTokens"], 65_536);
    }

    #[test]
    fn a_conversation_must_end_with_the_user() {
        let mut request = request();
        request.turns[0].role = Role::Model;
        let error = body(&request, "gemini-9", false).unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::BadRequest);
        request.turns.clear();
        assert!(body(&request, "gemini-9", false).is_err());
    }
}
