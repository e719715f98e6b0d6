//! The shape of a graph: its nodes, edges, joins and declared routes, checked as a whole.

mod builder;
mod check;
mod drawing;
mod error;
mod join;
mod named;
mod outline;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use crate::breakpoint::Breakpoints;
use crate::executor::Task;
use crate::state::State;

pub use builder::ShapeBuilder;
pub(crate) use drawing::id as drawing_id;
pub use error::ShapeError;
pub(crate) use join::{Join, JoinRule};
pub use named::Sources;

/// Steps a run may take unless the graph says otherwise: small, since a runaway loop costs money.
pub const DEFAULT_STEP_LIMIT: u64 = 100;
/// Most nodes of one graph: what one person can still follow, and a bound for every walk through it.
pub const NODES_MAX: usize = 1000;
/// Most bytes of a node's name: it is in every stored step that leads to the node.
pub const NAME_MAX: usize = 64;

/// A checked graph over the state `S`.
#[derive(Debug, Clone)]
pub struct Shape<S> {
    name: String,
    version: u32,
    step_limit: u64,
    starts: BTreeSet<&'static str>,
    nodes: BTreeMap<&'static str, NodeShape>,
    joins: Vec<Join>,
    breakpoints: Breakpoints,
    /// What nodes were called in older code.
    renamed: BTreeMap<String, &'static str>,
    state: PhantomData<fn() -> S>,
}

/// Where a node may lead, and when it may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeShape {
    pub(crate) edges: BTreeSet<&'static str>,
    pub(crate) may_go_to: BTreeSet<&'static str>,
    pub(crate) is_deferred: bool,
    pub(crate) at_most: Option<usize>,
    /// The node that takes what it fails with.
    pub(crate) on_error: Option<&'static str>,
}

impl<S: State> Shape<S> {
    /// Begins a graph of this name and version.
    pub fn builder(name: impl Into<String>, version: u32) -> ShapeBuilder<S> {
        ShapeBuilder::new(name.into(), version)
    }

    /// The graph's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The graph's version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Steps that a run may take, unless it was started with a limit of its own.
    #[must_use]
    pub fn step_limit(&self) -> u64 {
        self.step_limit
    }

    /// The nodes of the first step, by name.
    pub fn starts(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.starts.iter().copied()
    }

    /// Most tasks of `node` that are at work at once in one run; `None` when only the worker bounds
    /// them.
    #[must_use]
    pub fn at_most(&self, node: &str) -> Option<usize> {
        self.nodes.get(node).and_then(|node| node.at_most)
    }

    /// The graph's own spelling of a node's name.
    pub(crate) fn node_name(&self, name: &str) -> Option<&'static str> {
        let own = self.nodes.get_key_value(name).map(|(name, _)| *name);
        own.or_else(|| self.renamed.get(name).copied())
    }

    /// Calls what older code has left by the names of today.
    pub(crate) fn rename(&self, tasks: &mut [Task]) {
        for task in tasks {
            if let Some(name) = self.renamed.get(&task.node)
                && !self.nodes.contains_key(task.node.as_str())
            {
                (*name).clone_into(&mut task.node);
            }
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<&NodeShape> {
        self.nodes.get(name)
    }

    pub(crate) fn breakpoints(&self) -> &Breakpoints {
        &self.breakpoints
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.nodes.keys().copied()
    }

    pub(crate) fn joins(&self) -> &[Join] {
        &self.joins
    }
}
