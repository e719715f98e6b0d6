//! A graph's state: a typed struct, changed only by partial updates that are merged field by field.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::near::{Hint, nearest};
use crate::rule::FieldRule;
use crate::schema::{ReplayError, Written};
use crate::storable::{self, BadValue};

/// The state of a graph. Derive it: `#[derive(State)]`, on a struct with named fields that also has
/// `Clone`, `Debug`, `Serialize` and `Deserialize`.
///
/// The derive adds `update()`, which begins a partial update, and on that a setter for each field. Nodes
/// write through it alone: fields that are not named stay as they are. A field without an attribute has
/// one writer a step, and a second one pauses the run; fields that tasks write side by side have a
/// reducer:
///
/// ```
/// use std::collections::BTreeMap;
/// use serde::{Deserialize, Serialize};
/// use velo_engine::{Overwrite, State};
///
/// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// struct Report {
///     topic: String,
///     reviewer: Option<String>,
///     #[state(append)]
///     drafts: Vec<String>,
///     #[state(max)]
///     score: u32,
///     #[state(merge)]
///     notes: BTreeMap<String, String>,
///     #[state(reduce = add)]
///     cents: u64,
/// }
///
/// fn add(sum: &mut u64, more: u64) {
///     *sum += more;
/// }
///
/// let update = Report::update()
///     .topic("bees")
///     .reviewer(Some("Ada".to_owned())) // setters take the field's own type
///     .drafts(vec!["one more".to_owned()])
///     .cents(250);
/// let fresh = Report::update().drafts(Overwrite(Vec::new())); // in place of what is there
/// # let _ = (update, fresh);
/// ```
///
/// The state is stored as JSON, and runs that are under way are read back by whatever code goes on with
/// them. A field that is added needs `#[serde(default)]`, one that is renamed `#[serde(alias = "old")]`;
/// all else that changes needs a new version of the state with an upcast, see the derive.
pub trait State: Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// The partial update of this state.
    type Update: Update<State = Self>;

    /// Names of the fields, in the order of declaration.
    const FIELDS: &'static [&'static str];

    /// How writes are merged, as far as that can be told without code. What is not told is left to the code.
    #[must_use]
    fn rules() -> Vec<FieldRule> {
        Vec::new()
    }

    /// Version of the stored form, from one on: `#[state(version = 2, from = ReportV1)]`.
    const VERSION: u32 = 1;

    /// The oldest version whose stored form can be read, by upcasts.
    const OLDEST: u32 = Self::VERSION;

    /// Reads what is stored, also by older versions, up to the first thing that a newer one has written.
    ///
    /// # Errors
    /// [`ReplayError`].
    fn restore(written: &mut Written<'_>) -> Result<Self, ReplayError> {
        written.read()
    }

    /// Applies what the nodes of one step wrote, in the given order.
    ///
    /// # Errors
    /// [`ConcurrentUpdate`] when a field without a reducer was written twice, one of equal values was
    /// written differently, or a field was overwritten twice. The state is unchanged then.
    fn apply(&mut self, updates: Vec<(&str, Self::Update)>) -> Result<(), ConcurrentUpdate>;
}

/// A partial update: some fields of a state, in the order in which they were written.
pub trait Update: Clone + Default + fmt::Debug + Send + Sync + 'static {
    /// The state that it updates.
    type State: State<Update = Self>;

    /// As stored: JSON, a list of `[field, value]` or, for an overwrite, `[field, value, true]`.
    ///
    /// # Errors
    /// [`CodecError`] when a value cannot be written as JSON.
    fn encode(&self) -> Result<Vec<u8>, CodecError>;

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not such a list, or name a field that the state lacks.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;

    /// The state that a run begins with when this update is its input: each field's reducer is
    /// applied to the field's default, in the order of the writes.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::prelude::*;
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Docs { #[state(reduce = sorted)] names: Vec<String> }
    ///
    /// fn sorted(names: &mut Vec<String>, mut more: Vec<String>) {
    ///     names.append(&mut more);
    ///     names.sort();
    /// }
    ///
    /// let input = Docs::update().names(vec!["b".to_owned(), "a".to_owned()]);
    /// assert_eq!(input.into_state()?.names, ["a", "b"]);
    /// # Ok::<(), velo_engine::ConcurrentUpdate>(())
    /// ```
    ///
    /// # Errors
    /// [`ConcurrentUpdate`] when a field without a reducer is written twice.
    fn into_state(self) -> Result<Self::State, ConcurrentUpdate>
    where
        Self::State: Default,
    {
        let mut state = Self::State::default();
        state.apply(vec![("input", self)])?;
        Ok(state)
    }
}

/// One write to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write<T> {
    /// Merged into the field by its reducer.
    Merge(T),
    /// Replaces the field; other writes to it in the same step are left out.
    Overwrite(T),
}

/// Bypasses the reducer of a field: `update.drafts(Overwrite(vec![]))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overwrite<T>(pub T);

impl<T> From<T> for Write<T> {
    fn from(value: T) -> Self {
        Self::Merge(value)
    }
}

impl<T> From<Overwrite<T>> for Write<T> {
    fn from(value: Overwrite<T>) -> Self {
        Self::Overwrite(value.0)
    }
}

impl From<&str> for Write<String> {
    fn from(value: &str) -> Self {
        Self::Merge(value.to_owned())
    }
}

/// Two writes of one step that cannot both hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` was written more than once in one step, by {}: give it a reducer, one writer or one value", .nodes.join(", "))]
pub struct ConcurrentUpdate {
    /// The field.
    pub field: &'static str,
    /// The nodes that wrote it, in the order of application.
    pub nodes: Vec<String>,
}

