//! Graphs played in memory.

use serde::{Deserialize, Serialize};
use velo_engine::executor::{AdvanceError, Checkpoint, Task, advance, begin};
use velo_engine::{Next, NodeKey, Shape, ShapeBuilder, State};

/// Steps that no play here comes near.
const STEPS_MAX: usize = 50;

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) topic: String,
    #[state(append)]
    pub(crate) seen: Vec<String>,
}

pub(crate) const A: NodeKey<Log> = NodeKey::new("a");
pub(crate) const B: NodeKey<Log> = NodeKey::new("b");
pub(crate) const C: NodeKey<Log> = NodeKey::new("c");
pub(crate) const D: NodeKey<Log> = NodeKey::new("d");
pub(crate) const E: NodeKey<Log> = NodeKey::new("e");
pub(crate) const WORK: NodeKey<Log, u32> = NodeKey::new("work");

/// A graph named `g` with these nodes, starting at `a`.
pub(crate) fn graph(nodes: &[NodeKey<Log>]) -> ShapeBuilder<Log> {
    let builder = Shape::builder("g", 1).start(A);
    nodes
        .iter()
        .fold(builder, |builder, node| builder.node(*node))
}

/// Logs the task's node and payload, and follows the edges.
pub(crate) fn logged(task: &Task) -> Next<Log> {
    let input = task.input.as_ref().map(ToString::to_string);
    let line = format!("{}{}", task.node, input.unwrap_or_default());
    Log::update().seen(vec![line]).into()
}

/// Plays a run until its end or `steps` steps: the nodes of each step, joined by spaces.
pub(crate) fn play(
    shape: &Shape<Log>,
    steps: usize,
    mut node: impl FnMut(&Task, &Checkpoint<Log>) -> Next<Log>,
) -> Result<(Vec<String>, Checkpoint<Log>), AdvanceError> {
    let mut checkpoint = begin(shape, Log::default());
    let mut history = Vec::new();
    while !checkpoint.tasks.is_empty() && history.len() < steps.min(STEPS_MAX) {
        history.push(names(&checkpoint));
        let outcomes = checkpoint.tasks.iter().map(|task| node(task, &checkpoint));
        let outcomes = outcomes.collect();
        checkpoint = advance(shape, &checkpoint, outcomes)?;
    }
    Ok((history, checkpoint))
}

/// Plays a run to its end with nodes that all follow their edges.
pub(crate) fn follow_edges(shape: &Shape<Log>) -> Vec<String> {
    play(shape, STEPS_MAX, |task, _| logged(task)).unwrap().0
}

pub(crate) fn names(checkpoint: &Checkpoint<Log>) -> String {
    let names = checkpoint.tasks.iter().map(|task| task.node.as_str());
    names.collect::<Vec<_>>().join(" ")
}
