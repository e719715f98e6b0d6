//! Where a run stands, while a worker has it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::task_number;
use crate::breakpoint::Stop;
use crate::error::NodeError;
use crate::executor::Checkpoint;
use crate::next::Next;
use crate::schema::{ReplayError, Written};
use crate::shape::Shape;
use crate::state::State;
use crate::store::load::{Halt, Stored};
use crate::store::update::OpenUpdate;
use crate::store::wait::{StoredSignal, StoredWait};
use crate::stored::{Control, decode_outcome};

/// Most lost connections in one step before a further one counts as a failed attempt.
const LOSSES_MAX: u32 = 5;

/// The newest committed step, and what is there of the next one.
#[derive(Debug)]
pub(super) struct Place<S: State> {
    pub(super) checkpoint: Arc<Checkpoint<S>>,
    /// Number of the newest committed step.
    pub(super) seq: i32,
    /// Size of the newest snapshot, and of all that was written since.
    pub(super) snapshot_bytes: usize,
    pub(super) delta_bytes: usize,
    /// Whether an older version of the state has written any of it: the next step makes it whole anew, so
    /// that the upcast is needed no longer.
    pub(super) is_older: bool,
    pub(super) memos: BTreeMap<i32, BTreeMap<String, Vec<u8>>>,
    pub(super) outcomes: BTreeMap<i32, Next<S>>,
    pub(super) failures: BTreeMap<i32, Failures>,
    pub(super) waits: BTreeMap<i32, Vec<StoredWait>>,
    /// Workers in a row that have died at this step.
    pub(super) crashes: i64,
    /// Tasks that wait for a permit and have nothing at work, the longest waiting first.
    pub(super) held_up: VecDeque<HeldUp>,
    /// Messages that no step has used.
    pub(super) signals: Arc<Mutex<Vec<StoredSignal>>>,
    /// Updates that were accepted since the newest step. The checkpoint's state has them.
    pub(super) amendments: Vec<Amendment>,
    /// Updates that are to be answered.
    pub(super) updates: Vec<OpenUpdate>,
    /// What is to happen before the next step.
    pub(super) halt: Option<Halt>,
    /// Whether somebody resumed the run after its newest step.
    pub(super) is_resumed: bool,
    /// How often an answer about this step was lost, and with it what an attempt had done.
    pub(super) losses: u32,
    /// How old the step's tasks were, and when that was read.
    age: (Duration, Instant),
}

/// An update that was accepted, to be part of the next step.
#[derive(Debug, Clone)]
pub(super) struct Amendment {
    pub(super) number: i64,
    /// As a step's delta.
    pub(super) writes: Vec<u8>,
}

/// A task that waits for a permit.
#[derive(Debug)]
pub(super) struct HeldUp {
    task: i32,
    /// What it had waited for before.
    waits: Option<Vec<StoredWait>>,
}

/// The failed attempts of one task.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    /// All of them.
    pub(super) number: i32,
    /// Those that the retry policy counts.
    pub(super) counted: u32,
    /// When the next attempt may begin; `None` when there is none.
    pub(super) due: Option<Instant>,
    /// Why the last one failed.
    pub(super) error: Option<NodeError>,
}

/// What keeps a step from being committed, when nothing of it is under way.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Whether a task waits for something outside.
    pub(super) is_waiting: bool,
    /// When the next attempt of a failed task may begin.
    pub(super) again_at: Option<Instant>,
    /// A task that is not tried again.
    pub(super) exhausted: Option<(usize, Failures)>,
}

