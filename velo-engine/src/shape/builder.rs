//! Collecting the parts of a graph.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use super::named::Named;
use super::{
    DEFAULT_STEP_LIMIT, Join, JoinRule, NodeShape, Shape, ShapeError, Sources, check, paths,
};
use crate::breakpoint::Breakpoints;
use crate::node::NodeKey;
use crate::node_failure::NodeFailure;
use crate::state::State;

/// Collects the parts of a [`Shape`].
///
/// A node without any way on ends its branch of the run; there is no separate end to declare.
#[derive(Debug)]
pub struct ShapeBuilder<S> {
    name: String,
    version: u32,
    parts: Parts,
    state: PhantomData<fn() -> S>,
}

/// What was declared, before it is checked.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) step_limit: u64,
    pub(super) starts: Vec<Named>,
    pub(super) nodes: Vec<Named>,
    pub(super) edges: Vec<(Named, Named)>,
    pub(super) routes: Vec<(Named, Named)>,
    pub(super) joins: Vec<NewJoin>,
    pub(super) may_stay_shut: Vec<Named>,
    pub(super) deferred: Vec<Named>,
    pub(super) limits: Vec<(Named, usize)>,
    /// Nodes that something is said about which is no part of the shape, and where.
    pub(super) mentions: Vec<(&'static str, Named)>,
    /// Each node that has an error handler, with that.
    pub(super) handlers: Vec<(Named, Named)>,
    pub(super) default_handler: Option<Named>,
    /// What nodes were called in older code.
    pub(super) renamed: Vec<(String, Named)>,
    pub(super) pauses: Pauses,
}

/// Where runs are paused.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    pub(super) before: Vec<Named>,
    pub(super) after: Vec<Named>,
    before_all: bool,
    after_all: bool,
}

#[derive(Debug)]
pub(super) struct NewJoin {
    pub(super) sources: Vec<Named>,
    pub(super) target: Named,
    pub(super) rule: JoinRule,
}

impl<S: State> ShapeBuilder<S> {
    pub(super) fn new(name: String, version: u32) -> Self {
        let parts = Parts {
            step_limit: DEFAULT_STEP_LIMIT,
            ..Parts::default()
        };
        Self {
            name,
            version,
            parts,
            state: PhantomData,
        }
    }

