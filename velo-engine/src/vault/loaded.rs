//! Opening what the store has loaded.

use serde_json::Value;

use super::{Home, Vault};
use crate::codec::SealError;
use crate::events::Event;
use crate::run_id::RunId;
use crate::store::load::{Stored, StoredStep};
use crate::store::piece::NewPiece;
use crate::store::question::Question;
use crate::store::run::{Run, StoredHistory};
use crate::store::stream::Found;
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
        for update in &mut stored.updates {
            let home = Home::named_of_run(run, "update request", &update.key);
            self.open_json(home, &mut update.request)?;
        }
        Ok(())
    }

    pub(crate) fn open_steps(&self, run: RunId, steps: &mut [StoredStep]) -> Result<(), SealError> {
        for step in steps {
            if let Some(update) = &step.update {
                let home = Home::named_of_run(run, "update writes", &update.key);
                self.open(home, &mut step.delta)?;
                continue;
            }
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

    /// Opens what a reader has found of a run.
    pub(crate) fn open_found(&self, run: RunId, found: &mut Found) -> Result<(), SealError> {
        for step in &mut found.steps {
            let home = |what| Home::of_step(run, step.seq, what);
            self.open(home("delta"), &mut step.delta)?;
            self.open(home("control"), &mut step.control)?;
            if let Some(snapshot) = &mut step.snapshot {
                self.open(home("snapshot"), snapshot)?;
            }
        }
        for row in &mut found.outcomes {
            let home = Home::of_task(run, row.seq, row.task, "outcome", "");
            self.open(home, &mut row.outcome)?;
        }
        for row in &mut found.failures {
            self.open_json(Home::of_run(run, "failure"), &mut row.error)?;
        }
        for wait in &mut found.waits {
            let home = |what| Home::of_task(run, wait.seq, wait.task, what, &wait.name);
            self.open_json(home("question"), &mut wait.question)?;
            if let Some(schema) = &mut wait.schema {
                self.open_json(home("schema"), schema)?;
            }
            if let Some(refusal) = &mut wait.refusal {
                self.open_text(home("refusal"), refusal)?;
            }
        }
        for event in &mut found.events {
            let home = Home::named_of_run(run, "event", &event.kind);
            self.open_json(home, &mut event.body)?;
        }
        for piece in &mut found.pieces {
            let home = Home::named_of_run(run, "piece", &piece.name);
            self.open_text(home, &mut piece.body)?;
        }
        Ok(())
    }

    /// What a node has said, as stored. An empty piece tells of a loss, and stays empty.
    pub(crate) fn seal_piece(&self, piece: &mut NewPiece) -> Result<(), SealError> {
        if !piece.body.is_empty() {
            let home = Home::named_of_run(piece.run, "piece", &piece.name);
            piece.body = self.seal_text(home, &piece.body)?;
        }
        Ok(())
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
    pub(crate) fn show_reason(&self, run: RunId, error: &mut Option<Value>) {
        if let Some(error) = error {
            self.show_error(Home::of_run(run, "error"), error);
        }
    }
}