impl<S: State> Place<S> {
    pub(super) fn restore(shape: &Shape<S>, stored: Stored) -> Result<Self, ReplayError> {
        let mut checkpoint = checkpoint(&stored)?;
        checkpoint.step_limit = stored.step_limit.or(checkpoint.step_limit);
        shape.rename(&mut checkpoint.tasks);
        shape.rename(&mut checkpoint.deferred);
        for tasks in checkpoint.saga.tasks_mut() {
            shape.rename(tasks);
        }
        let mut memos: BTreeMap<i32, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for memo in stored.memos {
            memos
                .entry(memo.task)
                .or_default()
                .insert(memo.name, memo.value);
        }
        let mut outcomes = BTreeMap::new();
        for row in stored.outcomes {
            outcomes.insert(row.task, decode_outcome(shape, &row.outcome)?);
        }
        let now = Instant::now();
        let mut failures = BTreeMap::new();
        for row in stored.failures {
            let due = row.due_in.map(|seconds| {
                now + Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
            });
            let found = Failures {
                number: row.number,
                counted: u32::try_from(row.counted).unwrap_or(0),
                due,
                error: Some(row.error()),
            };
            failures.insert(row.task, found);
        }
        let mut waits: BTreeMap<i32, Vec<StoredWait>> = BTreeMap::new();
        for wait in stored.waits {
            waits.entry(wait.task).or_default().push(wait);
        }
        let snapshot = stored.steps.first().and_then(|step| step.snapshot.as_ref());
        Ok(Self {
            seq: stored.steps.last().map_or(0, |step| step.seq),
            snapshot_bytes: snapshot.map_or(0, Vec::len),
            delta_bytes: stored
                .steps
                .iter()
                .skip(1)
                .filter(|step| step.update.is_none())
                .map(|step| step.delta.len())
                .sum(),
            is_older: written(&stored.steps).is_older::<S>(),
            amendments: amendments(&stored.steps),
            updates: stored.updates,
            checkpoint: Arc::new(checkpoint),
            memos,
            outcomes,
            failures,
            waits,
            crashes: stored.crashes,
            held_up: VecDeque::new(),
            signals: Arc::new(Mutex::new(stored.signals)),
            halt: stored.halt,
            is_resumed: stored.is_resumed,
            losses: 0,
            age: (stored.age, now),
        })
    }

    /// Whether anything was done for the step under way.
    fn has_begun(&self) -> bool {
        let begun = [
            self.memos.is_empty(),
            self.outcomes.is_empty(),
            self.failures.is_empty(),
            self.waits.is_empty(),
        ];
        begun != [true; 4]
    }

    /// The breakpoint at which the run is to be paused now.
    pub(super) fn stop(&self, shape: &Shape<S>) -> Option<Stop> {
        if self.is_resumed || self.has_begun() {
            return None;
        }
        self.checkpoint.stop(shape)
    }

    /// The tasks that are to run now, by their place in the step.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = usize> {
        let is_due = move |failures: &Failures| failures.due.is_some_and(|due| due <= now);
        (0..self.checkpoint.tasks.len()).filter(move |index| {
            let task = task_number(*index);
            !self.outcomes.contains_key(&task)
                && self.failures.get(&task).is_none_or(is_due)
                && !self.is_parked(task)
        })
    }

    /// Whether the task waits for something outside that has not come.
    fn is_parked(&self, task: i32) -> bool {
        let Some(waits) = self.waits.get(&task) else {
            return false;
        };
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        let has_come = |wait: &StoredWait| {
            let is_ready = wait.answer.is_some() || wait.is_due || wait.is_closed;
            let is_there = |signal: &StoredSignal| {
                signal.name == wait.name && signal.kept.is_none_or(|kept| kept == task)
            };
            (is_ready && !wait.is_seen)
                || (wait.kind == "signal" && !wait.is_closed && signals.iter().any(is_there))
        };
        !waits.iter().any(has_come)
    }

    /// Notes that the task waits, until the run is read again.
    pub(super) fn parked(&mut self, task: i32) {
        self.waits.insert(task, Vec::new());
    }

    /// Notes that the task waits for a permit, and what its attempt has kept.
    pub(super) fn hold_up(&mut self, task: i32, kept: BTreeMap<String, Vec<u8>>) {
        let waits = self.waits.insert(task, Vec::new());
        self.memos.insert(task, kept);
        self.held_up.push_back(HeldUp { task, waits });
    }

    /// Has the task that is held up for longest go on, by its place in the step: it asks again.
    pub(super) fn let_on(&mut self) -> Option<usize> {
        let HeldUp { task, waits } = self.held_up.pop_front()?;
        match waits {
            Some(waits) => self.waits.insert(task, waits),
            None => self.waits.remove(&task),
        };
        usize::try_from(task).ok()
    }

    /// What is left to wait for; the task that has no further attempt, if there is one.
    pub(super) fn rest(&self) -> Rest {
        let mut rest = Rest::default();
        for index in 0..self.checkpoint.tasks.len() {
            let task = task_number(index);
            if self.outcomes.contains_key(&task) {
                continue;
            }
            let failures = self.failures.get(&task);
            if let Some(due) = failures.and_then(|failures| failures.due) {
                if self.is_parked(task) {
                    rest.is_waiting = true;
                } else {
                    rest.again_at = Some(rest.again_at.map_or(due, |soonest| soonest.min(due)));
                }
            } else if failures.is_none() && self.is_parked(task) {
                rest.is_waiting = true;
            } else {
                rest.exhausted = Some((index, failures.cloned().unwrap_or_default()));
                break;
            }
        }
        rest
    }

    /// The tasks that have failed and have no further attempt, by their place in the step.
    pub(super) fn exhausted(&self) -> impl Iterator<Item = (usize, &Failures)> {
        let open = self.failures.iter().filter(|(task, failures)| {
            failures.due.is_none() && !self.outcomes.contains_key(*task)
        });
        open.filter_map(|(task, failures)| Some((usize::try_from(*task).ok()?, failures)))
    }

    /// Since when the step's tasks are there, or the run was resumed.
    pub(super) fn age(&self) -> Duration {
        let (age, read_at) = self.age;
        age.saturating_add(read_at.elapsed())
    }

    /// How many tasks have not finished.
    pub(super) fn missing(&self) -> usize {
        self.checkpoint.tasks.len() - self.outcomes.len()
    }

    /// Whether all tasks but this one have finished.
    pub(super) fn lacks_only(&self, index: usize) -> bool {
        let has_own = self.outcomes.contains_key(&task_number(index));
        self.outcomes.len() + usize::from(!has_own) == self.checkpoint.tasks.len()
    }

    /// Whether all tasks have finished, though the step is not committed: an outcome came late.
    pub(super) fn is_complete(&self) -> bool {
        let tasks = self.checkpoint.tasks.len();
        tasks > 0 && (0..tasks).all(|index| self.outcomes.contains_key(&task_number(index)))
    }

    /// Whether the task may be taken once more without counting an attempt, after its connection was
    /// lost; not for ever, since the task itself may be what breaks connections.
    pub(super) fn forgives(&mut self) -> bool {
        self.losses += 1;
        self.losses <= LOSSES_MAX
    }

    /// The step was committed: nothing is there yet of the next one.
    pub(super) fn stepped(&mut self, delta_bytes: usize, snapshot_bytes: Option<usize>) {
        self.seq += 1;
        self.delta_bytes += delta_bytes;
        if let Some(bytes) = snapshot_bytes {
            self.snapshot_bytes = bytes;
            self.delta_bytes = 0;
            self.is_older = false;
        }
        self.memos.clear();
        self.outcomes.clear();
        self.failures.clear();
        self.waits.clear();
        // That a message was kept was for the step that is over.
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        signals.iter_mut().for_each(|signal| signal.kept = None);
        drop(signals);
        self.amendments.clear();
        self.is_resumed = false;
        self.held_up.clear();
        self.crashes = 0;
        self.losses = 0;
        self.age = (Duration::ZERO, Instant::now());
    }
}

