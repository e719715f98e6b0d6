//! Limits that hold everywhere in a document.

use serde::Serialize;
use serde_json::Value;

use super::Finding;

/// Most characters of one text.
const MAX_TEXT_CHARS: usize = 4_000;
/// Most items of one list.
const MAX_ITEMS: usize = 200;
/// Most bytes of the whole draft as JSON.
const MAX_BYTES: usize = 512 * 1024;

/// Texts that are too long or hold control characters, lists that are too long, and a document
/// that is too large. Text with a NUL could not even be stored.
pub(super) fn check(draft: &impl Serialize, findings: &mut Vec<Finding>) {
    let value = serde_json::to_value(draft).expect("a draft is made of texts and lists");
    let bytes = value.to_string().len();
    if bytes > MAX_BYTES {
        findings.push(Finding::new(
            "",
            format!("has {bytes} bytes; write at most {MAX_BYTES}"),
        ));
    }
    walk(&value, "", findings);
}

fn walk(value: &Value, path: &str, findings: &mut Vec<Finding>) {
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if length > MAX_TEXT_CHARS {
                findings.push(Finding::new(
                    path,
                    format!("has {length} characters; write at most {MAX_TEXT_CHARS}"),
                ));
            }
            if text.contains(|letter: char| letter.is_control() && letter != '\n' && letter != '\t')
            {
                findings.push(Finding::new(
                    path,
                    "has control characters; write plain text",
                ));
            }
        }
        Value::Array(items) => {
            if items.len() > MAX_ITEMS {
                findings.push(Finding::new(
                    path,
                    format!("has {} items; write at most {MAX_ITEMS}", items.len()),
                ));
            }
            for (at, item) in items.iter().enumerate() {
                walk(item, &format!("{path}/{at}"), findings);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                walk(field, &format!("{path}/{name}"), findings);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
