//! How the writes to a state are merged, for who does not have its type.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How the writes to a field become its value, as far as that can be told without its code. Made by the
/// derive of [`State`](trait@crate::State).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldRule {
    /// The field.
    pub name: String,
    /// What becomes of a write.
    pub merge: MergeRule,
    /// What it is set back to by a step that does not write it, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_to: Option<Value>,
}

/// What becomes of a write to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MergeRule {
    /// It takes the place of what is there.
    Replace,
    /// Its items come at the end of the list.
    Append,
    /// The greater one of numbers or texts stays.
    Max,
    /// The smaller one of numbers or texts stays.
    Min,
    /// Its entries are put into the map.
    Merge,
    /// It is never stored.
    Untracked,
    /// Only the code can tell.
    Opaque,
}

impl FieldRule {
    /// The rule of a field that keeps its value from step to step.
    #[must_use]
    pub fn new(name: &str, merge: MergeRule) -> Self {
        Self {
            name: name.to_owned(),
            merge,
            resets_to: None,
        }
    }

    /// Has a step that does not write the field set it back; only the code can tell to what when that has no
    /// JSON form.
    #[must_use]
    pub fn resets_to(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => self.resets_to = Some(value),
            Err(_) => self.merge = MergeRule::Opaque,
        }
        self
    }
}

/// A state that cannot be told without its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Nobody has told how the graph's state is merged.
    #[error(
        "no worker has told how the state of `{0}` is merged: have one that serves it run once, or read the \
         state by its type"
    )]
    NoOutline(String),
    /// What is stored is of another version of the state than what was told.
    #[error(
        "the state was stored in its version {stored}, and the rules that were told are those of version {told}: \
         read it by its type"
    )]
    OtherVersion {
        /// The version that wrote it.
        stored: u32,
        /// The version of which there are rules.
        told: u32,
    },
    /// The field is merged by code.
    #[error("field `{0}` is merged or stored by code of its own: read the state by its type")]
    Opaque(String),
    /// What was written does not fit the rule.
    #[error("what was written to field `{0}` does not fit how it is merged: did the code change?")]
    Misfit(String),
    /// What is stored is no state, or no list of writes.
    #[error("what is stored is no JSON of a state: it can be read by its type only")]
    NoJson,
}

