//! The ways through a graph.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::graphmap::DiGraphMap;
use petgraph::visit::{Dfs, Reversed};

use super::builder::{NewJoin, Parts};

type Ways = DiGraphMap<&'static str, ()>;

/// The nodes that can ever run. A join lets through only when enough of its sources can run before it.
pub(super) fn reached(parts: &Parts) -> BTreeSet<&'static str> {
    let mut ways = Ways::new();
    for node in &parts.nodes {
        ways.add_node(node.name);
    }
    for (from, to) in parts.edges.iter().chain(&parts.routes) {
        ways.add_edge(from.name, to.name, ());
    }
    let mut reached = BTreeSet::new();
    let mut begin: Vec<_> = parts.starts.iter().map(|node| node.name).collect();
    // Each round reaches the target of at least one more join, or is the last.
    while let Some(node) = begin.pop() {
        ways.add_node(node);
        let mut walk = Dfs::new(&ways, node);
        walk.discovered.extend(reached.iter().copied());
        while let Some(node) = walk.next(&ways) {
            reached.insert(node);
        }
        if begin.is_empty() {
            let opened = parts
                .joins
                .iter()
                .filter(|join| !reached.contains(join.target.name) && may_open(join, &reached));
            begin.extend(opened.map(|join| join.target.name));
        }
    }
    reached
}

/// Whether enough of the sources are among these nodes.
pub(super) fn may_open(join: &NewJoin, reached: &BTreeSet<&'static str>) -> bool {
    let sources: BTreeSet<_> = join.sources.iter().map(|source| source.name).collect();
    let come = sources.intersection(reached).count();
    match join.rule {
        super::JoinRule::All => come == sources.len() && come > 0,
        super::JoinRule::Some(needs) => come >= needs,
    }
}

/// For each of `sources`, the nodes that lead to it without passing through `target`.
pub(super) fn leads(
    parts: &Parts,
    sources: &BTreeSet<&'static str>,
    target: &'static str,
) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut ways = Ways::new();
    for (from, to) in parts.edges.iter().chain(&parts.routes) {
        ways.add_edge(from.name, to.name, ());
    }
    for join in &parts.joins {
        for source in &join.sources {
            ways.add_edge(source.name, join.target.name, ());
        }
    }
    for source in sources {
        ways.add_node(source);
    }
    ways.remove_node(target);
    let to = |source: &&'static str| {
        let mut leads = BTreeSet::new();
        // A join that waits for its own target: that one begins the next round.
        if ways.contains_node(source) {
            let back = Reversed(&ways);
            let mut walk = Dfs::new(back, *source);
            while let Some(node) = walk.next(back) {
                leads.insert(node);
            }
        }
        (*source, leads)
    };
    sources.iter().map(to).collect()
}
