//! Following a state whose type is forgotten.

use serde_json::Value;

use crate::state::{CodecError, State};
use crate::stored::{ReplayError, apply_delta};

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

/// A state of this type; `None` before the first.
pub(crate) struct Replaying<S: State>(pub(crate) Option<S>);

impl<S: State> Replay for Replaying<S> {
    fn begin(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        let state = serde_json::from_slice(snapshot).map_err(|source| CodecError::Decode {
            field: "*".to_owned(),
            source,
        })?;
        self.0 = Some(state);
        Ok(())
    }

    fn apply(&mut self, delta: &[u8]) -> Result<(), BoxError> {
        let state = self.0.as_mut().ok_or("no state was read before the step")?;
        apply_delta(state, delta).map_err(|error: ReplayError| Box::new(error) as BoxError)
    }

    fn value(&self) -> Result<Value, BoxError> {
        let state = self.0.as_ref().ok_or("no state was read before the step")?;
        Ok(serde_json::to_value(state)?)
    }
}
