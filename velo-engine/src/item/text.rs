//! What full-text search finds a document by.

use serde_json::Value;

/// Most bytes of a document's text that are indexed; what follows is not found by text. The words of any
/// text of this size fit what the database can hold for one row.
pub const TEXT_MAX: usize = 128 * 1024;

/// All texts in a value, in their order.
pub(super) fn of(value: &Value) -> String {
    let mut text = String::new();
    gather(value, &mut text);
    cut(text)
}

/// As much of the text as is indexed.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

fn gather(value: &Value, text: &mut String) {
    match value {
        Value::String(found) if text.len() < TEXT_MAX => {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(found);
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, text)),
        Value::Object(fields) => fields.values().for_each(|field| gather(field, text)),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_of_a_value_is_all_its_texts_up_to_a_whole_character() {
        let value = json!({ "a": ["one", 2, { "b": "three" }], "c": null, "d": "four" });
        assert_eq!(of(&value), "one\nthree\nfour");
        let long = of(&json!("é".repeat(TEXT_MAX)));
        assert_eq!(long.len(), TEXT_MAX);
        assert_eq!(
            of(&json!([format!("a{}", "é".repeat(TEXT_MAX)), "b"])).len(),
            TEXT_MAX - 1
        );
    }
}