/// One write, as stored.
#[derive(Debug, Deserialize)]
struct Stored(String, Value, #[serde(default)] bool);

/// Applies what one step wrote to a state.
pub(crate) fn apply(state: &mut Value, delta: &[u8], rules: &[FieldRule]) -> Result<(), RuleError> {
    let writes: Vec<Stored> = serde_json::from_slice(delta).map_err(|_| RuleError::NoJson)?;
    let fields = state.as_object_mut().ok_or(RuleError::NoJson)?;
    for rule in rules {
        if let Some(value) = &rule.resets_to {
            fields.insert(rule.name.clone(), value.clone());
        }
    }
    let is_overwritten = |field: &str| writes.iter().any(|write| write.2 && write.0 == field);
    for Stored(field, value, is_overwrite) in &writes {
        let rule = rules.iter().find(|rule| rule.name == *field);
        let merge = rule.map_or(MergeRule::Opaque, |rule| rule.merge);
        if *is_overwrite && merge != MergeRule::Opaque && merge != MergeRule::Untracked {
            fields.insert(field.clone(), value.clone());
        } else if !is_overwritten(field) || merge == MergeRule::Opaque {
            merged(fields, field, value, merge)?;
        }
    }
    Ok(())
}

fn merged(
    fields: &mut Map<String, Value>,
    field: &str,
    value: &Value,
    merge: MergeRule,
) -> Result<(), RuleError> {
    let misfit = || RuleError::Misfit(field.to_owned());
    let before = fields.remove(field);
    let after = match (merge, before) {
        (MergeRule::Opaque, _) => return Err(RuleError::Opaque(field.to_owned())),
        (MergeRule::Untracked, _) => return Ok(()),
        (MergeRule::Replace, _) | (_, None) => value.clone(),
        (MergeRule::Append, Some(Value::Array(mut items))) => {
            items.extend(value.as_array().ok_or_else(misfit)?.iter().cloned());
            Value::Array(items)
        }
        (MergeRule::Merge, Some(Value::Object(mut entries))) => {
            let more = value.as_object().ok_or_else(misfit)?;
            entries.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::Object(entries)
        }
        (MergeRule::Max, Some(before)) => match is_less(&before, value).ok_or_else(misfit)? {
            true => value.clone(),
            false => before,
        },
        (MergeRule::Min, Some(before)) => match is_less(value, &before).ok_or_else(misfit)? {
            true => value.clone(),
            false => before,
        },
        _ => return Err(misfit()),
    };
    fields.insert(field.to_owned(), after);
    Ok(())
}

/// Whether one is less than the other; `None` when they are not of one kind.
fn is_less(one: &Value, other: &Value) -> Option<bool> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one < other),
        (Value::Number(a), Value::Number(b)) => {
            if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
                return Some(a < b);
            }
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                return Some(a < b);
            }
            Some(a.as_f64()? < b.as_f64()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Overwrite, State, Update};

    #[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    struct All {
        plain: Option<String>,
        #[state(any)]
        any: i64,
        #[state(append)]
        list: Vec<u8>,
        #[state(max)]
        max: i64,
        #[state(min)]
        min: f64,
        #[state(max)]
        last: String,
        #[state(merge)]
        map: BTreeMap<String, u8>,
        #[state(ephemeral, append)]
        brief: Vec<u8>,
        #[state(untracked)]
        #[serde(skip)]
        cache: u8,
    }

    #[derive(Debug, Clone)]
    enum Written {
        Plain(Option<String>),
        List(Vec<u8>, bool),
        Numbers(i64, f64, String),
        Map(BTreeMap<String, u8>, bool),
        Brief(Vec<u8>),
        Any(i64),
    }

    fn update(written: Written) -> AllUpdate {
        let update = All::update();
        match written {
            Written::Plain(value) => update.plain(value),
            Written::List(value, false) => update.list(value),
            Written::List(value, true) => update.list(Overwrite(value)),
            Written::Numbers(max, min, last) => update.max(max).min(min).last(last),
            Written::Map(value, false) => update.map(value),
            Written::Map(value, true) => update.map(Overwrite(value)),
            Written::Brief(value) => update.brief(value).cache(1),
            Written::Any(value) => update.any(value),
        }
    }

    fn any_written() -> impl Strategy<Value = Written> {
        prop_oneof![
            proptest::option::of("[a-c]{0,2}").prop_map(Written::Plain),
            (prop::collection::vec(any::<u8>(), 0..3), any::<bool>())
                .prop_map(|(list, is_over)| Written::List(list, is_over)),
            (
                any::<i64>(),
                (-36..36i32).prop_map(|n| f64::from(n) / 4.0),
                "[a-c]{0,2}"
            )
                .prop_map(|(max, min, last)| Written::Numbers(max, min, last)),
            (
                prop::collection::btree_map("[a-c]", any::<u8>(), 0..3),
                any::<bool>()
            )
                .prop_map(|(map, is_over)| Written::Map(map, is_over)),
            prop::collection::vec(any::<u8>(), 0..3).prop_map(Written::Brief),
            (0..3i64).prop_map(Written::Any),
        ]
    }

    proptest! {
        #[test]
        fn the_rules_give_the_state_that_the_code_gives(
            steps in prop::collection::vec(prop::collection::vec(any_written(), 0..4), 0..6),
        ) {
            let rules = All::rules();
            let mut state = All::default();
            let mut value = serde_json::to_value(&state).unwrap();
            for step in steps {
                let updates: Vec<_> = step.into_iter().map(|written| ("node", update(written))).collect();
                let mut next = state.clone();
                if next.apply(updates.clone()).is_err() {
                    continue;
                }
                state = next;
                let mut writes: Vec<Value> = Vec::new();
                for (_, update) in updates {
                    writes.extend::<Vec<Value>>(serde_json::from_slice(&update.encode().unwrap()).unwrap());
                }
                apply(&mut value, json!(writes).to_string().as_bytes(), &rules).unwrap();
                prop_assert_eq!(&value, &serde_json::to_value(&state).unwrap());
            }
        }
    }

    fn fold(sum: &mut u64, more: u64) {
        *sum += more;
    }

    fn newest() -> u8 {
        1
    }

    #[derive(State, Debug, Clone, Serialize, Deserialize)]
    #[allow(
        clippy::derive_partial_eq_without_eq,
        reason = "only its rules are looked at"
    )]
    struct Odd {
        #[state(reduce = fold)]
        sum: u64,
        #[serde(rename = "else")]
        renamed: u8,
        #[state(max)]
        level: Level,
        #[serde(default)]
        later: u8,
        #[serde(default = "newest")]
        odd: u8,
    }

    #[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
    enum Level {
        Low,
        High,
    }

    #[derive(State, Debug, Clone, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Camel {
        two_words: u8,
    }

    #[test]
    fn what_only_the_code_can_tell_is_not_guessed() {
        let merges: Vec<_> = Odd::rules().into_iter().map(|rule| rule.merge).collect();
        use MergeRule::{Opaque, Replace};
        assert_eq!(merges, [Opaque, Opaque, Opaque, Replace, Opaque]);
        assert_eq!(Camel::rules()[0].merge, Opaque);
        let odd = Odd {
            sum: 0,
            renamed: 0,
            level: Level::Low,
            later: 0,
            odd: 0,
        };
        let mut value = serde_json::to_value(&odd).unwrap();
        let refused = apply(&mut value, br#"[["sum", 1]]"#, &Odd::rules());
        assert_eq!(refused, Err(RuleError::Opaque("sum".to_owned())));
        let refused = apply(&mut value, br#"[["sum", 1, true]]"#, &Odd::rules());
        assert_eq!(refused, Err(RuleError::Opaque("sum".to_owned())));
        apply(&mut value, br#"[["later", 7]]"#, &Odd::rules()).unwrap();
        assert_eq!(value["later"], 7);
        let unknown = apply(&mut value, br#"[["nobody", 7]]"#, &Odd::rules());
        assert_eq!(unknown, Err(RuleError::Opaque("nobody".to_owned())));
        let _ = Level::High;
    }
}
