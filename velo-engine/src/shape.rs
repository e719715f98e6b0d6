//! The shape of a graph: its nodes, edges, joins and declared routes, checked as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::marker::PhantomData;

use petgraph::graphmap::DiGraphMap;
use petgraph::visit::Dfs;

use crate::node::NodeKey;
use crate::state::State;

/// Steps a run may take unless the graph says otherwise: small, since a runaway loop costs money.
pub const DEFAULT_STEP_LIMIT: u64 = 100;

/// A checked graph over the state `S`.
#[derive(Debug, Clone)]
pub struct Shape<S> {
    name: String,
    version: u32,
    step_limit: u64,
    start: &'static str,
    nodes: BTreeMap<&'static str, Routes>,
    joins: Vec<Join>,
    state: PhantomData<fn() -> S>,
}

/// Where a node may lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    pub(crate) edges: BTreeSet<&'static str>,
    pub(crate) may_go_to: BTreeSet<&'static str>,
}

/// A node that starts when all of its sources have finished since it last started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) sources: BTreeSet<&'static str>,
    pub(crate) target: &'static str,
}

/// What is wrong with a graph; `compile` returns all of it at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ShapeError {
    /// No start was declared.
    #[error("the graph has no start: call .start(NODE)")]
    NoStart,
    /// A name was used by two nodes.
    #[error("two nodes are called `{0}`")]
    DuplicateNode(&'static str),
    /// A name that the drawing or the store reserves.
    #[error("`{0}` cannot be a node's name: use letters, digits, `_` and `-`")]
    BadName(&'static str),
    /// An edge, join, route or start names a node that was not added.
    #[error("{place} names `{node}`, which is not a node of the graph")]
    UnknownNode {
        /// Where it is named.
        place: String,
        /// The unknown name.
        node: &'static str,
    },
    /// No path leads from the start to the node.
    #[error("node `{0}` cannot be reached from the start")]
    Unreachable(&'static str),
    /// A join of nothing never opens.
    #[error("the join before `{0}` has no sources, so it can never open")]
    EmptyJoin(&'static str),
}

impl<S: State> Shape<S> {
    /// Begins a graph of this name and version.
    pub fn builder(name: impl Into<String>, version: u32) -> ShapeBuilder<S> {
        ShapeBuilder {
            name: name.into(),
            version,
            step_limit: DEFAULT_STEP_LIMIT,
            starts: Vec::new(),
            nodes: BTreeMap::new(),
            duplicates: Vec::new(),
            edges: Vec::new(),
            routes: Vec::new(),
            joins: Vec::new(),
            state: PhantomData,
        }
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

    /// Steps that a run may take.
    #[must_use]
    pub fn step_limit(&self) -> u64 {
        self.step_limit
    }

    /// The first node.
    #[must_use]
    pub fn start(&self) -> &'static str {
        self.start
    }

    /// The graph's own spelling of a node's name.
    pub(crate) fn node_name(&self, name: &str) -> Option<&'static str> {
        self.nodes.get_key_value(name).map(|(name, _)| *name)
    }

    pub(crate) fn routes(&self, node: &str) -> Option<&Routes> {
        self.nodes.get(node)
    }

    pub(crate) fn joins(&self) -> &[Join] {
        &self.joins
    }

    /// The graph as a Mermaid flowchart: edges solid, declared routes dotted.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = format!("flowchart TD\n    __start__([start]) --> {}\n", self.start);
        for (node, routes) in &self.nodes {
            for target in &routes.edges {
                let _ = writeln!(text, "    {node} --> {target}");
            }
            for target in &routes.may_go_to {
                let _ = writeln!(text, "    {node} -.-> {target}");
            }
        }
        for join in &self.joins {
            for source in &join.sources {
                let _ = writeln!(text, "    {source} -->|join| {}", join.target);
            }
        }
        text
    }
}

/// Collects the parts of a [`Shape`].
#[derive(Debug)]
pub struct ShapeBuilder<S> {
    name: String,
    version: u32,
    step_limit: u64,
    starts: Vec<&'static str>,
    nodes: BTreeMap<&'static str, Routes>,
    duplicates: Vec<&'static str>,
    edges: Vec<(&'static str, &'static str)>,
    routes: Vec<(&'static str, &'static str)>,
    joins: Vec<Join>,
    state: PhantomData<fn() -> S>,
}

impl<S: State> ShapeBuilder<S> {
    /// Adds a node.
    #[must_use]
    pub fn node<I>(mut self, node: NodeKey<S, I>) -> Self {
        if self.nodes.insert(node.name(), Routes::default()).is_some() {
            self.duplicates.push(node.name());
        }
        self
    }

    /// Declares that `from` may choose `to` by `goto` or `send`.
    #[must_use]
    pub fn may_go<I, J>(mut self, from: NodeKey<S, I>, to: NodeKey<S, J>) -> Self {
        self.routes.push((from.name(), to.name()));
        self
    }

    /// Starts at `node`; a graph may have several starts only through one node that goes to them.
    #[must_use]
    pub fn start(mut self, node: NodeKey<S>) -> Self {
        self.starts = vec![node.name()];
        self
    }

    /// Goes to `to` whenever `from` has finished without an explicit route.
    #[must_use]
    pub fn edge<I>(mut self, from: NodeKey<S, I>, to: NodeKey<S>) -> Self {
        self.edges.push((from.name(), to.name()));
        self
    }

    /// Goes to `to` once every one of `from` has finished, then waits for all of them again.
    #[must_use]
    pub fn join<const N: usize>(mut self, from: [NodeKey<S>; N], to: NodeKey<S>) -> Self {
        let sources = from.into_iter().map(NodeKey::name).collect();
        self.joins.push(Join {
            sources,
            target: to.name(),
        });
        self
    }

    /// Lets a run take `steps` steps instead of [`DEFAULT_STEP_LIMIT`].
    #[must_use]
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.step_limit = steps;
        self
    }

    /// Checks the whole graph.
    ///
    /// # Errors
    /// Every [`ShapeError`] that the graph has, sorted.
    pub fn compile(mut self) -> Result<Shape<S>, Vec<ShapeError>> {
        let mut errors: BTreeSet<ShapeError> = self
            .duplicates
            .iter()
            .map(|name| ShapeError::DuplicateNode(name))
            .collect();
        errors.extend(
            self.nodes
                .keys()
                .filter(|name| !is_name(name))
                .map(|name| ShapeError::BadName(name)),
        );
        errors.extend(self.unknown_nodes());
        errors.extend(
            self.joins
                .iter()
                .filter(|join| join.sources.is_empty())
                .map(|join| ShapeError::EmptyJoin(join.target)),
        );
        match self.starts.first() {
            None => drop(errors.insert(ShapeError::NoStart)),
            Some(start) => errors.extend(self.unreachable_from(start)),
        }
        let (Some(start), true) = (self.starts.first().copied(), errors.is_empty()) else {
            return Err(errors.into_iter().collect());
        };
        for (from, to) in self.edges {
            self.nodes.entry(from).or_default().edges.insert(to);
        }
        for (from, to) in self.routes {
            self.nodes.entry(from).or_default().may_go_to.insert(to);
        }
        Ok(Shape {
            name: self.name,
            version: self.version,
            step_limit: self.step_limit,
            start,
            nodes: self.nodes,
            joins: self.joins,
            state: PhantomData,
        })
    }

    fn unknown_nodes(&self) -> Vec<ShapeError> {
        let mut named: Vec<(String, &'static str)> = self
            .starts
            .iter()
            .map(|node| ("the start".to_owned(), *node))
            .collect();
        for (from, to) in &self.edges {
            named.extend([*from, *to].map(|node| (format!("the edge {from} -> {to}"), node)));
        }
        for (from, to) in &self.routes {
            named.extend([*from, *to].map(|node| (format!("the route {from} -> {to}"), node)));
        }
        for join in &self.joins {
            let place = format!("the join before {}", join.target);
            named.extend(
                join.sources
                    .iter()
                    .chain([&join.target])
                    .map(|node| (place.clone(), *node)),
            );
        }
        let unknown = named
            .into_iter()
            .filter(|(_, node)| !self.nodes.contains_key(node));
        unknown
            .map(|(place, node)| ShapeError::UnknownNode { place, node })
            .collect()
    }

    fn unreachable_from(&self, start: &'static str) -> Vec<ShapeError> {
        let mut paths = DiGraphMap::<&'static str, ()>::new();
        for (from, to) in self.edges.iter().chain(&self.routes) {
            paths.add_edge(from, to, ());
        }
        for join in &self.joins {
            for source in &join.sources {
                paths.add_edge(source, join.target, ());
            }
        }
        paths.add_node(start);
        let mut walk = Dfs::new(&paths, start);
        let mut reached = BTreeSet::new();
        while let Some(node) = walk.next(&paths) {
            reached.insert(node);
        }
        self.nodes
            .keys()
            .filter(|node| !reached.contains(*node))
            .map(|node| ShapeError::Unreachable(node))
            .collect()
    }
}

/// Names are drawn, stored and typed in a terminal, so they stay plain.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with("__")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
