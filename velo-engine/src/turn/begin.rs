//! The first step of a run that begins from its thread's state.

use super::{Note, Turn, checkpoint_of};
use crate::error::{NodeError, NodeErrorKind};
use crate::state::{State, Update};
use crate::store::thread::StoredInput;
use crate::store::{self, Backoff};

impl<S: State> Turn<'_, S> {
    /// Writes the run's first step, if it has an input and none; `false` when it has neither. Nothing of it
    /// can change meanwhile: the run from whose state it begins has ended.
    pub(super) async fn begin_from_thread(&self) -> Result<bool, NodeError> {
        let mut backoff = Backoff::default();
        let input = loop {
            match store::thread::unbegun(&self.setting.pool, self.lease.run).await {
                Ok(None) => return Ok(false),
                Ok(Some(input)) => break input,
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => return Err(refused(&error)),
            }
        };
        let state = match input.base_run {
            None => input.fresh,
            Some(base) => loop {
                match store::load::steps(&self.setting.pool, base).await {
                    Ok(steps) if steps.is_empty() => return Err(lost(&input)),
                    Ok(steps) => {
                        let checkpoint = checkpoint_of::<S>(&steps);
                        let mut state = checkpoint.map_err(|error| refused(&error))?.state;
                        let update = S::Update::decode(&input.delta);
                        let update = update.map_err(|error| refused(&error))?;
                        state
                            .apply(vec![("input", update)])
                            .map_err(|error| refused(&error))?;
                        break serde_json::to_vec(&state).map_err(|error| refused(&error))?;
                    }
                    Err(error) if store::is_transient(&error) => backoff.wait().await,
                    Err(error) => return Err(refused(&error)),
                }
            },
        };
        self.write(&Note::Begin(&state)).await;
        Ok(true)
    }
}

fn refused(error: &(dyn std::error::Error + 'static)) -> NodeError {
    NodeError::of(NodeErrorKind::Refused, error)
}

fn lost(input: &StoredInput) -> NodeError {
    let message = format!(
        "the run in whose state the thread `{}` was is no longer there ({}): start it with a whole state",
        input.thread,
        input
            .base_run
            .map(|run| run.to_string())
            .unwrap_or_default()
    );
    NodeError::new(NodeErrorKind::Refused, message)
}
