//! The first step of a run that begins from its thread's state.

use super::{Note, Turn, TurnEnd, described, place};
use crate::code::Need;
use crate::error::{NodeError, NodeErrorKind};
use crate::fit;
use crate::lease::Claim;
use crate::run_id::RunId;
use crate::schema::{encode_state, unmark};
use crate::state::State;
use crate::store::load::StoredStep;
use crate::store::thread::StoredInput;
use crate::store::{self, Backoff};
use crate::vault::Home;

/// Why a run cannot begin.
enum Stuck {
    /// This code cannot read the state.
    Needs(Need),
    Refused(NodeError),
}

impl From<NodeError> for Stuck {
    fn from(error: NodeError) -> Self {
        Self::Refused(error)
    }
}

impl<S: State> Turn<'_, S> {
    /// Writes the run's first step, if it has an input and none; `false` when it has neither. Nothing of it
    /// can change meanwhile: the run from whose state it begins has ended.
    pub(super) async fn begin_from_thread(&self, claim: &Claim) -> Result<bool, TurnEnd> {
        let state = match self.find_input().await {
            Ok(None) => return Ok(false),
            Ok(Some((input, steps))) => self.begun(input, steps),
            Err(error) => Err(NodeError::of(NodeErrorKind::Refused, &error).into()),
        };
        match state {
            Ok(state) => self.write(&Note::Begin(&state)).await,
            Err(Stuck::Needs(need)) => return Err(self.leave(claim, &need).await),
            Err(Stuck::Refused(error)) => return Err(self.pause(&described(&error, None)).await),
        }
        Ok(true)
    }

    /// The run's input, and the steps of the run from whose state it begins, however long the database is
    /// away while the lease may hold.
    async fn find_input(&self) -> Result<Option<(StoredInput, Vec<StoredStep>)>, sqlx::Error> {
        let (pool, mut backoff) = (&self.setting.pool, Backoff::default());
        loop {
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
                found => return found,
            }
        }
    }

    /// The state that the steps have left, with the input written to it, as it is stored.
    fn begun(&self, mut input: StoredInput, mut steps: Vec<StoredStep>) -> Result<Vec<u8>, Stuck> {
        let Some(base) = input.base_run else {
            return Ok(input.fresh);
        };
        if steps.is_empty() {
            return Err(lost(&input.thread, base).into());
        }
        let (vault, run) = (&self.setting.vault, self.lease.run);
        vault
            .open_steps(base, &mut steps)
            .and_then(|()| vault.open(Home::of_step(run, 0, "delta"), &mut input.delta))
            .map_err(|error| error.of_node())?;
        let whole = place::written_and(&steps, &input.delta);
        let state: S = whole
            .restore()
            .map_err(|error| match fit::need_of(&error) {
                Some(need) => Stuck::Needs(need),
                None => NodeError::of(NodeErrorKind::Refused, &error).into(),
            })?;
        let state =
            encode_state(&state).map_err(|error| NodeError::of(NodeErrorKind::Refused, &error))?;
        let fits = vault.limits().check_state(None, unmark(&state).1);
        fits.map_err(|error| error.of_node())?;
        let sealed = vault.seal(Home::of_step(run, 0, "snapshot"), state);
        Ok(sealed.map_err(|error| error.of_node())?)
    }
}

fn lost(thread: &str, base: RunId) -> NodeError {
    let message = format!(
        "the run in whose state the thread `{thread}` was is no longer there ({base}): start it with a whole state"
    );
    NodeError::new(NodeErrorKind::Refused, message)
}