/// A value that cannot be stored, or a stored one that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value has no JSON form.
    #[error("could not write field `{field}` as JSON")]
    Encode {
        /// The field.
        field: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The stored bytes do not fit the type.
    #[error("could not read stored field `{field}`: did its type change?")]
    Decode {
        /// The field, or `*` for the list itself.
        field: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The value could not be read back as it was.
    #[error(transparent)]
    BadValue(#[from] BadValue),
    /// What is stored names a field or node that the code does not have.
    #[error(
        "the stored run names `{field}`, which the code does not have: was it renamed?{}",
        Hint(.near.as_deref())
    )]
    UnknownField {
        /// The field or node.
        field: String,
        /// The one that was probably meant.
        near: Option<String>,
    },
}

/// Collects the stored form of an update; used by the derive.
#[derive(Debug)]
pub struct Writes(Vec<u8>);

impl Default for Writes {
    fn default() -> Self {
        Self(vec![b'['])
    }
}

impl Writes {
    /// Adds one write.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when the value has no JSON form, [`CodecError::BadValue`] when that could not be
    /// read back as it was.
    pub fn push<T: Serialize>(
        &mut self,
        field: &'static str,
        write: &Write<T>,
    ) -> Result<(), CodecError> {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        let begin = self.0.len();
        let written = match write {
            Write::Merge(value) => serde_json::to_writer(&mut self.0, &(field, value)),
            Write::Overwrite(value) => serde_json::to_writer(&mut self.0, &(field, value, true)),
        };
        written.map_err(|source| CodecError::Encode {
            field: field.to_owned(),
            source,
        })?;
        let (Write::Merge(value) | Write::Overwrite(value)) = write;
        let json = std::str::from_utf8(&self.0[begin..]).expect("JSON is written as UTF-8");
        storable::check_written(field, value, json)?;
        Ok(())
    }

    /// The stored form.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.0.push(b']');
        self.0
    }
}

/// One write as stored; used by the derive.
#[derive(Debug, Deserialize)]
pub struct StoredWrite(String, Box<RawValue>, #[serde(default)] bool);

impl StoredWrite {
    /// Splits a stored update into its writes.
    ///
    /// # Errors
    /// [`CodecError::Decode`] when the bytes are not a list of writes.
    pub fn list(bytes: &[u8]) -> Result<Vec<Self>, CodecError> {
        serde_json::from_slice(bytes).map_err(|source| CodecError::Decode {
            field: "*".to_owned(),
            source,
        })
    }

    /// The field's name.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.0
    }

    /// The typed write.
    ///
    /// # Errors
    /// [`CodecError::Decode`] when the value does not fit `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<Write<T>, CodecError> {
        let value = serde_json::from_str(self.1.get()).map_err(|source| CodecError::Decode {
            field: self.0.clone(),
            source,
        })?;
        Ok(if self.2 {
            Write::Overwrite(value)
        } else {
            Write::Merge(value)
        })
    }

    /// The error for a name that is none of the `known` fields.
    #[must_use]
    pub fn unknown_field(self, known: &[&str]) -> CodecError {
        let near = nearest(&self.0, known.iter().copied()).map(str::to_owned);
        CodecError::UnknownField {
            field: self.0,
            near,
        }
    }
}

/// The writes of one step to one field, in order; used by the derive.
#[derive(Debug)]
pub struct FieldWrites<T> {
    field: &'static str,
    merges: bool,
    writes: Vec<(String, Write<T>)>,
}

impl<T> FieldWrites<T> {
    /// No writes yet; `merges` says whether the field has a reducer.
    #[must_use]
    pub fn new(field: &'static str, merges: bool) -> Self {
        Self {
            field,
            merges,
            writes: Vec::new(),
        }
    }

    /// Adds a write by `node`.
    pub fn push(&mut self, node: &str, write: Write<T>) {
        self.writes.push((node.to_owned(), write));
    }

    /// Whether the writes can hold together.
    ///
    /// # Errors
    /// [`ConcurrentUpdate`] when they cannot.
    pub fn check(&self) -> Result<(), ConcurrentUpdate> {
        let overwrites = self.overwrites();
        if overwrites > 1 || (!self.merges && self.writes.len() > 1) {
            return Err(self.conflict());
        }
        Ok(())
    }

    fn conflict(&self) -> ConcurrentUpdate {
        ConcurrentUpdate {
            field: self.field,
            nodes: self.writes.iter().map(|(node, _)| node.clone()).collect(),
        }
    }

    /// Whether all writes are of one value.
    ///
    /// # Errors
    /// [`ConcurrentUpdate`] when they are not.
    pub fn check_equal(&self) -> Result<(), ConcurrentUpdate>
    where
        T: PartialEq,
    {
        let mut values = self.writes.iter().map(|(_, write)| match write {
            Write::Merge(value) | Write::Overwrite(value) => value,
        });
        match values.next() {
            Some(first) if values.any(|value| value != first) => Err(self.conflict()),
            _ => Ok(()),
        }
    }

    /// Folds the writes into `slot`. Call after [`check`](Self::check).
    pub fn fold(self, slot: &mut T, reducer: fn(&mut T, T)) {
        let overwritten = self.overwrites() > 0;
        for (_, write) in self.writes {
            match write {
                Write::Overwrite(value) => *slot = value,
                Write::Merge(value) if !overwritten => reducer(slot, value),
                Write::Merge(_) => (),
            }
        }
    }

    fn overwrites(&self) -> usize {
        self.writes
            .iter()
            .filter(|(_, write)| matches!(write, Write::Overwrite(_)))
            .count()
    }
}
