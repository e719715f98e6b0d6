//! The stored forms of what a step leaves: what was written, what comes next, one task's outcome.
//!
//! Short names, since they are in every row.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::breakpoint::Breakpoints;
use crate::executor::{Arrivals, Checkpoint, Saga, Task};
use crate::next::{Back, Next, Route, Sent, Target};
use crate::schema::{ReplayError, deltas_of, mark, unmark};
use crate::shape::Shape;
use crate::state::{CodecError, State, Update};

/// What comes next: the tasks of the next step and the deferred ones, how far each join is, and the
/// run's own limit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Control {
    #[serde(rename = "t")]
    tasks: Vec<StoredTask>,
    #[serde(rename = "j", default, skip_serializing_if = "BTreeMap::is_empty")]
    joins: BTreeMap<usize, Arrivals>,
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<StoredTask>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    step_limit: Option<u64>,
    #[serde(rename = "b", default, skip_serializing_if = "Breakpoints::is_empty")]
    breakpoints: Breakpoints,
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    halted_after: Vec<String>,
    /// The step was made by hand; in place of which nodes.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    edited: Option<Vec<String>>,
    /// What can be taken back.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    compensations: Vec<StoredTask>,
    /// On the way back, what follows it.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    back_to: Option<Vec<StoredTask>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredTask {
    #[serde(rename = "n")]
    pub(crate) node: String,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    send: Option<u32>,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<Value>,
    /// Milliseconds that an attempt may take.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
}

fn stored_time(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

impl Control {
    pub(crate) fn encode<S: State>(checkpoint: &Checkpoint<S>) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(&Self::of(checkpoint)).map_err(encode_error("next"))
    }

    /// As [`encode`](Self::encode), of a step that was made by hand, in place of `node`.
    pub(crate) fn encode_edit<S: State>(
        checkpoint: &Checkpoint<S>,
        node: Option<&str>,
    ) -> Result<Vec<u8>, CodecError> {
        let control = Self {
            edited: Some(node.map(str::to_owned).into_iter().collect()),
            ..Self::of(checkpoint)
        };
        serde_json::to_vec(&control).map_err(encode_error("next"))
    }

    /// In place of which nodes the step was made, when it was made by hand.
    pub(crate) fn edited(&self) -> Option<&[String]> {
        self.edited.as_deref()
    }

    fn of<S: State>(checkpoint: &Checkpoint<S>) -> Self {
        let stored = |task: &Task| StoredTask {
            node: task.node.clone(),
            send: task.send,
            input: task.input.clone(),
            within: task.within.map(stored_time),
        };
        Self {
            tasks: checkpoint.tasks.iter().map(stored).collect(),
            joins: checkpoint.joins.clone(),
            deferred: checkpoint.deferred.iter().map(stored).collect(),
            step_limit: checkpoint.step_limit,
            breakpoints: checkpoint.breakpoints.clone(),
            halted_after: checkpoint.halted_after.clone(),
            edited: None,
            compensations: checkpoint.saga.compensations.iter().map(stored).collect(),
            back_to: (checkpoint.saga.back_to.as_ref())
                .map(|tasks| tasks.iter().map(stored).collect()),
        }
    }

    /// The nodes that are next, those of sends as often as they were sent.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.node.clone()).collect()
    }

    /// By their places among the nodes that are next, how many milliseconds attempts of sends may take.
    pub(crate) fn times(&self) -> BTreeMap<usize, u64> {
        let times = self.tasks.iter().map(|task| task.within).enumerate();
        times
            .filter_map(|(place, within)| Some((place, within?)))
            .collect()
    }

    /// The deferred nodes, those of sends as often as they were sent.
    pub(crate) fn deferred(&self) -> Vec<String> {
        self.deferred.iter().map(|task| task.node.clone()).collect()
    }

    /// The tasks of the next step.
    pub(crate) fn tasks(&self) -> &[StoredTask] {
        &self.tasks
    }

    pub(crate) fn into_tasks(self) -> Vec<StoredTask> {
        self.tasks
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        serde_json::from_slice(bytes).map_err(decode_error("next"))
    }

    pub(crate) fn into_checkpoint<S: State>(self, step: u64, state: S) -> Checkpoint<S> {
        let task = |stored: StoredTask| Task {
            node: stored.node,
            // A payload of null is told from none by the number of the send.
            input: stored.input.or_else(|| stored.send.map(|_| Value::Null)),
            send: stored.send,
            within: stored.within.map(Duration::from_millis),
        };
        Checkpoint {
            step,
            state,
            tasks: self.tasks.into_iter().map(task).collect(),
            deferred: self.deferred.into_iter().map(task).collect(),
            joins: self.joins,
            step_limit: self.step_limit,
            breakpoints: self.breakpoints,
            halted_after: self.halted_after,
            saga: Saga {
                compensations: self.compensations.into_iter().map(task).collect(),
                back_to: (self.back_to).map(|tasks| tasks.into_iter().map(task).collect()),
            },
        }
    }
}