fn amendments(steps: &[crate::store::load::StoredStep]) -> Vec<Amendment> {
    let accepted = steps.iter().filter_map(|step| {
        Some(Amendment {
            number: step.update.as_ref()?.number,
            writes: step.delta.clone(),
        })
    });
    accepted.collect()
}

/// What these steps, the first of which has a snapshot, have written.
fn written(steps: &[crate::store::load::StoredStep]) -> Written<'_> {
    let snapshot = steps.first().and_then(|step| step.snapshot.as_deref());
    let deltas = steps.iter().skip(1).map(|step| step.delta.as_slice());
    Written::new(snapshot.unwrap_or_default(), deltas)
}

/// The same, and an input that is written after them.
pub(super) fn written_and<'a>(
    steps: &'a [crate::store::load::StoredStep],
    input: &'a [u8],
) -> Written<'a> {
    let snapshot = steps.first().and_then(|step| step.snapshot.as_deref());
    let deltas = steps.iter().skip(1).map(|step| step.delta.as_slice());
    Written::new(
        snapshot.unwrap_or_default(),
        deltas.chain(std::iter::once(input)),
    )
}

/// The checkpoint after the newest stored step.
pub(crate) fn checkpoint<S: State>(stored: &Stored) -> Result<Checkpoint<S>, ReplayError> {
    checkpoint_of(&stored.steps)
}

/// The checkpoint after the last of these steps, the first of which has a snapshot, and the updates after it.
pub(crate) fn checkpoint_of<S: State>(
    steps: &[crate::store::load::StoredStep],
) -> Result<Checkpoint<S>, ReplayError> {
    let last = steps.iter().rfind(|step| step.update.is_none());
    let last = last.expect("a run has at least its first step");
    let state = written(steps).restore()?;
    let control = Control::decode(last.control.as_deref().unwrap_or_default())?;
    let step = u64::try_from(last.seq).unwrap_or(0);
    Ok(control.into_checkpoint(step, state))
}
