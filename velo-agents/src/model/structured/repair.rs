//! JSON from text that nearly is JSON.
//!
//! Mended is only what can be read in one way: a byte-order mark, Markdown fences, words around
//! the JSON, trailing commas, and single quotes when nothing else could be meant. A bracket that
//! was never closed is not closed here: what is missing behind it is not known.

use std::ops::Range;

use serde_json::Value;

/// Most places in a text at which JSON is looked for.
const MAX_CANDIDATES: usize = 16;
/// Most fenced blocks that are looked into.
const MAX_FENCES: usize = 4;
const FENCE: &str = "```";

/// The JSON that `text` contains, or `None` when that is not certain. The first object wins, else
/// the first array. Text that is JSON already is read as it is.
///
/// ```
/// use serde_json::json;
/// use velo_agents::model::structured::repair;
///
/// assert_eq!(repair("Here it is:\n```json\n{\"a\": [1, 2,],}\n```"), Some(json!({"a": [1, 2]})));
/// assert_eq!(repair("{'a': 'b'}"), Some(json!({"a": "b"})));
/// assert_eq!(repair("{\"a\": [1, 2"), None);
/// ```
#[must_use]
pub fn repair(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut array = None;
    for part in fenced(text).chain([text]) {
        for candidate in balanced(part) {
            match read(candidate) {
                Some(value @ Value::Object(_)) => return Some(value),
                Some(value) => array = array.or(Some(value)),
                None => {}
            }
        }
    }
    array
}

fn read(candidate: &str) -> Option<Value> {
    serde_json::from_str(candidate)
        .or_else(|_| serde_json::from_str(&without_trailing_commas(candidate)))
        .ok()
        .or_else(|| {
            let quoted = with_double_quotes(candidate)?;
            serde_json::from_str(&without_trailing_commas(&quoted)).ok()
        })
}

/// The insides of Markdown fences. A fence begins a line, which nothing inside a JSON string can.
fn fenced(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let opening = fence_line(rest)?;
        let inside = &rest[opening.end..];
        let closing = fence_line(inside).unwrap_or(inside.len()..inside.len());
        rest = &inside[closing.end..];
        Some(&inside[..closing.start])
    })
    .take(MAX_FENCES)
}

/// Where the first line is that begins with a fence, its line break included.
fn fence_line(text: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with(FENCE) {
            return Some(start..start + line.len());
        }
        start += line.len();
    }
    None
}

/// Pieces that open with a bracket and end with its partner, one behind the other. A piece that
/// is never closed ends the search: what lies inside it is a part and not the whole.
fn balanced(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(['{', '['])?;
        let piece = &rest[start..];
        let Some(end) = partner(piece) else {
            rest = "";
            return None;
        };
        rest = &piece[end..];
        Some(&piece[..end])
    })
    .take(MAX_CANDIDATES)
}

