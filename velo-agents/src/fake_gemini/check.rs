//! What the real server refuses in a request, and with which words.

mod generation;
mod schema;

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::received::{Endpoint, Method, Received};
use super::refusal::Refusal;
use crate::model::price;

/// The day for which the list of retired models is right: a test must not fail because of the date.
const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 1).expect("a day of the calendar");
/// Models that are served in `global`, `us` and `eu` alone.
const WITHOUT_REGIONS: [&str; 3] = [
    "gemini-3.8-flash",
    "gemini-3.7-flash",
    "gemini-3.1-pro-preview",
];
/// Longest key or value of a label.
const MAX_LABEL_CHARS: usize = 63;

const REQUEST: &[&str] = &[
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "labels",
];
const REQUEST_BY_KEY: &[&str] = &["model", "serviceTier", "store"];
const REQUEST_ON_VERTEX: &[&str] = &["modelArmorConfig", "continuationToken", "outputConfig"];
const COUNT_BY_KEY: &[&str] = &["contents"];
const COUNT_ON_VERTEX: &[&str] = &[
    "contents",
    "systemInstruction",
    "tools",
    "generationConfig",
    "model",
];
const CONTENT: &[&str] = &["role", "parts"];
const PART: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "thought",
    "thoughtSignature",
    "mediaResolution",
    "videoMetadata",
];
/// Refuses a model that is not known, retired, or not served in the location. `also` names
/// models that are served though no list has them.
pub(super) fn model(received: &Received, also: &[String]) -> Result<(), Refusal> {
    let id = received.model.as_str();
    let is_served = also.iter().any(|known| known == id)
        || price::find(id).is_some_and(|info| info.retires.is_none_or(|day| day > TODAY));
    let found = match &received.endpoint {
        Endpoint::ApiKey { .. } => is_served,
        Endpoint::Vertex { location, .. } => {
            let is_region = !["global", "us", "eu"].contains(&location.as_str());
            is_served && !(is_region && WITHOUT_REGIONS.contains(&id))
        }
    };
    if found {
        return Ok(());
    }
    let message = match &received.endpoint {
        Endpoint::ApiKey { version } => format!(
            "models/{id} is not found for API version {version}, or is not supported for \
             generateContent. Call ListModels to see the list of available models and their supported methods."
        ),
        Endpoint::Vertex { project, location } => format!(
            "Publisher Model `projects/{project}/locations/{location}/publishers/google/models/{id}` \
             was not found or your project does not have access to it. \
             Please ensure you are using a valid model version."
        ),
    };
    Err(Refusal::new(404, message))
}

/// Refuses a body that the real server would not take.
pub(super) fn body(received: &Received, body: &Value) -> Result<(), Refusal> {
    let is_vertex = received.is_vertex();
    let request = object(body, "")?;
    let known: &[&[&str]] = match (received.method, is_vertex) {
        (Method::Count, false) => &[COUNT_BY_KEY],
        (Method::Count, true) => &[COUNT_ON_VERTEX],
        (_, false) => &[REQUEST, REQUEST_BY_KEY],
        (_, true) => &[REQUEST, REQUEST_ON_VERTEX],
    };
    only(request, known, "")?;
    contents(request, is_vertex)?;
    if let Some(system) = field(request, "systemInstruction") {
        content(system, "system_instruction")?;
    }
    if let Some(labels) = field(request, "labels") {
        labelled(object(labels, "labels")?)?;
    }
    match field(request, "generationConfig") {
        Some(config) => generation::check(
            object(config, "generation_config")?,
            price::find(&received.model),
            is_vertex,
        ),
        None => Ok(()),
    }
}

fn contents(request: &Map<String, Value>, is_vertex: bool) -> Result<(), Refusal> {
    let turns = field(request, "contents").and_then(Value::as_array);
    let Some(last) = turns.and_then(|turns| turns.last()) else {
        return Err(Refusal::invalid(if is_vertex {
            "Unable to submit request because at least one contents field is required."
        } else {
            "* GenerateContentRequest.contents: contents is not specified\n"
        }));
    };
    for (index, turn) in turns.into_iter().flatten().enumerate() {
        content(turn, &format!("contents[{index}]"))?;
        match turn["role"].as_str() {
            Some("user" | "model") => {}
            None if !is_vertex && turn.get("role").is_none() => {}
            _ => return Err(Refusal::invalid("Please use a valid role: user, model.")),
        }
    }
    if last["role"].as_str() == Some("model") {
        return Err(Refusal::invalid(
            "Please ensure that multiturn requests end with a user role or a function response.",
        ));
    }
    Ok(())
}

fn content(content: &Value, place: &str) -> Result<(), Refusal> {
    let content = object(content, place)?;
    only(content, &[CONTENT], place)?;
    let parts = content.get("parts").and_then(Value::as_array);
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
        return Err(Refusal::invalid(format!(
            "* GenerateContentRequest.{place}.parts: contents.parts must not be empty.\n"
        )));
    };
    for (index, part) in parts.iter().enumerate() {
        let place = format!("{place}.parts[{index}]");
        let part = object(part, &place)?;
        only(part, &[PART], &place)?;
        if part.get("text").is_some_and(|text| !text.is_string()) {
            return Err(wrong_type(&format!("{place}.text"), "TYPE_STRING"));
        }
    }
    Ok(())
}

fn labelled(labels: &Map<String, Value>) -> Result<(), Refusal> {
    let is_plain = |text: &str| {
        text.len() <= MAX_LABEL_CHARS
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
    };
    for (key, value) in labels {
        let begins_well = key.starts_with(|c: char| c.is_ascii_lowercase());
        if !(begins_well && is_plain(key) && value.as_str().is_some_and(is_plain)) {
            return Err(Refusal::invalid(format!("Invalid label: {key}.")));
        }
    }
    Ok(())
}

/// A field by its name, in either spelling.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object
        .get(name)
        .or_else(|| object.iter().find(|(key, _)| camel(key) == name)?.1.into())
}

fn only(object: &Map<String, Value>, known: &[&[&str]], place: &str) -> Result<(), Refusal> {
    let is_known = |key: &String| {
        let name = camel(key);
        known.iter().any(|names| names.contains(&name.as_str()))
    };
    match object.keys().find(|key| !is_known(key)) {
        Some(key) => Err(Refusal::unknown_field(key, place)),
        None => Ok(()),
    }
}

/// `system_instruction` as `systemInstruction`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        camel.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        camel.push_str(chars.as_str());
    }
    camel
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, Refusal> {
    value
        .as_object()
        .ok_or_else(|| wrong_type(place, "TYPE_MESSAGE"))
}

fn wrong_type(place: &str, kind: &str) -> Refusal {
    Refusal::invalid(format!("Invalid value at '{place}' ({kind})"))
}

#[cfg(test)]
mod tests;
