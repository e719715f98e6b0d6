//! What a value must be to be stored, and read back as it was.
//!
//! JSON has neither infinite numbers nor NaN, which would silently become null, and Postgres has no NUL
//! character in its JSON. Both are refused where a value comes in, by name.

mod check;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use check::check;

/// A value that could not be read back as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{at}` holds {holds}, which cannot be stored: write something else in its place")]
pub struct BadValue {
    /// Where in the value it is, such as `state.scores[3]` or `scores.mean`.
    pub at: String,
    /// What is there.
    pub holds: Unstored,
}

/// What cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unstored {
    /// A NUL character in a text.
    Nul,
    /// A number that is NaN or infinite.
    NotFinite,
}

impl fmt::Display for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nul => "a text with a NUL character",
            Self::NotFinite => "a number that is NaN or infinite",
        })
    }
}

/// Why a value cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStorable {
    #[error(transparent)]
    Bad(#[from] BadValue),
    #[error("it has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

/// The JSON of a value, which is called `name` when something in it is refused.
pub(crate) fn to_vec<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Vec<u8>, NotStorable> {
    let json = serde_json::to_string(value)?;
    check_written(name, value, &json)?;
    Ok(json.into_bytes())
}

/// As [`to_vec`], as a value.
pub(crate) fn to_value<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Value, NotStorable> {
    let json = serde_json::to_value(value)?;
    check(name, value)?;
    Ok(json)
}

/// Checks a value of which the JSON is there. Nearly always a look at that is enough.
pub(crate) fn check_written<T: Serialize + ?Sized>(
    name: &str,
    value: &T,
    json: &str,
) -> Result<(), BadValue> {
    if json.contains("null") || json.contains("\\u0000") {
        check(name, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Serialize)]
    struct Report {
        title: String,
        mean: Option<f64>,
        scores: Vec<f32>,
        notes: BTreeMap<String, Note>,
    }

    #[derive(Debug, Serialize)]
    enum Note {
        Text(String),
        Range { from: f64, to: f64 },
    }

    fn refused(value: &impl Serialize) -> Option<(String, Unstored)> {
        let by_vec = to_vec("report", value).err();
        let by_value = to_value("report", value).err();
        let told = |error| match error {
            NotStorable::Bad(bad) => (bad.at, bad.holds),
            NotStorable::Json(error) => panic!("{error}"),
        };
        let (by_vec, by_value) = (by_vec.map(told), by_value.map(told));
        assert_eq!(by_vec, by_value);
        by_vec
    }

    #[test]
    fn what_cannot_be_stored_is_named_by_its_place() {
        let note = |note| Report {
            notes: BTreeMap::from([("a b".to_owned(), note)]),
            ..Report::default()
        };
        let cases = [
            (
                Report {
                    mean: Some(f64::NAN),
                    ..Report::default()
                },
                ("report.mean", Unstored::NotFinite),
            ),
            (
                Report {
                    scores: vec![1.0, f32::INFINITY],
                    ..Report::default()
                },
                ("report.scores[1]", Unstored::NotFinite),
            ),
            (
                Report {
                    title: "a\0b".to_owned(),
                    ..Report::default()
                },
                ("report.title", Unstored::Nul),
            ),
            (
                note(Note::Text("\0".to_owned())),
                ("report.notes.a b.Text", Unstored::Nul),
            ),
            (
                note(Note::Range {
                    from: 0.0,
                    to: f64::NEG_INFINITY,
                }),
                ("report.notes.a b.Range.to", Unstored::NotFinite),
            ),
        ];
        for (report, (at, holds)) in cases {
            assert_eq!(refused(&report), Some((at.to_owned(), holds)));
        }
        let keyed = BTreeMap::from([("\0", 1)]);
        assert_eq!(refused(&keyed).unwrap().1, Unstored::Nul);
        assert_eq!(
            refused(&json!(["a", { "b": "\0" }])).unwrap().0,
            "report[1].b"
        );
        assert_eq!(refused(&f64::NAN).unwrap().0, "report");
    }

    #[test]
    fn what_only_looks_like_it_is_stored() {
        let report = Report {
            title: "null \\u0000 NaN".to_owned(),
            ..Report::default()
        };
        assert_eq!(refused(&report), None);
        assert_eq!(refused(&Some(Some(()))), None);
        assert_eq!(refused(&(i64::MIN, u64::MAX, 'x', true)), None);
    }

    #[test]
    fn json_that_is_given_as_text_is_looked_into() {
        let raw = serde_json::value::RawValue::from_string(r#"{"a":"\u0000"}"#.to_owned()).unwrap();
        assert_eq!(refused(&raw), Some(("report.a".to_owned(), Unstored::Nul)));
        let raw = serde_json::value::RawValue::from_string(r#"["\\u0000"]"#.to_owned()).unwrap();
        assert_eq!(refused(&raw), None);
    }

    proptest! {
        #[test]
        fn a_value_is_refused_if_and_only_if_it_would_not_be_read_back(
            numbers in proptest::collection::vec(any::<f64>(), 0..6),
            texts in proptest::collection::vec("[\\x00a-c\"\\\\]{0,4}", 0..6),
        ) {
            let value = (numbers.clone(), texts.clone());
            let is_fine = numbers.iter().all(|number| number.is_finite())
                && texts.iter().all(|text| !text.contains('\0'));
            prop_assert_eq!(refused(&value).is_none(), is_fine);
            if is_fine {
                let json = to_vec("value", &value).unwrap();
                let read: (Vec<f64>, Vec<String>) = serde_json::from_slice(&json).unwrap();
                prop_assert_eq!(read, value);
            }
        }
    }
}
