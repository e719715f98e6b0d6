//! Committing what the attempts of a step left.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::place::Place;
use super::{Flow, Turn, TurnEnd, task_number};
use crate::context::{Emitted, ItemWrites, Scene};
use crate::error::{NodeError, NodeErrorKind};
use crate::events;
use crate::failpoint;
use crate::lease::{StepRow, Then, Verdict};
use crate::metrics;
use crate::next::{Next, Route, Sent, Target};
use crate::observed::Happening;
use crate::places::Placed;
use crate::schema::{encode_state, join_deltas, unmark};
use crate::state::State;
use crate::store::{self, Backoff};
use crate::stored::{Control, decode_outcome, encode_delta, encode_outcome};
use crate::vault::Home;

/// A snapshot is not worth its place before this much was written since the last one.
const SNAPSHOT_MIN_BYTES: usize = 16 * 1024;

/// What became of an attempt that succeeded.
pub(super) enum Committed {
    /// Its outcome is kept until its siblings have finished.
    Outcome,
    /// It was the last one: the step is committed.
    Step(Flow),
    /// The connection was lost with all that the node had written: it must run again.
    Again,
    /// The connection was lost, and with it the answer: see in the database.
    Unknown,
    /// It cannot be committed, and the place is as it was.
    Failed(NodeError),
}

impl From<NodeError> for Committed {
    fn from(error: NodeError) -> Self {
        Self::Failed(error)
    }
}

/// What a node did with its own transaction.
struct Left {
    transaction: Option<Placed>,
    emitted: Vec<Emitted>,
    /// Documents of the long-term store.
    items: ItemWrites,
    /// Signals that the node took.
    signals: Vec<i64>,
    /// Updates that are part of the step.
    updates: Vec<i64>,
}

impl Left {
    fn by(scene: &Scene) -> Result<Self, NodeError> {
        let transaction = scene.close().map_err(|_| {
            let message =
                "the node returned while something it had spawned was using its transaction";
            NodeError::new(NodeErrorKind::Refused, message)
        })?;
        Ok(Self {
            transaction,
            emitted: scene.take_emitted(),
            items: scene.take_items(),
            signals: scene.taken(),
            updates: Vec::new(),
        })
    }

