//! The state of any run as JSON, by who does not have its type.

use serde_json::Value;

use crate::diff::Diff;
use crate::engine::{Engine, EngineError};
use crate::rule::{self, RuleError};
use crate::run_id::RunId;
use crate::schema::{deltas_of, unmark};
use crate::store;
use crate::store::load::StoredStep;

impl Engine {
    /// The state of a run after its newest step, with the updates that were accepted since, as JSON.
    ///
    /// # Errors
    /// As [`value_at`](Self::value_at).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn value(&self, run: RunId) -> Result<Value, EngineError> {
        let mut steps = store::load::steps(self.pool(), run)
            .await
            .map_err(EngineError::on("read the run's steps"))?;
        self.vault()
            .open_steps(run, &mut steps)
            .map_err(EngineError::sealed("read the run's steps"))?;
        self.told(run, &steps).await
    }

    /// The state of a run after its step `seq`, as JSON: like [`state_at`](Self::state_at), by the rules that
    /// a worker with the graph's code has told of it, and without that code.
    ///
    /// # Errors
    /// [`EngineError::NoRun`], [`EngineError::NoStep`], [`EngineError::Unreadable`] with a [`RuleError`] when
    /// nobody has told the rules or they do not suffice, or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn value_at(&self, run: RunId, seq: i32) -> Result<Value, EngineError> {
        let mut steps = store::origin::steps_at(self.pool(), run, seq)
            .await
            .map_err(EngineError::on("read the run's steps"))?;
        if steps.last().is_none_or(|step| step.seq != seq) {
            self.run(run).await?;
            return Err(EngineError::NoStep { run, seq });
        }
        self.vault()
            .open_steps(run, &mut steps)
            .map_err(EngineError::sealed("read the run's steps"))?;
        self.told(run, &steps).await
    }

    /// What differs between the states of a run after two steps, as [`diff`](Self::diff), without its type.
    ///
    /// # Errors
    /// As [`value_at`](Self::value_at).
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn diff_values(
        &self,
        run: RunId,
        before: i32,
        after: i32,
    ) -> Result<Diff, EngineError> {
        let before = self.value_at(run, before).await?;
        Ok(Diff::between(&before, &self.value_at(run, after).await?))
    }

    /// The state after the last of these steps, the first of which has a snapshot.
    async fn told(&self, run: RunId, steps: &[StoredStep]) -> Result<Value, EngineError> {
        let Some((first, later)) = steps.split_first() else {
            return Err(EngineError::NoRun(run));
        };
        let unreadable = |error: RuleError| EngineError::Unreadable {
            run,
            source: Box::new(error),
        };
        let (version, whole) = unmark(first.snapshot.as_deref().unwrap_or_default());
        let mut state: Value =
            serde_json::from_slice(whole).map_err(|_| unreadable(RuleError::NoJson))?;
        if later.is_empty() {
            return Ok(state);
        }
        let found = self.run(run).await?;
        let code = format!("{}@{}", found.graph, found.version);
        let Some(outline) = self.outline(&code).await? else {
            return Err(unreadable(RuleError::NoOutline(code)));
        };
        let told = outline.state_version;
        let other = |stored| unreadable(RuleError::OtherVersion { stored, told });
        if version != told {
            return Err(other(version));
        }
        for part in later.iter().flat_map(|step| deltas_of(&step.delta)) {
            let (stored, delta) = unmark(part);
            if stored != told {
                return Err(other(stored));
            }
            rule::apply(&mut state, delta, &outline.fields).map_err(unreadable)?;
        }
        Ok(state)
    }
}
