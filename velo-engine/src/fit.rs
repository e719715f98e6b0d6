//! Whether code can go on with a run: decided by what is stored, in pure code.

use std::collections::BTreeSet;
use std::error::Error;

use serde_json::Value;
use uuid::Uuid;

use crate::check::Misfit;
use crate::code::{Form, JoinForm, Need};
use crate::executor::Checkpoint;
use crate::graph::Graph;
use crate::schema::ReplayError;
use crate::state::State;

/// What keeps code from reading where a run stands, when other code can.
pub(crate) fn need_of(error: &ReplayError) -> Option<Need> {
    match error {
        ReplayError::Newer { stored, .. } | ReplayError::Older { stored, .. } => {
            Some(Need::Reads(*stored))
        }
        ReplayError::Underway { stored, .. } => Some(Need::Writes(*stored)),
        ReplayError::NoNode { node } => Some(Need::Node(node.clone())),
        ReplayError::Codec(_) | ReplayError::Conflict(_) | ReplayError::Mixed { .. } => None,
    }
}

/// What a run that stands here needs and the graph does not have. `had` is the shape that it is pinned to,
/// with its joins if they are known, when that is another one.
pub(crate) fn needs<S: State>(
    graph: &Graph<S>,
    checkpoint: &Checkpoint<S>,
    had: Option<(Uuid, Option<&Value>)>,
) -> Vec<Need> {
    let tasks = checkpoint.tasks.iter().chain(&checkpoint.deferred);
    let tasks = tasks.chain(checkpoint.saga.tasks());
    let nodes: BTreeSet<&str> = tasks.map(|task| task.node.as_str()).collect();
    let gone = nodes
        .into_iter()
        .filter(|node| graph.work(node).is_none())
        .map(|node| Need::Node(node.to_owned()));
    let mut needs: Vec<Need> = gone.collect();
    if let Some((fingerprint, joins)) = had
        && !checkpoint.joins.is_empty()
        && !has_joins(graph, checkpoint, joins)
    {
        needs.push(Need::Shape(fingerprint));
    }
    needs
}

/// What keeps the graph from going on with a run that stands here: what it [needs], and what its nodes
/// could not read.
pub(crate) fn misfits<S: State>(
    graph: &Graph<S>,
    checkpoint: &Checkpoint<S>,
    had: Option<(Uuid, Option<&Value>)>,
) -> Vec<Misfit> {
    let needs = needs(graph, checkpoint, had).into_iter();
    let mut misfits: Vec<Misfit> = needs
        .map(|need| match need {
            Need::Node(node) => Misfit::NodeGone { node },
            Need::Shape(_) | Need::Reads(_) | Need::Writes(_) => Misfit::JoinsChanged,
        })
        .collect();
    let tasks = checkpoint.tasks.iter().chain(&checkpoint.deferred);
    for task in tasks.chain(checkpoint.saga.tasks()) {
        let read = graph
            .work(&task.node)
            .map(|work| work.reads(task.input.as_ref()));
        if let Some(Err(error)) = read {
            misfits.push(Misfit::InputChanged {
                node: task.node.clone(),
                message: error.to_string(),
            });
        }
    }
    misfits
}

/// Why what is stored cannot be read.
pub(crate) fn misfit_of(error: &ReplayError) -> Misfit {
    match error {
        ReplayError::Newer { stored, version } => Misfit::NewerState {
            stored: *stored,
            version: *version,
        },
        ReplayError::Older { stored, oldest } => Misfit::NoUpcast {
            stored: *stored,
            oldest: *oldest,
        },
        ReplayError::Underway { stored, .. } => Misfit::StepUnderway { stored: *stored },
        ReplayError::NoNode { node } => Misfit::NodeGone { node: node.clone() },
        ReplayError::Codec(_) | ReplayError::Conflict(_) | ReplayError::Mixed { .. } => {
            let mut causes = vec![error.to_string()];
            let mut cause = error.source();
            while let Some(error) = cause {
                causes.push(error.to_string());
                cause = error.source();
            }
            causes.dedup();
            Misfit::Unreadable {
                message: causes.join(": "),
            }
        }
    }
}

/// Whether the joins that have begun to wait are those of the graph, by their places. Of joins that
/// nobody has kept nothing is known, and nothing is guessed.
fn has_joins<S: State>(graph: &Graph<S>, checkpoint: &Checkpoint<S>, had: Option<&Value>) -> bool {
    let had: Option<Vec<JoinForm>> =
        had.and_then(|joins| serde::Deserialize::deserialize(joins).ok());
    let has = Form::of(graph.shape(), graph.fingerprint()).joins;
    had.is_some_and(|had| {
        let mut waiting = checkpoint.joins.keys();
        waiting.all(|place| had.get(*place).is_some() && had.get(*place) == has.get(*place))
    })
}