    /// Adds a node.
    #[must_use]
    pub fn node<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.parts.nodes.push(node.into());
        self
    }

    /// Declares that `from` may choose `to` by `goto` or `send`.
    #[must_use]
    pub fn may_go<I, J>(mut self, from: NodeKey<S, I>, to: NodeKey<S, J>) -> Self {
        self.parts.routes.push((from.into(), to.into()));
        self
    }

    /// Has `handler` take what `node` fails with when no attempt is left; see
    /// [`GraphBuilder::on_error`](crate::GraphBuilder::on_error).
    #[must_use]
    pub fn on_error<I>(mut self, node: NodeKey<S, I>, handler: NodeKey<S, NodeFailure>) -> Self {
        let node = node.into();
        self.parts.handlers.retain(|(other, _)| *other != node);
        self.parts.handlers.push((node, handler.into()));
        self
    }

    /// Has `handler` take what every node without a handler of its own fails with, other than handlers.
    #[must_use]
    pub fn default_on_error(mut self, handler: NodeKey<S, NodeFailure>) -> Self {
        self.parts.default_handler = Some(handler.into());
        self
    }

    /// Starts at `node`; called again, the first step has these nodes side by side.
    #[must_use]
    pub fn start(mut self, node: NodeKey<S>) -> Self {
        self.parts.starts.push(node.into());
        self
    }

    /// Goes to `to` whenever `from` has finished without an explicit route: once in a step, however
    /// many tasks of `from` the step has.
    #[must_use]
    pub fn edge<I>(mut self, from: NodeKey<S, I>, to: NodeKey<S>) -> Self {
        self.parts.edges.push((from.into(), to.into()));
        self
    }

    /// Goes to `to` once every one of `from` has finished without an explicit route, then waits for
    /// all of them again. A source that finishes twice meanwhile counts once.
    ///
    /// A run that would end while some have come and others have not is refused its last step, and
    /// pauses: see [`may_stay_shut`](Self::may_stay_shut).
    #[must_use]
    pub fn join(self, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.join_by(JoinRule::All, from, to)
    }

    /// Goes to `to` once the first of `from` has finished without an explicit route, as
    /// [`join_some`](Self::join_some) of one.
    #[must_use]
    pub fn join_any(self, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.join_by(JoinRule::Some(1), from, to)
    }

    /// Goes to `to` once `needs` of `from` have finished without an explicit route.
    ///
    /// In a loop it opens for the n-th time when `needs` sources have finished n times, so a source
    /// that comes late belongs to its own round and opens nothing. A source counts as skipped once
    /// nothing that is left to run leads to it but through `to`.
    #[must_use]
    pub fn join_some(self, needs: usize, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.join_by(JoinRule::Some(needs), from, to)
    }

    fn join_by(mut self, rule: JoinRule, from: impl Sources<S>, to: NodeKey<S>) -> Self {
        self.parts.joins.push(NewJoin {
            sources: from.into_list(),
            target: to.into(),
            rule,
        });
        self
    }

    /// Lets a run end while a join before `to` still waits for sources: they were skipped on purpose.
    #[must_use]
    pub fn may_stay_shut(mut self, to: NodeKey<S>) -> Self {
        self.parts.may_stay_shut.push(to.into());
        self
    }

    /// Runs `node` only when nothing else is left to run, whatever leads to it: edges, routes, sends
    /// or joins. It then runs once for all that led to it, and once for each send.
    #[must_use]
    pub fn deferred<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.parts.deferred.push(node.into());
        self
    }

    /// Says what `node` was called in older code, so that tasks which that has left are tasks of `node`.
    #[must_use]
    pub fn renamed<I>(mut self, was: impl Into<String>, node: NodeKey<S, I>) -> Self {
        self.parts.renamed.push((was.into(), node.into()));
        self
    }

    /// Demands that `node` is one of the graph, since `place` names it.
    #[must_use]
    pub(crate) fn mention<I>(mut self, place: &'static str, node: NodeKey<S, I>) -> Self {
        self.parts.mentions.push((place, node.into()));
        self
    }

    /// Lets at most `tasks` tasks of `node` be at work at once in one run.
    #[must_use]
    pub fn at_most<I>(mut self, node: NodeKey<S, I>, tasks: usize) -> Self {
        self.parts.limits.push((node.into(), tasks));
        self
    }

    /// Pauses runs before a step in which `node` has work to do; see
    /// [`GraphBuilder::pause_before`](crate::GraphBuilder::pause_before).
    #[must_use]
    pub fn pause_before<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.parts.pauses.before.push(node.into());
        self
    }

    /// Pauses runs after a step in which `node` has done work.
    #[must_use]
    pub fn pause_after<I>(mut self, node: NodeKey<S, I>) -> Self {
        self.parts.pauses.after.push(node.into());
        self
    }

    /// Pauses runs before every step.
    #[must_use]
    pub fn pause_before_all(mut self) -> Self {
        self.parts.pauses.before_all = true;
        self
    }

    /// Pauses runs after every step but the last.
    #[must_use]
    pub fn pause_after_all(mut self) -> Self {
        self.parts.pauses.after_all = true;
        self
    }

    /// Lets a run take `steps` steps instead of [`DEFAULT_STEP_LIMIT`].
    #[must_use]
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.parts.step_limit = steps;
        self
    }

    /// Checks the whole graph.
    ///
    /// # Errors
    /// Every [`ShapeError`] that the graph has, sorted. Not found is a join whose source only ever
    /// takes explicit routes: what a node returns is its own affair.
    pub fn compile(mut self) -> Result<Shape<S>, Vec<ShapeError>> {
        self.parts.lead_to_handlers();
        let errors = check::errors(&self.parts);
        if errors.is_empty() {
            Ok(self.into_shape())
        } else {
            Err(errors.into_iter().collect())
        }
    }

    fn into_shape(self) -> Shape<S> {
        let parts = self.parts;
        let joins = joins(&parts);
        let breakpoints = parts.breakpoints();
        let mut nodes: BTreeMap<&'static str, NodeShape> = BTreeMap::new();
        for node in &parts.nodes {
            nodes.entry(node.name).or_default();
        }
        for (from, to) in parts.edges {
            nodes.entry(from.name).or_default().edges.insert(to.name);
        }
        for (from, to) in parts.routes {
            let from = nodes.entry(from.name).or_default();
            from.may_go_to.insert(to.name);
        }
        for node in parts.deferred {
            nodes.entry(node.name).or_default().is_deferred = true;
        }
        for (node, handler) in parts.handlers {
            nodes.entry(node.name).or_default().on_error = Some(handler.name);
        }
        for (node, tasks) in parts.limits {
            nodes.entry(node.name).or_default().at_most = Some(tasks);
        }
        let renamed = parts
            .renamed
            .into_iter()
            .map(|(was, node)| (was, node.name));
        Shape {
            name: self.name,
            version: self.version,
            step_limit: parts.step_limit,
            starts: parts.starts.iter().map(|node| node.name).collect(),
            nodes,
            joins,
            breakpoints,
            renamed: renamed.collect(),
            state: PhantomData,
        }
    }
}

impl Parts {
    fn breakpoints(&self) -> Breakpoints {
        let named = |nodes: &[Named], is_all: bool| {
            let nodes = if is_all { &self.nodes } else { nodes };
            nodes.iter().map(|node| node.name.to_owned()).collect()
        };
        Breakpoints {
            before: named(&self.pauses.before, self.pauses.before_all),
            after: named(&self.pauses.after, self.pauses.after_all),
        }
    }

    /// A failed node goes to its handler: a way like those that it may choose itself.
    fn lead_to_handlers(&mut self) {
        if let Some(handler) = self.default_handler {
            let handles = |node: &Named| {
                node.name == handler.name
                    || self.handlers.iter().any(|(_, to)| to.name == node.name)
            };
            let has_own =
                |node: &Named| self.handlers.iter().any(|(from, _)| from.name == node.name);
            let rest = self
                .nodes
                .iter()
                .filter(|node| !handles(node) && !has_own(node));
            let rest: Vec<_> = rest.map(|node| (*node, handler)).collect();
            self.handlers.extend(rest);
        }
        self.routes.extend(&self.handlers);
    }
}

fn joins(parts: &Parts) -> Vec<Join> {
    let checked = |join: &NewJoin| {
        let target = join.target.name;
        let sources: BTreeSet<_> = join.sources.iter().map(|source| source.name).collect();
        let leads = match join.rule {
            // Has no rounds to tell apart: it waits until all have come.
            JoinRule::All => BTreeMap::new(),
            JoinRule::Some(_) => paths::leads(parts, &sources, target),
        };
        Join {
            may_stay_shut: parts.may_stay_shut.iter().any(|node| node.name == target),
            rule: join.rule,
            sources,
            target,
            leads,
        }
    };
    parts.joins.iter().map(checked).collect()
}
