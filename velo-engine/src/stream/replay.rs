//! Following a state whose type is forgotten.

use std::borrow::Cow;

use serde_json::Value;

use crate::schema::{Written, apply_delta, decode_state, deltas_of, unmark};
use crate::state::State;

const UNREAD: &str = "no state was read before the step";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Applies a run's stored steps to a state, without naming its type; made by
/// [`Serve::replay`](crate::Serve::replay).
pub trait Replay: Send + Sync {
    /// Takes over a whole state.
    ///
    /// # Errors
    /// When the stored state is none of the type.
    fn begin(&mut self, snapshot: &[u8]) -> Result<(), BoxError>;

    /// Applies what a step wrote.
    ///
    /// # Errors
    /// When it cannot be applied, or there is no state yet.
    fn apply(&mut self, delta: &[u8]) -> Result<(), BoxError>;

    /// The state, as JSON.
    ///
    /// # Errors
    /// When it has no JSON form, or there is none yet.
    fn value(&self) -> Result<Value, BoxError>;
}

/// A state of this type, as far as it was read.
pub(crate) struct Replaying<S: State> {
    state: Option<S>,
    /// What older versions of the type have written: read together, by the types of that time.
    older: Vec<Vec<u8>>,
}

impl<S: State> Default for Replaying<S> {
    fn default() -> Self {
        Self {
            state: None,
            older: Vec::new(),
        }
    }
}

impl<S: State> Replaying<S> {
    fn read(&self) -> Result<Cow<'_, S>, BoxError> {
        if let Some(state) = &self.state {
            return Ok(Cow::Borrowed(state));
        }
        let (whole, deltas) = self.older.split_first().ok_or(UNREAD)?;
        let written = Written::new(whole, deltas.iter().map(Vec::as_slice));
        Ok(Cow::Owned(written.restore()?))
    }
}

impl<S: State> Replay for Replaying<S> {
    fn begin(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.older.clear();
        self.state = None;
        if unmark(snapshot).0 < S::VERSION {
            self.older.push(snapshot.to_vec());
        } else {
            self.state = Some(decode_state(snapshot)?);
        }
        Ok(())
    }

    fn apply(&mut self, delta: &[u8]) -> Result<(), BoxError> {
        deltas_of(delta).try_for_each(|part| self.apply_part(part))
    }

    fn value(&self) -> Result<Value, BoxError> {
        Ok(serde_json::to_value(self.read()?)?)
    }
}

impl<S: State> Replaying<S> {
    fn apply_part(&mut self, delta: &[u8]) -> Result<(), BoxError> {
        if self.state.is_none() && unmark(delta).0 < S::VERSION {
            if self.older.is_empty() {
                return Err(UNREAD.into());
            }
            self.older.push(delta.to_vec());
            return Ok(());
        }
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.read()?.into_owned(),
        };
        self.older.clear();
        apply_delta(&mut state, delta)?;
        self.state = Some(state);
        Ok(())
    }
}