/// The length of the piece that `text`'s first bracket opens.
fn partner(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut outside = Outside::default();
    for (at, byte) in text.bytes().enumerate() {
        if !outside.is_structure(byte) {
            continue;
        }
        match byte {
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' => {
                if open.pop() != Some(byte) {
                    return None;
                }
                if open.is_empty() {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn without_trailing_commas(text: &str) -> String {
    let mut outside = Outside::default();
    let mut kept = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        // Structure is ASCII, so a byte that stands for any other character will do.
        let byte = u8::try_from(character).unwrap_or(b'x');
        let is_comma = outside.is_structure(byte) && character == ',';
        if is_comma && text[at + 1..].trim_start().starts_with(['}', ']']) {
            continue;
        }
        kept.push(character);
    }
    kept
}

/// `text` with its single quotes doubled, if every one of them can only be a delimiter.
fn with_double_quotes(text: &str) -> Option<String> {
    if text.contains(['"', '\\']) {
        return None;
    }
    let mut is_inside = false;
    for (at, _) in text.match_indices('\'') {
        let (before, after) = (text[..at].trim_end(), text[at + 1..].trim_start());
        let opens = before.ends_with(['{', '[', ',', ':']);
        let closes = after.starts_with(['}', ']', ',', ':']);
        let is_clear = if is_inside { closes } else { opens };
        // `'a', 'b'` inside a text would look like two texts.
        if !is_clear || (is_inside && opens) {
            return None;
        }
        is_inside = !is_inside;
    }
    (!is_inside).then(|| text.replace('\'', "\""))
}

/// Knows, byte by byte, what is JSON's structure and what is inside a string.
#[derive(Debug, Default)]
struct Outside {
    is_string: bool,
    is_escaped: bool,
}

impl Outside {
    fn is_structure(&mut self, byte: u8) -> bool {
        if !self.is_string {
            self.is_string = byte == b'"';
            return !self.is_string;
        }
        if self.is_escaped {
            self.is_escaped = false;
        } else if byte == b'\\' {
            self.is_escaped = true;
        } else if byte == b'"' {
            self.is_string = false;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_read_in_one_way_is_mended() {
        let wanted = Some(json!({"a": [1, {"b": "},]"}]}));
        for text in [
            "{\"a\": [1, {\"b\": \"},]\"}]}",
            "\u{feff}{\"a\": [1, {\"b\": \"},]\"}]}",
            "```json\n{\"a\": [1, {\"b\": \"},]\"}]}\n```",
            "```\n{\"a\": [1, {\"b\": \"},]\"}]}",
            "As in [1], see: {\"a\": [1, {\"b\": \"},]\"}]}. Hope {this} helps",
            "{\"a\": [1, {\"b\": \"},]\",},\n ], }",
        ] {
            assert_eq!(repair(text), wanted, "{text}");
        }
        assert_eq!(repair("the list: [1, 2,]"), Some(json!([1, 2])));
        assert_eq!(
            repair("{'a': ['b', 'c d',],}"),
            Some(json!({"a": ["b", "c d"]}))
        );
    }

    #[test]
    fn what_could_mean_several_things_is_left_alone() {
        for text in [
            "",
            "no JSON here",
            "{\"a\": [1, 2",
            "{\"a\": {\"b\": 1}",
            "[1, {\"a\": 2}",
            "{\"a\": 1]}",
            "{'it's': 1}",
            "{'a': 'x', 'b' : 'don't, 'c'}",
            "{a: 1}",
            "{\"a\": 'b'}",
        ] {
            assert_eq!(repair(text), None, "{text}");
        }
    }

    #[test]
    fn brackets_without_end_are_given_up_quickly() {
        assert_eq!(repair(&"[".repeat(1_000_000)), None);
        assert_eq!(repair(&"{}x".repeat(1_000_000)), Some(json!({})));
        assert_eq!(
            repair(&format!("{}{}", "[".repeat(500_000), "]".repeat(500_000))),
            None
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\[\\]{}',:\"\\\\` \n]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>(), bits in "[\\[\\]{}',:\"\\\\`a1 \n\u{feff}]{0,60}") {
            let _ = repair(&text);
            let _ = repair(&bits);
        }

        #[test]
        fn json_stays_as_it_is(value in any_json()) {
            let plain = value.to_string();
            prop_assert_eq!(repair(&plain), Some(value.clone()));
            let pretty = serde_json::to_string_pretty(&value).expect("a value is JSON");
            prop_assert_eq!(repair(&pretty), Some(value.clone()));
            if value.is_object() {
                prop_assert_eq!(repair(&format!("Sure:\n```json\n{pretty}\n```\n")), Some(value));
            }
        }

        #[test]
        fn a_cut_object_is_never_taken_for_a_whole_one(value in any_json(), cut in any::<prop::sample::Index>()) {
            let text = json!({"whole": value}).to_string();
            let end = text.floor_char_boundary(cut.index(text.len()));
            prop_assert_eq!(repair(&text[..end]), None);
        }
    }
}