    /// Of a step that no attempt commits.
    fn by_nobody() -> Self {
        Self {
            transaction: None,
            emitted: Vec::new(),
            items: ItemWrites::default(),
            signals: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// With the updates that were accepted since the newest step, which the next one has.
    fn with_updates<S: State>(mut self, place: &Place<S>) -> Self {
        let numbers = place.amendments.iter().map(|amendment| amendment.number);
        self.updates = numbers.collect();
        self
    }

    /// Whether nothing but what is in the transaction is to be written with the step.
    fn is_unwritten(&self) -> bool {
        self.emitted.is_empty()
            && self.signals.is_empty()
            && self.items.is_empty()
            && self.updates.is_empty()
    }

    fn is_nothing(&self) -> bool {
        self.transaction.is_none() && self.is_unwritten()
    }
}

/// What is remembered of a step's row while it is being committed.
#[derive(Clone, Copy)]
struct Taken {
    delta_bytes: usize,
    snapshot_bytes: Option<usize>,
    then: Then,
}

impl<S: State> Turn<'_, S> {
    /// Takes the step whose last outcome this is, and commits it.
    pub(super) async fn commit_step(
        &self,
        place: &mut Place<S>,
        index: usize,
        outcome: Next<S>,
        scene: &Scene,
    ) -> Committed {
        let left = match Left::by(scene) {
            Ok(left) => left.with_updates(place),
            Err(error) => return error.into(),
        };
        let task = task_number(index);
        let has_siblings = place.checkpoint.tasks.len() > 1;
        let last = has_siblings.then(|| self.encoded(place.seq + 1, task, &scene.node, &outcome));
        let last = match last.transpose() {
            Ok(bytes) => bytes.map(|bytes| (task, bytes)),
            Err(error) => return error.into(),
        };
        let mut outcomes = place.outcomes.clone();
        outcomes.insert(task, outcome);
        let (row, taken) = match self.take(place, outcomes.into_values().collect()) {
            Ok(taken) => taken,
            Err(error) => {
                // Its connection goes back before another is asked for.
                drop(left);
                return self.refused(place, index, &scene.node, error).await;
            }
        };
        failpoint::hit("step.before");
        let verdict = if left.is_nothing() && last.is_none() {
            match self.setting.commit.commit(row).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    let error = NodeError::of(NodeErrorKind::Refused, &error);
                    return self.refused(place, index, &scene.node, error).await;
                }
            }
        } else {
            match self.commit_with(left, &row, last).await {
                Ok(verdict) => verdict,
                Err(Committed::Failed(error)) => {
                    self.fail(place, index, &scene.node, error).await;
                    // The step was taken in memory, and is not in the database.
                    return Committed::Step(Flow::Reload);
                }
                Err(other) => return other,
            }
        };
        failpoint::hit("step.after");
        let flow = self.flow(place, taken, verdict).await;
        if !matches!(flow, Flow::Reload) {
            scene.observe(Happening::Finished);
        }
        Committed::Step(flow)
    }

    /// Commits a step whose outcomes are all stored: the last one came late, by an attempt whose
    /// answer was lost.
    pub(super) async fn commit_stored(&self, place: &mut Place<S>) -> Flow {
        let outcomes = place.outcomes.values().cloned().collect();
        let node = place.checkpoint.tasks[0].node.clone();
        let left = Left::by_nobody().with_updates(place);
        let error = match self.take(place, outcomes) {
            Ok((row, taken)) if !left.is_nothing() => {
                return match self.commit_with(left, &row, None).await {
                    Ok(verdict) => self.flow(place, taken, verdict).await,
                    Err(Committed::Failed(error)) => {
                        Flow::End(self.refuse(place, 0, &node, error).await)
                    }
                    Err(_) => Flow::Reload,
                };
            }
            Ok((row, taken)) => match self.setting.commit.commit(row).await {
                Ok(verdict) => return self.flow(place, taken, verdict).await,
                Err(error) => NodeError::of(NodeErrorKind::Refused, &error),
            },
            Err(error) => error,
        };
        Flow::End(self.refuse(place, 0, &node, error).await)
    }

    /// What follows the step. Does not return when the lease is lost.
    async fn flow(&self, place: &mut Place<S>, taken: Taken, verdict: Verdict) -> Flow {
        let word = match verdict {
            Verdict::Added => "added",
            Verdict::Repeated => "repeated",
            Verdict::Behind => "behind",
            Verdict::Lost => "lost",
        };
        metrics::commit(self.graph.code(), word);
        match verdict {
            Verdict::Added => (),
            // Perhaps by another attempt, which left something else.
            Verdict::Repeated | Verdict::Behind => return Flow::Reload,
            Verdict::Lost => {
                self.lost.cancel();
                return std::future::pending().await;
            }
        }
        place.stepped(taken.delta_bytes, taken.snapshot_bytes);
        match taken.then {
            Then::Finish => {
                if self.has_family.load(Ordering::Relaxed) {
                    self.tell_family().await;
                }
                Flow::End(TurnEnd::Finished)
            }
            Then::Yield => Flow::End(TurnEnd::Yielded),
            Then::Keep => Flow::On,
        }
    }

    async fn refused(
        &self,
        place: &mut Place<S>,
        index: usize,
        node: &str,
        error: NodeError,
    ) -> Committed {
        Committed::Step(Flow::End(self.refuse(place, index, node, error).await))
    }

    /// Takes the step in memory. What is in memory is not used again unless the row is committed.
    fn take(
        &self,
        place: &mut Place<S>,
        outcomes: Vec<Next<S>>,
    ) -> Result<(StepRow, Taken), NodeError> {
        let refused = |error: &(dyn std::error::Error + 'static)| {
            NodeError::of(NodeErrorKind::Refused, error)
        };
        let own = encode_delta(&outcomes).map_err(|error| refused(&error))?;
        let before = place.amendments.iter().map(|amendment| &*amendment.writes);
        let delta = join_deltas(before, own);
        let limits = self.setting.vault.limits();
        let writers = self.check_outcomes(place, &outcomes, delta.len())?;
        let checkpoint = Arc::make_mut(&mut place.checkpoint);
        checkpoint
            .take_step(self.graph.shape(), outcomes)
            .map_err(|error| refused(&error))?;
        let written = place.delta_bytes + delta.len();
        // Near the limit the state is measured, and what was measured is a snapshot.
        let is_due = written >= place.snapshot_bytes.max(SNAPSHOT_MIN_BYTES)
            || place.snapshot_bytes + written > limits.state;
        let snapshot = (is_due || place.is_older)
            .then(|| encode_state(&checkpoint.state))
            .transpose()
            .map_err(|error| refused(&error))?;
        let control = Control::encode(checkpoint).map_err(|error| refused(&error))?;
        let fits = || {
            if control.len() > limits.value {
                for task in checkpoint.tasks.iter().chain(checkpoint.saga.tasks()) {
                    let what = format!("the payload for {}", task.node);
                    let input = task.input.as_ref().unwrap_or(&Value::Null);
                    limits.check_json(&what, Some(&writers), input)?;
                }
            }
            if let Some(snapshot) = &snapshot {
                limits.check_state(Some(&writers), unmark(snapshot).1)?;
            }
            limits.check_step(&writers, unmark(&delta).1, &control)
        };
        fits().map_err(|error| error.of_node())?;
        let seq = place.seq + 1;
        let taken = Taken {
            delta_bytes: delta.len(),
            snapshot_bytes: snapshot.as_ref().map(Vec::len),
            then: if checkpoint.tasks.is_empty() {
                Then::Finish
            } else if self.is_over() {
                Then::Yield
            } else {
                Then::Keep
            },
        };
        let seal = |what, plain| {
            let home = Home::of_step(self.lease.run, seq, what);
            let sealed = self.setting.vault.seal(home, plain);
            sealed.map_err(|error| error.of_node())
        };
        let row = StepRow {
            lease: self.lease,
            seq,
            delta: seal("delta", delta)?,
            control: seal("control", control)?,
            snapshot: snapshot.map(|plain| seal("snapshot", plain)).transpose()?,
            then: taken.then,
        };
        Ok((row, taken))
    }

    /// Whether all that the tasks of a step left may be stored; who they are, for whom it may not.
    fn check_outcomes(
        &self,
        place: &Place<S>,
        outcomes: &[Next<S>],
        delta_bytes: usize,
    ) -> Result<String, NodeError> {
        let tasks = &place.checkpoint.tasks;
        if delta_bytes > self.setting.vault.limits().value {
            let mut left = tasks.iter().zip(outcomes);
            left.try_for_each(|(task, outcome)| self.check_outcome(&task.node, outcome))?;
        }
        let first = tasks.first().map_or("", |task| task.node.as_str());
        Ok(match tasks.iter().any(|task| task.node != first) {
            true => format!("{first}` and others beside `{first}"),
            false => first.to_owned(),
        })
    }

    /// Whether what a task left may be stored.
    fn check_outcome(&self, node: &str, outcome: &Next<S>) -> Result<(), NodeError> {
        let limits = self.setting.vault.limits();
        let own = encode_delta(std::slice::from_ref(outcome))
            .map_err(|error| NodeError::of(NodeErrorKind::Refused, &error))?;
        let fits = limits.check_writes(Some(node), unmark(&own).1);
        fits.map_err(|error| error.of_node())?;
        for (to, sent) in sent_by(outcome) {
            if let Ok(payload) = &sent.input {
                let fits = limits.check_json(&format!("the payload for {to}"), Some(node), payload);
                fits.map_err(|error| error.of_node())?;
            }
        }
        Ok(())
    }

    /// The outcome of a task of step `seq`, as stored.
    fn encoded(
        &self,
        seq: i32,
        task: i32,
        node: &str,
        outcome: &Next<S>,
    ) -> Result<Vec<u8>, NodeError> {
        if let Some(error) = unsendable(outcome) {
            return Err(error);
        }
        let plain = encode_outcome(outcome)
            .map_err(|error| NodeError::of(NodeErrorKind::Refused, &error))?;
        if plain.len() > self.setting.vault.limits().value {
            self.check_outcome(node, outcome)?;
        }
        let home = Home::of_task(self.lease.run, seq, task, "outcome", "");
        let sealed = self.setting.vault.seal(home, plain);
        sealed.map_err(|error| error.of_node())
    }

    /// Commits the step in the node's transaction, with what the node wrote and emitted.
    ///
    /// With siblings, the outcome goes with it: an earlier attempt of the same task may be committing one
    /// at this moment, with all that it wrote, and the two must meet in a row.
    async fn commit_with(
        &self,
        left: Left,
        row: &StepRow,
        last: Option<(i32, Vec<u8>)>,
    ) -> Result<Verdict, Committed> {
        let mut transaction = self.open(left, row.seq).await?;
        if let Some((task, bytes)) = last {
            let added =
                store::outcome::add(&mut *transaction, self.lease, row.seq, task, &bytes).await;
            if !added.map_err(|error| broken(&error))? {
                return Err(Committed::Unknown);
            }
        }
        let verdicts = store::commit::steps(
            &mut *transaction,
            self.lease.worker,
            std::slice::from_ref(row),
        );
        let verdicts = verdicts.await.map_err(|error| broken(&error))?;
        let verdict = verdicts.first().copied().unwrap_or(Verdict::Lost);
        // Otherwise an earlier attempt did it, and what this one wrote must not be there as well.
        if verdict == Verdict::Added {
            failpoint::hit("step.inside");
            transaction.commit().await.map_err(|error| broken(&error))?;
        }
        Ok(verdict)
    }

    /// The node's transaction, or a new one, with its events and its signals, used by step `seq`.
    async fn open(&self, mut left: Left, seq: i32) -> Result<Placed, Committed> {
        let opened = async {
            let mut transaction = match left.transaction.take() {
                Some(transaction) => transaction,
                None => Placed::unbounded(&self.setting.pool).await?,
            };
            // Before any row is locked: it sets the time after which the server ends what a frozen process has
            // begun. Whether the lease holds is decided later.
            if !left.is_unwritten() {
                store::lease::hold(&mut transaction, self.lease).await?;
            }
            let stream = events::run_stream(self.lease.run);
            for event in &left.emitted {
                let run = Some(self.lease.run);
                events::append_for(&mut transaction, &stream, &event.kind, &event.body, run)
                    .await?;
            }
            left.items.write(&mut transaction).await?;
            if !left.signals.is_empty() {
                let used =
                    store::wait::use_signals(&mut transaction, self.lease.run, &left.signals, seq);
                // Somebody else has used one: by now the lease must be gone.
                if !used.await? {
                    return Err(sqlx::Error::WorkerCrashed);
                }
            }
            if !left.updates.is_empty() {
                let run = self.lease.run;
                let used = store::update::use_updates(&mut transaction, run, &left.updates, seq);
                // As above.
                if !used.await? {
                    return Err(sqlx::Error::WorkerCrashed);
                }
            }
            Ok(transaction)
        };
        opened.await.map_err(|error: sqlx::Error| broken(&error))
    }

    /// Keeps outcomes of tasks whose siblings are still at work, in one statement; their nodes have left
    /// nothing else to commit. Returns those that were not kept, with the reason.
    pub(super) async fn commit_outcomes(
        &self,
        place: &mut Place<S>,
        finished: Vec<(usize, Next<S>)>,
    ) -> Vec<(usize, NodeError)> {
        let (mut refused, mut kept) = (Vec::new(), Vec::new());
        let (mut tasks, mut bytes) = (Vec::new(), Vec::new());
        let seq = place.seq + 1;
        for (index, outcome) in finished {
            let task = task_number(index);
            let node = &place.checkpoint.tasks[index].node;
            match self.encoded(seq, task, node, &outcome) {
                Ok(encoded) => {
                    tasks.push(task);
                    bytes.push(encoded);
                    kept.push((index, outcome));
                }
                Err(error) => refused.push((index, error)),
            }
        }
        let mut backoff = Backoff::default();
        failpoint::hit("outcome.before");
        let added = loop {
            let pool = &self.setting.pool;
            match store::outcome::add_all(pool, self.lease, seq, &tasks, &bytes).await {
                Ok(Some(added)) => break added,
                Ok(None) => {
                    self.lost.cancel();
                    return std::future::pending().await;
                }
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => {
                    let error = NodeError::of(NodeErrorKind::Transient, &error);
                    refused.extend(kept.into_iter().map(|(index, _)| (index, error.clone())));
                    return refused;
                }
            }
        };
        failpoint::hit("outcome.after");
        for (index, outcome) in kept {
            let task = task_number(index);
            if added.contains(&task) {
                place.outcomes.insert(task, outcome);
            } else if let Committed::Failed(error) = self.adopt_outcome(place, seq, task).await {
                // By this very call, whose first answer was lost, or by an attempt before it.
                refused.push((index, error));
            }
        }
        refused
    }

    /// Keeps the outcome of a task whose siblings are still at work.
    pub(super) async fn commit_outcome(
        &self,
        place: &mut Place<S>,
        index: usize,
        outcome: Next<S>,
        scene: &Scene,
    ) -> Committed {
        let (seq, task) = (place.seq + 1, task_number(index));
        let (left, bytes) = match (
            Left::by(scene),
            self.encoded(seq, task, &scene.node, &outcome),
        ) {
            (Ok(left), Ok(bytes)) => (left, bytes),
            (Err(error), _) | (_, Err(error)) => return error.into(),
        };
        let mut left = Some(left);
        let mut backoff = Backoff::default();
        loop {
            // What the node wrote itself was in the first transaction; without that, a second may do.
            let was_untouched = left.as_ref().is_none_or(Left::is_nothing);
            let given = left.take().unwrap_or_else(Left::by_nobody);
            match self.add_outcome(given, seq, task, &bytes).await {
                Ok(Some(true)) => {
                    place.outcomes.insert(task, outcome);
                    return Committed::Outcome;
                }
                Ok(Some(false)) => return self.adopt_outcome(place, seq, task).await,
                Ok(None) => return scene.lose().await,
                Err(Committed::Unknown) if was_untouched => backoff.wait().await,
                Err(Committed::Unknown) => {
                    return match self.adopt_outcome(place, seq, task).await {
                        Committed::Failed(_) => Committed::Again,
                        adopted => adopted,
                    };
                }
                Err(other) => return other,
            }
        }
    }

    /// Adds the outcome and commits; `Some(false)` when there is one already, `None` when the lease
    /// is gone.
    async fn add_outcome(
        &self,
        left: Left,
        seq: i32,
        task: i32,
        bytes: &[u8],
    ) -> Result<Option<bool>, Committed> {
        failpoint::hit("outcome.before");
        let mut transaction = self.open(left, seq).await?;
        let lease = self.lease;
        if !store::lease::hold(&mut transaction, lease)
            .await
            .map_err(|error| broken(&error))?
        {
            return Ok(None);
        }
        let added = store::outcome::add(&mut *transaction, lease, seq, task, bytes);
        if !added.await.map_err(|error| broken(&error))? {
            return Ok(Some(false));
        }
        transaction.commit().await.map_err(|error| broken(&error))?;
        failpoint::hit("outcome.after");
        Ok(Some(true))
    }

    /// Takes over the outcome that is stored, by an attempt whose answer was lost.
    async fn adopt_outcome(&self, place: &mut Place<S>, seq: i32, task: i32) -> Committed {
        let mut backoff = Backoff::default();
        loop {
            match store::outcome::get(&self.setting.pool, self.lease.run, seq, task).await {
                Ok(Some(mut bytes)) => {
                    let home = Home::of_task(self.lease.run, seq, task, "outcome", "");
                    if let Err(error) = self.setting.vault.open(home, &mut bytes) {
                        return error.of_node().into();
                    }
                    return match decode_outcome(self.graph.shape(), &bytes) {
                        Ok(outcome) => {
                            place.outcomes.insert(task, outcome);
                            Committed::Outcome
                        }
                        Err(error) => NodeError::of(NodeErrorKind::Refused, &error).into(),
                    };
                }
                Ok(None) => return NodeError::transient("the outcome is not there").into(),
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => return NodeError::of(NodeErrorKind::Transient, &error).into(),
            }
        }
    }
}

