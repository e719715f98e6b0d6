//! Telling failures that are the same but for their numbers, names and times.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::NodeError;

/// Names the fingerprints of failures among all name-based UUIDs.
const FINGERPRINTS: Uuid = Uuid::from_u128(0x7665_6c6f_0000_4000_8000_0000_0000_0002);

/// The same for failures of the same kind whose messages and causes differ in numbers, hexadecimal ids and
/// quoted parts alone.
pub(crate) fn of(error: &NodeError) -> String {
    let mut text = kind(error);
    for part in std::iter::once(&error.message).chain(&error.causes) {
        text.push('\n');
        text.push_str(&normalised(part));
    }
    let hash = Uuid::new_v5(&FINGERPRINTS, text.as_bytes());
    format!("{:016x}", hash.as_u64_pair().0)
}

/// The name of its kind: how long to wait, or which limit was passed, says nothing.
fn kind(error: &NodeError) -> String {
    match serde_json::to_value(error.kind).unwrap_or_default() {
        Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
        plain => plain.as_str().unwrap_or_default().to_owned(),
    }
}

/// What may be known of why a run is paused.
pub(crate) fn failed_as(why: &Value) -> Value {
    let error: Option<NodeError> = serde_json::from_value(why.clone()).ok();
    let mut known = json!({
        "kind": error.as_ref().map_or_else(|| why["kind"].clone(), |error| json!(kind(error))),
        "fingerprint": error.as_ref().map(of),
    });
    if let Some(node) = why["node"].as_str() {
        known["node"] = json!(node);
    }
    known
}

fn normalised(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // An apostrophe within a word quotes nothing.
            '`' | '"' | '\'' if letter != '\'' || !plain.ends_with(char::is_alphanumeric) => {
                plain.push('?');
                if letters.clone().any(|other| other == letter) {
                    letters.by_ref().find(|other| *other == letter);
                }
            }
            _ if letter.is_alphanumeric() => {
                let mut word = String::from(letter);
                while let Some(next) =
                    letters.next_if(|next| next.is_alphanumeric() || *next == '_')
                {
                    word.push(next);
                }
                if word.contains(|letter: char| letter.is_ascii_digit()) {
                    plain.push('#');
                } else {
                    plain.push_str(&word);
                }
            }
            _ if letter.is_whitespace() => {
                if !plain.ends_with(' ') {
                    plain.push(' ');
                }
            }
            other => plain.push(other),
        }
    }
    // Ids with dashes, times and addresses: how many parts they have says nothing.
    let mut short = String::with_capacity(plain.len());
    for letter in plain.trim().chars() {
        if letter == '#'
            && (short.ends_with("#-") || short.ends_with("#:") || short.ends_with("#."))
        {
            short.pop();
        } else if !(letter == '#' && short.ends_with('#')) {
            short.push(letter);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NodeErrorKind;

    #[test]
    fn failures_that_differ_in_numbers_and_names_alone_are_the_same() {
        let of = |text: &str| of(&NodeError::transient(text));
        assert_eq!(of("order 17 was refused"), of("order 4711 was refused"));
        assert_eq!(of("no user `ada`"), of("no user `ben`"));
        assert_eq!(
            of("row 7e57d004-2b97-0e7a-b45f-5387367791cd is locked"),
            of("row 12 is locked")
        );
        assert_eq!(of("at 12:00:01  it broke"), of("at 9:30 it broke"));
        assert_ne!(of("order 17 was refused"), of("order 17 was lost"));
        assert_eq!(of("it doesn't fit into 3"), of("it doesn't fit into 4"));
        assert_ne!(of("it doesn't fit"), of("it doesn't work"));
    }

    #[test]
    fn the_kind_and_the_causes_tell_failures_apart_and_a_delay_does_not() {
        let mut slow = NodeError::transient("busy");
        slow.kind = NodeErrorKind::RetryAfter(std::time::Duration::from_secs(1));
        let mut slower = slow.clone();
        slower.kind = NodeErrorKind::RetryAfter(std::time::Duration::from_secs(2));
        assert_eq!(of(&slow), of(&slower));
        assert_ne!(of(&slow), of(&NodeError::transient("busy")));
        let mut caused = NodeError::transient("busy");
        caused.causes = vec!["reset by peer".to_owned()];
        assert_ne!(of(&caused), of(&NodeError::transient("busy")));
    }
}
