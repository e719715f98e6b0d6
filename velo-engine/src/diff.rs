//! What differs between two states.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{Engine, EngineError};
use crate::run_id::RunId;
use crate::state::State;

/// One difference, at a place named by its JSON Pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// Something is there that was not.
    Added {
        /// The place.
        at: String,
        /// What is there now.
        value: Value,
    },
    /// Something is not there any more.
    Removed {
        /// The place.
        at: String,
        /// What was there.
        value: Value,
    },
    /// Something is another value.
    Changed {
        /// The place; empty for the whole.
        at: String,
        /// What was there.
        from: Value,
        /// What is there now.
        to: Value,
    },
}

/// What makes one JSON value into another, in an order in which it can be applied. Objects are compared
/// by key, lists by position.
///
/// ```
/// use serde_json::json;
/// use velo_engine::Diff;
///
/// let (before, after) = (json!({ "lines": ["a"] }), json!({ "lines": ["a", "b"] }));
/// let diff = Diff::between(&before, &after);
/// let mut state = before.clone();
/// diff.apply(&mut state)?;
/// assert_eq!(state, after);
/// # Ok::<(), velo_engine::DiffError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diff(pub Vec<Change>);

/// A diff that does not fit what it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not apply the change at `{at}`: what is there is not what the diff was made from")]
pub struct DiffError {
    /// The place.
    pub at: String,
}

impl Diff {
    /// What makes `before` into `after`.
    #[must_use]
    pub fn between(before: &Value, after: &Value) -> Self {
        let mut changes = Vec::new();
        compare(&mut String::new(), before, after, &mut changes);
        Self(changes)
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// [`DiffError`] when the value is not the one from which the diff was made; some changes may have
    /// been made then.
    pub fn apply(&self, value: &mut Value) -> Result<(), DiffError> {
        self.0.iter().try_for_each(|change| change.apply(value))
    }
}

impl Change {
    /// The place.
    #[must_use]
    pub fn at(&self) -> &str {
        match self {
            Self::Added { at, .. } | Self::Removed { at, .. } | Self::Changed { at, .. } => at,
        }
    }

    fn apply(&self, root: &mut Value) -> Result<(), DiffError> {
        self.try_apply(root).ok_or_else(|| DiffError {
            at: self.at().to_owned(),
        })
    }

    fn try_apply(&self, root: &mut Value) -> Option<()> {
        if let Self::Changed { at, from, to } = self {
            let slot = root.pointer_mut(at).filter(|found| *found == from)?;
            to.clone_into(slot);
            return Some(());
        }
        let (parent, last) = self.at().rsplit_once('/')?;
        let parent = root.pointer_mut(parent)?;
        match (self, parent) {
            (Self::Added { value, .. }, Value::Object(fields)) => fields
                .insert(unescaped(last), value.clone())
                .is_none()
                .then_some(()),
            // Lists grow and shrink at their end alone.
            (Self::Added { value, .. }, Value::Array(items)) => {
                (last.parse() == Ok(items.len())).then(|| items.push(value.clone()))
            }
            (Self::Removed { value, .. }, Value::Object(fields)) => {
                (fields.remove(&unescaped(last)).as_ref() == Some(value)).then_some(())
            }
            (Self::Removed { value, .. }, Value::Array(items)) => {
                let is_last = last.parse::<usize>().ok()?.checked_add(1)? == items.len();
                (is_last && items.pop().as_ref() == Some(value)).then_some(())
            }
            _ => None,
        }
    }
}

fn compare(at: &mut String, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => fields(at, before, after, changes),
        (Value::Array(before), Value::Array(after)) => items(at, before, after, changes),
        _ if before == after => (),
        _ => changes.push(Change::Changed {
            at: at.clone(),
            from: before.clone(),
            to: after.clone(),
        }),
    }
}

fn fields(
    at: &mut String,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    changes: &mut Vec<Change>,
) {
    for (name, old) in before {
        below(at, &escaped(name), |at| match after.get(name) {
            Some(new) => compare(at, old, new, changes),
            None => changes.push(Change::Removed {
                at: at.clone(),
                value: old.clone(),
            }),
        });
    }
    for (name, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
        below(at, &escaped(name), |at| {
            changes.push(Change::Added {
                at: at.clone(),
                value: new.clone(),
            });
        });
    }
}

fn items(at: &mut String, before: &[Value], after: &[Value], changes: &mut Vec<Change>) {
    for (index, (old, new)) in before.iter().zip(after).enumerate() {
        below(at, &index.to_string(), |at| compare(at, old, new, changes));
    }
    // From the end, so that no removal moves what a later one names.
    for (index, old) in before.iter().enumerate().skip(after.len()).rev() {
        changes.push(Change::Removed {
            at: format!("{at}/{index}"),
            value: old.clone(),
        });
    }
    for (index, new) in after.iter().enumerate().skip(before.len()) {
        changes.push(Change::Added {
            at: format!("{at}/{index}"),
            value: new.clone(),
        });
    }
}

fn below(at: &mut String, name: &str, visit: impl FnOnce(&mut String)) {
    let length = at.len();
    at.push('/');
    at.push_str(name);
    visit(at);
    at.truncate(length);
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

impl Engine {
    /// What differs between the state after step `before` of a run and that after step `after`, which
    /// may also be an earlier one.
    ///
    /// # Errors
    /// As [`state_at`](Self::state_at), or [`EngineError::Unstorable`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn diff<S: State>(
        &self,
        run: RunId,
        before: i32,
        after: i32,
    ) -> Result<Diff, EngineError> {
        let json = |state: S| {
            serde_json::to_value(state).map_err(|source| EngineError::Unstorable { source })
        };
        let before = json(self.state_at::<S>(run, before).await?)?;
        let after = json(self.state_at::<S>(run, after).await?)?;
        Ok(Diff::between(&before, &after))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3i64).prop_map(Value::from),
            "[a~/01]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a~/01]{0,2}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_diff_that_is_applied_gives_the_other_value(before in any_json(), after in any_json()) {
            let diff = Diff::between(&before, &after);
            prop_assert_eq!(diff.is_empty(), before == after);
            let mut value = before;
            prop_assert_eq!(diff.apply(&mut value), Ok(()));
            prop_assert_eq!(value, after);
        }
    }

    #[test]
    fn a_diff_names_places_and_refuses_another_value() {
        let diff = Diff::between(
            &json!({ "a/b": [1, 2], "c": 1 }),
            &json!({ "a/b": [1], "c": 2 }),
        );
        let told: Vec<_> = diff.0.iter().map(Change::at).collect();
        assert_eq!(told, ["/a~1b/1", "/c"]);
        let refused = diff.apply(&mut json!({ "a/b": [1, 3], "c": 1 }));
        assert_eq!(refused.unwrap_err().at, "/a~1b/1");
    }
}