/// What an error inside a node's transaction means.
fn broken(error: &sqlx::Error) -> Committed {
    if store::is_connection_lost(error) {
        Committed::Unknown
    } else {
        NodeError::of(NodeErrorKind::Transient, error).into()
    }
}

/// Why an outcome cannot be stored: a payload that has no JSON form, or two ways at once.
fn unsendable<S: State>(outcome: &Next<S>) -> Option<NodeError> {
    if let Route::Unwind(back) = &outcome.route
        && let Some(to) = back.beside
    {
        let message =
            format!("it turns back and goes to `{to}` at once: name that by .unwind_to(…)");
        return Some(NodeError::new(NodeErrorKind::Refused, message));
    }
    sent_by(outcome).find_map(|(to, sent)| {
        let reason = sent.input.as_ref().err()?;
        let message = format!("the payload that is sent to `{to}` cannot be stored: {reason}");
        Some(NodeError::new(NodeErrorKind::Refused, message))
    })
}

/// All that a task sends, also to what takes back what it did.
fn sent_by<S: State>(outcome: &Next<S>) -> impl Iterator<Item = (&'static str, &Sent)> {
    let targets = match &outcome.route {
        Route::To(targets) => targets.as_slice(),
        Route::Edges | Route::Unwind(_) => &[],
    };
    let sends = targets.iter().filter_map(|target| match target {
        Target::Send(to, sent) => Some((*to, sent)),
        Target::Goto(_) => None,
    });
    let compensations = outcome.compensations.iter();
    sends.chain(compensations.map(|(to, sent)| (*to, sent)))
}
