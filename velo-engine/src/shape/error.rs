//! What can be wrong with a graph.

use super::{NAME_MAX, NODES_MAX};
use crate::near::Hint;

/// What is wrong with a graph; `compile` returns all of it at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// No start was declared.
    #[error("the graph has no start: call .start(NODE)")]
    NoStart,
    /// More nodes than [`NODES_MAX`].
    #[error(
        "the graph has {0} nodes, and {NODES_MAX} are the most: move a part into a graph of its own"
    )]
    TooManyNodes(usize),
    /// A limit of no steps.
    #[error("the graph allows no steps at all: give .step_limit(…) at least one")]
    NoSteps,
    /// A name was used by two nodes.
    #[error("two nodes are called `{0}`")]
    DuplicateNode(&'static str),
    /// A name was used by two handlers of updates, or of queries.
    #[error("two updates or two queries are called `{0}`")]
    DuplicateHandler(&'static str),
    /// A name that the drawing or the store reserves.
    #[error(
        "`{0}` cannot be a node's name: use up to {NAME_MAX} letters, digits, `_` and `-`, and no `__` in front"
    )]
    BadName(&'static str),
    /// An edge, join, route or start names a node that was not added.
    #[error("{place} names `{node}`, which is not a node of the graph{}", Hint(*.near))]
    UnknownNode {
        /// Where it is named.
        place: String,
        /// The unknown name.
        node: &'static str,
        /// The node that was probably meant.
        near: Option<&'static str>,
    },
    /// Two keys of one name disagree about the payload: what is sent could not be read.
    #[error(
        "{place} names `{node}` as taking `{named}`, but the node takes `{added}`: use one key for both"
    )]
    OtherPayload {
        /// Where it is named.
        place: String,
        /// The node.
        node: &'static str,
        /// The payload's type there.
        named: &'static str,
        /// The payload's type of the node that was added.
        added: &'static str,
    },
    /// No path leads from the start to the node.
    #[error(
        "node `{0}` cannot be reached from the start: lead to it by .edge(…) or .join(…), or let nodes choose it by .may_go(…)"
    )]
    Unreachable(&'static str),
    /// A join of nothing never opens.
    #[error("the join before `{0}` has no sources, so it can never open")]
    EmptyJoin(&'static str),
    /// A join that waits for none of its sources, or for more than it has.
    #[error(
        "the join before `{target}` waits for {needs} of {sources} nodes: it takes 1 to {sources}"
    )]
    BadJoin {
        /// The node behind the join.
        target: &'static str,
        /// How many sources it waits for.
        needs: usize,
        /// How many it has.
        sources: usize,
    },
    /// A join whose sources can never have come.
    #[error(
        "the join before `{target}` can never open: `{source_node}` does not run before it has"
    )]
    ShutJoin {
        /// The node behind the join.
        target: &'static str,
        /// A source that nothing leads to but the join itself.
        source_node: &'static str,
    },
    /// Leave to stay shut for a join that is not there.
    #[error("`{0}` may stay shut, but no join leads to it")]
    NoJoin(&'static str),
    /// A node that is to handle its own failures.
    #[error("node `{0}` cannot handle its own errors: name another node in .on_error(…)")]
    OwnHandler(&'static str),
    /// A limit that lets a node never run.
    #[error("at most 0 tasks of node `{0}` may run at once, so it can never run")]
    NoTasks(&'static str),
}
