//! Opening what the store has loaded.

use serde_json::Value;

use super::{Home, Vault};
use crate::codec::SealError;
use crate::events::Event;
use crate::run_id::RunId;
use crate::store::load::{Stored, StoredStep};
use crate::store::run::{Run, StoredHistory};
use crate::store::wait::Question;
use crate::store::why::Facts;

impl Vault {
    pub(crate) fn open_stored(&self, run: RunId, stored: &mut Stored) -> Result<(), SealError> {
        let seq = stored.steps.iter().map(|step| step.seq).max().unwrap_or(0) + 1;
        self.open_steps(run, &mut stored.steps)?;
        for memo in &mut stored.memos {
            let home = Home::of_task(run, seq, memo.task, "memo", &memo.name);
            self.open(home, &mut memo.value)?;
        }
        for row in &mut stored.outcomes {
            let home = Home::of_task(run, seq, row.task, "outcome", "");
            self.open(home, &mut row.outcome)?;
        }
        for row in &mut stored.failures {
            self.open_json(Home::of_run(run, "failure"), &mut row.error)?;
        }
        for wait in &mut stored.waits {
            if let Some(answer) = &mut wait.answer {
                let home = Home::of_task(run, seq, wait.task, "answer", &wait.name);
                self.open_json(home, answer)?;
            }
        }
        for signal in &mut stored.signals {
            let home = Home::named_of_run(run, "signal", &signal.name);
            self.open_json(home, &mut signal.payload)?;
        }
        Ok(())
    }

    pub(crate) fn open_steps(&self, run: RunId, steps: &mut [StoredStep]) -> Result<(), SealError> {
        for step in steps {
            self.open(Home::of_step(run, step.seq, "delta"), &mut step.delta)?;
            if let Some(control) = &mut step.control {
                self.open(Home::of_step(run, step.seq, "control"), control)?;
            }
            if let Some(snapshot) = &mut step.snapshot {
                self.open(Home::of_step(run, step.seq, "snapshot"), snapshot)?;
            }
        }
        Ok(())
    }

    pub(crate) fn open_history(
        &self,
        run: RunId,
        steps: &mut [StoredHistory],
    ) -> Result<(), SealError> {
        for step in steps {
            let home = |seq, what| Home::of_step(run, seq, what);
            self.open(home(step.seq, "delta"), &mut step.delta)?;
            self.open(home(step.seq, "control"), &mut step.control)?;
            if let Some(before) = &mut step.before {
                self.open(home(step.seq - 1, "control"), before)?;
            }
        }
        Ok(())
    }

    pub(crate) fn open_question(&self, question: &mut Question) -> Result<(), SealError> {
        let Question {
            run,
            seq,
            task,
            name,
            ..
        } = question;
        let home = |what| Home::of_task(*run, *seq, *task, what, name);
        self.open_json(home("question"), &mut question.question)?;
        if let Some(schema) = &mut question.schema {
            self.open_json(home("schema"), schema)?;
        }
        if let Some(refusal) = &mut question.refusal {
            self.open_text(home("refusal"), refusal)?;
        }
        Ok(())
    }

    pub(crate) fn open_event(&self, run: RunId, event: &mut Event) -> Result<(), SealError> {
        let home = Home::named_of_run(run, "event", &event.kind);
        self.open_json(home, &mut event.body)
    }

    pub(crate) fn show_run(&self, run: &mut Run) {
        self.show_reason(run.id, &mut run.error);
    }

    pub(crate) fn show_facts(&self, run: RunId, facts: &mut Facts) {
        self.show_reason(run, &mut facts.error);
        if let Some(error) = &mut facts.failed_error {
            self.show_error(Home::of_run(run, "failure"), error);
        }
    }

    /// Why a run is paused.
    fn show_reason(&self, run: RunId, error: &mut Option<Value>) {
        if let Some(error) = error {
            self.show_error(Home::of_run(run, "error"), error);
        }
    }
}
