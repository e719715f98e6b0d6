//! The first step of a run that begins from its thread's state.

use super::{Note, Turn, TurnEnd, described};
use crate::error::{NodeError, NodeErrorKind};
use crate::fit;
use crate::lease::Claim;
use crate::schema::{ReplayError, encode_state};
use crate::state::State;
use crate::store::load::StoredStep;
use crate::store::thread::StoredInput;
use crate::store::{self, Backoff};

impl<S: State> Turn<'_, S> {
    /// Writes the run's first step, if it has an input and none; `false` when it has neither. Nothing of it
    /// can change meanwhile: the run from whose state it begins has ended.
    pub(super) async fn begin_from_thread(&self, claim: &Claim) -> Result<bool, TurnEnd> {
        let (pool, mut backoff) = (&self.setting.pool, Backoff::default());
        let found = loop {
            let found = async {
                let Some(input) = store::thread::unbegun(pool, self.lease.run).await? else {
                    return Ok(None);
                };
                let steps = match input.base_run {
                    Some(base) => store::load::steps(pool, base).await?,
                    None => Vec::new(),
                };
                Ok(Some((input, steps)))
            };
            match found.await {
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                found => break found,
            }
        };
        let (input, steps) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            Err(error) => {
                let error = NodeError::of(NodeErrorKind::Refused, &error);
                return Err(self.pause(&described(&error, None)).await);
            }
        };
        let state = match input.base_run {
            None => input.fresh,
            Some(_) if steps.is_empty() => {
                return Err(self.pause(&described(&lost(&input), None)).await);
            }
            Some(_) => match begun::<S>(&steps, &input.delta) {
                Ok(state) => state,
                Err(error) => {
                    return Err(match fit::need_of(&error) {
                        Some(need) => self.leave(claim, &need).await,
                        None => {
                            let error = NodeError::of(NodeErrorKind::Refused, &error);
                            self.pause(&described(&error, None)).await
                        }
                    });
                }
            },
        };
        self.write(&Note::Begin(&state)).await;
        Ok(true)
    }
}

/// The state that the steps have left, with the input written to it.
fn begun<S: State>(steps: &[StoredStep], input: &[u8]) -> Result<Vec<u8>, ReplayError> {
    let whole = super::place::written_and(steps, input);
    let state: S = whole.restore()?;
    encode_state(&state).map_err(|source| {
        let field = "*".to_owned();
        ReplayError::Codec(crate::CodecError::Encode { field, source })
    })
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