/// What all outcomes of a step wrote, in their order, as one update.
pub(crate) fn encode_delta<S: State>(outcomes: &[Next<S>]) -> Result<Vec<u8>, CodecError> {
    encode_writes(mark(S::VERSION), outcomes)
}

fn encode_writes<S: State>(
    mut delta: Vec<u8>,
    outcomes: &[Next<S>],
) -> Result<Vec<u8>, CodecError> {
    let updates = outcomes.iter().flat_map(|outcome| &outcome.updates);
    delta.push(b'[');
    let begin = delta.len();
    for update in updates {
        let list = update.encode()?;
        // Each is a list: join what is between the brackets.
        let writes = &list[1..list.len() - 1];
        if !writes.is_empty() {
            if delta.len() > begin {
                delta.push(b',');
            }
            delta.extend_from_slice(writes);
        }
    }
    delta.push(b']');
    Ok(delta)
}

#[derive(Serialize, Deserialize)]
struct StoredOutcome {
    #[serde(rename = "u")]
    updates: Box<RawValue>,
    /// The version of the state that they are of.
    #[serde(rename = "v", default = "first", skip_serializing_if = "is_first")]
    version: u32,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    route: Option<Vec<StoredTarget>>,
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    compensations: Vec<StoredTarget>,
    /// It turns back, and then to this node, if any.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    unwinds: Option<Vec<String>>,
}

fn first() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_first(version: &u32) -> bool {
    *version == 1
}

#[derive(Serialize, Deserialize)]
struct StoredTarget {
    #[serde(rename = "n")]
    node: String,
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    is_send: bool,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
}

/// The outcome of a task that has written nothing and follows its edges, whatever the state.
pub(crate) const NOTHING_DONE: &[u8] = br#"{"u":[]}"#;

/// One task's outcome.
pub(crate) fn encode_outcome<S: State>(outcome: &Next<S>) -> Result<Vec<u8>, CodecError> {
    let writes = encode_writes(Vec::new(), std::slice::from_ref(outcome))?;
    let updates: Box<RawValue> =
        serde_json::from_slice(&writes).map_err(encode_error("outcome"))?;
    let route = match &outcome.route {
        Route::Edges | Route::Unwind(_) => None,
        Route::To(targets) => Some(targets.iter().map(stored_target).collect()),
    };
    let unwinds = match &outcome.route {
        Route::Unwind(back) => Some(back.then.iter().map(|node| (*node).to_owned()).collect()),
        _ => None,
    };
    let compensations = outcome.compensations.iter();
    let compensations = compensations.map(|(node, sent)| stored_send(node, sent));
    let version = S::VERSION;
    serde_json::to_vec(&StoredOutcome {
        updates,
        version,
        route,
        compensations: compensations.collect(),
        unwinds,
    })
    .map_err(encode_error("outcome"))
}

