//! Answering the updates that a run was asked for.

use std::sync::Arc;

use sqlx::types::Json;

use super::place::{Amendment, Place};
use super::{Flow, Turn, described};
use crate::error::NodeError;
use crate::failpoint;
use crate::handlers::Accepted;
use crate::limits::TooLarge;
use crate::schema::{encode_state, unmark};
use crate::state::State;
use crate::store::update::{self, Answers, OpenUpdate, Stored, UPDATES_MAX};
use crate::store::{self, Backoff};
use crate::updated::Refusal;
use crate::vault::Home;

impl<S: State> Turn<'_, S> {
    /// Has the graph's handlers answer what the run was asked for, in the order in which it was. Nothing of the
    /// run is at work.
    pub(super) async fn answer_updates(&self, place: &mut Place<S>) -> Flow {
        let mut state = place.checkpoint.state.clone();
        let mut amendments = place.amendments.clone();
        let mut answers = Answers::default();
        for asked in std::mem::take(&mut place.updates) {
            let judged = self.judge(place, &mut state, &amendments, &asked);
            if let Ok(accepted) = &judged {
                amendments.push(Amendment {
                    number: asked.number,
                    writes: accepted.writes.clone(),
                });
            }
            if let Err(error) = self.seal_answer(&mut answers, &asked, judged) {
                return Flow::End(self.pause(&described(&error, None)).await);
            }
        }
        failpoint::hit("note.before");
        let stored = self.store_answers(place.seq, &answers).await;
        failpoint::hit("note.after");
        match stored {
            Stored::Done => (),
            Stored::Behind => return Flow::Reload,
            Stored::Lost => {
                self.lost.cancel();
                return std::future::pending().await;
            }
        }
        if amendments.len() > place.amendments.len() {
            Arc::make_mut(&mut place.checkpoint).state = state;
            place.amendments = amendments;
        }
        // The message is among those that are there.
        if answers.signals.is_empty() {
            Flow::On
        } else {
            Flow::Reload
        }
    }

    fn judge(
        &self,
        place: &Place<S>,
        state: &mut S,
        amendments: &[Amendment],
        asked: &OpenUpdate,
    ) -> Result<Accepted, Refusal> {
        if amendments.len() >= UPDATES_MAX {
            return Err(Refusal::new(format!(
                "the run has accepted {UPDATES_MAX} updates since its newest step: ask when it has gone on"
            )));
        }
        let mut changed = state.clone();
        let handlers = self.graph.handlers();
        let accepted = handlers.update(&mut changed, &asked.name, &asked.request)?;
        self.fits(place, &changed, amendments, &accepted)
            .map_err(|error| Refusal::new(error.to_string()))?;
        *state = changed;
        Ok(accepted)
    }

    fn fits(
        &self,
        place: &Place<S>,
        state: &S,
        amendments: &[Amendment],
        accepted: &Accepted,
    ) -> Result<(), TooLarge> {
        let limits = self.setting.vault.limits();
        limits.check_json("answer", None, &accepted.answer)?;
        for (_, payload) in &accepted.signals {
            limits.check_json("message", None, payload)?;
        }
        let before: usize = amendments.iter().map(|it| it.writes.len()).sum();
        let written = before + accepted.writes.len();
        limits.check_writes(None, unmark(&accepted.writes).1)?;
        // All of them are part of one step.
        limits.check_value("updates since the newest step", None, written)?;
        if place.snapshot_bytes + place.delta_bytes + written > limits.state
            && let Ok(whole) = encode_state(state)
        {
            limits.check_state(None, unmark(&whole).1)?;
        }
        Ok(())
    }

    fn seal_answer(
        &self,
        answers: &mut Answers,
        asked: &OpenUpdate,
        judged: Result<Accepted, Refusal>,
    ) -> Result<(), NodeError> {
        let (vault, run) = (&self.setting.vault, self.lease.run);
        let home = |what| Home::named_of_run(run, what, &asked.key);
        let (verdict, answer, writes) = match judged {
            Ok(accepted) => {
                for (name, payload) in accepted.signals {
                    let home = Home::named_of_run(run, "signal", &name);
                    let payload = vault.seal_json(home, payload);
                    answers
                        .payloads
                        .push(Json(payload.map_err(|error| error.of_node())?));
                    answers.signals.push(name);
                }
                ("accepted", accepted.answer, Some(accepted.writes))
            }
            Err(refusal) => {
                let refusal = storable_refusal(&refusal);
                ("refused", refusal, None)
            }
        };
        tracing::debug!(run.id = %run, update.name = asked.name, update.id = asked.key, verdict, "update answered");
        let sealed = || {
            let answer = vault.seal_json(home("update answer"), answer)?;
            let writes = writes.map(|writes| vault.seal(home("update writes"), writes));
            Ok((answer, writes.transpose()?))
        };
        let (answer, writes) =
            sealed().map_err(|error: crate::codec::SealError| error.of_node())?;
        answers.numbers.push(asked.number);
        answers.verdicts.push(verdict);
        answers.answers.push(Json(answer));
        answers.writes.push(writes);
        Ok(())
    }

    async fn store_answers(&self, seq: i32, answers: &Answers) -> Stored {
        let mut backoff = Backoff::default();
        loop {
            let (pool, lease) = (&self.setting.pool, self.lease);
            match update::answer(pool, lease, seq, answers).await {
                Ok(stored) => return stored,
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %lease.run, %error, "could not answer updates yet");
                }
                Err(error) => {
                    tracing::error!(run.id = %lease.run, %error, "the database refuses the answers to updates");
                }
            }
            backoff.wait().await;
        }
    }
}

/// A refusal as it is stored; without details that cannot be.
fn storable_refusal(refusal: &Refusal) -> serde_json::Value {
    let whole = crate::storable::to_value("refusal", refusal);
    whole.unwrap_or_else(|error| {
        let reason = format!("{} ({error})", refusal.reason);
        serde_json::json!(Refusal::new(reason))
    })
}