fn stored_target(target: &Target) -> StoredTarget {
    match target {
        Target::Goto(node) => StoredTarget {
            node: (*node).to_owned(),
            is_send: false,
            input: None,
            within: None,
        },
        // A payload without a JSON form never gets here: the outcome is refused before.
        Target::Send(node, sent) => stored_send(node, sent),
    }
}

fn stored_send(node: &str, sent: &Sent) -> StoredTarget {
    StoredTarget {
        node: node.to_owned(),
        is_send: true,
        input: sent.input.clone().ok(),
        within: sent.within.map(stored_time),
    }
}

/// Reads what [`encode_outcome`] wrote. A target that the graph no longer has is an error, later, of
/// the step.
pub(crate) fn decode_outcome<S: State>(
    shape: &Shape<S>,
    bytes: &[u8],
) -> Result<Next<S>, ReplayError> {
    let stored: StoredOutcome = serde_json::from_slice(bytes).map_err(decode_error("outcome"))?;
    // One that has written nothing is of any version.
    if stored.version != S::VERSION && stored.updates.get() != "[]" {
        let (stored, version) = (stored.version, S::VERSION);
        return Err(if stored > version {
            ReplayError::Newer { stored, version }
        } else {
            ReplayError::Underway { stored, version }
        });
    }
    let update = S::Update::decode(stored.updates.get().as_bytes())?;
    let named = |node: String| {
        let known = shape.node_name(&node);
        known.ok_or(ReplayError::NoNode { node })
    };
    let target = |stored: StoredTarget| {
        let node = named(stored.node)?;
        Ok(if stored.is_send {
            let sent = Sent {
                input: Ok(stored.input.unwrap_or(Value::Null)),
                within: stored.within.map(Duration::from_millis),
            };
            Target::Send(node, sent)
        } else {
            Target::Goto(node)
        })
    };
    let mut compensations = Vec::new();
    for registered in stored.compensations {
        if let Target::Send(node, sent) = target(registered)? {
            compensations.push((node, sent));
        }
    }
    let route = match stored.route {
        None => match stored.unwinds {
            Some(then) => Route::Unwind(Back {
                then: then.into_iter().next().map(named).transpose()?,
                beside: None,
            }),
            None => Route::Edges,
        },
        Some(targets) => Route::To(
            targets
                .into_iter()
                .map(target)
                .collect::<Result<_, ReplayError>>()?,
        ),
    };
    Ok(Next {
        updates: vec![update],
        route,
        compensations,
    })
}

/// What a task wrote and where it chose to go, of any graph.
pub(crate) fn show_outcome(bytes: &[u8]) -> Result<(Value, Option<Vec<String>>), CodecError> {
    let stored: StoredOutcome = serde_json::from_slice(bytes).map_err(decode_error("outcome"))?;
    let writes = show_delta(stored.updates.get().as_bytes())?;
    let nodes = |targets: Vec<StoredTarget>| targets.into_iter().map(|target| target.node);
    Ok((writes, stored.route.map(|targets| nodes(targets).collect())))
}

/// What a step wrote, of any graph.
pub(crate) fn show_delta(bytes: &[u8]) -> Result<Value, CodecError> {
    if bytes.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let parts = deltas_of(bytes).map(|part| serde_json::from_slice(unmark(part).1));
    let parts: Result<Vec<Vec<Value>>, _> = parts.collect();
    Ok(Value::Array(parts.map_err(decode_error("*"))?.concat()))
}

fn encode_error(field: &str) -> impl FnOnce(serde_json::Error) -> CodecError {
    let field = field.to_owned();
    move |source| CodecError::Encode { field, source }
}

fn decode_error(field: &str) -> impl FnOnce(serde_json::Error) -> CodecError {
    let field = field.to_owned();
    move |source| CodecError::Decode { field, source }
}

#[cfg(test)]
mod tests;
