//! Finding everything that is wrong with a graph.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{NewJoin, Parts};
use super::named::Named;
use super::{JoinRule, NAME_MAX, NODES_MAX, ShapeError, paths};
use crate::near::nearest;

pub(super) fn errors(parts: &Parts) -> BTreeSet<ShapeError> {
    let mut errors = nodes(&parts.nodes);
    errors.extend(mentions(parts));
    errors.extend(parts.joins.iter().filter_map(quorum));
    errors.extend(limits(parts));
    let own = parts
        .handlers
        .iter()
        .filter(|(node, to)| node.name == to.name);
    errors.extend(own.map(|(node, _)| ShapeError::OwnHandler(node.name)));
    // Walks only what can be drawn: each is bounded by the number of nodes.
    if parts.nodes.len() > NODES_MAX {
        errors.insert(ShapeError::TooManyNodes(parts.nodes.len()));
    } else if parts.starts.is_empty() {
        errors.insert(ShapeError::NoStart);
    } else {
        errors.extend(ways(parts));
    }
    errors
}

fn nodes(nodes: &[Named]) -> BTreeSet<ShapeError> {
    let mut seen = BTreeSet::new();
    let mut errors = BTreeSet::new();
    for node in nodes {
        if !seen.insert(node.name) {
            errors.insert(ShapeError::DuplicateNode(node.name));
        }
        if !is_name(node.name) {
            errors.insert(ShapeError::BadName(node.name));
        }
    }
    errors
}

/// Names are drawn, stored and typed in a terminal, so they stay plain.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with("__")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Every key that is used must be that of a node which was added.
fn mentions(parts: &Parts) -> Vec<ShapeError> {
    let mut named: Vec<(String, Named)> = Vec::new();
    let mut all = |place: &str, nodes: &[Named]| {
        named.extend(nodes.iter().map(|node| (place.to_owned(), *node)));
    };
    all("the start", &parts.starts);
    for (from, to) in &parts.edges {
        all(
            &format!("the edge {} -> {}", from.name, to.name),
            &[*from, *to],
        );
    }
    for (from, to) in &parts.routes {
        all(
            &format!("the route {} -> {}", from.name, to.name),
            &[*from, *to],
        );
    }
    for join in &parts.joins {
        let place = format!("the join before {}", join.target.name);
        all(&place, &join.sources);
        all(&place, &[join.target]);
    }
    all(".may_stay_shut(…)", &parts.may_stay_shut);
    all(".deferred(…)", &parts.deferred);
    for (_, node) in &parts.renamed {
        all(".renamed(…)", &[*node]);
    }
    for (node, _) in &parts.limits {
        all(".at_most(…)", &[*node]);
    }
    for (place, node) in &parts.mentions {
        all(place, &[*node]);
    }
    all(".pause_before(…)", &parts.pauses.before);
    all(".pause_after(…)", &parts.pauses.after);
    // Of two nodes of one name, the first counts; that there are two is an error of its own.
    let mut added = BTreeMap::new();
    for node in &parts.nodes {
        added.entry(node.name).or_insert(node.payload);
    }
    let wrong = named.into_iter().filter_map(|(place, node)| {
        let (node, named) = (node.name, node.payload);
        match added.get(node) {
            None => Some(ShapeError::UnknownNode {
                place,
                node,
                near: nearest(node, added.keys().copied()),
            }),
            Some(added) if *added != named => Some(ShapeError::OtherPayload {
                place,
                node,
                named,
                added,
            }),
            Some(_) => None,
        }
    });
    wrong.collect()
}

fn quorum(join: &NewJoin) -> Option<ShapeError> {
    let target = join.target.name;
    let sources: BTreeSet<_> = join.sources.iter().map(|source| source.name).collect();
    match join.rule {
        _ if sources.is_empty() => Some(ShapeError::EmptyJoin(target)),
        JoinRule::Some(needs) if needs == 0 || needs > sources.len() => Some(ShapeError::BadJoin {
            target,
            needs,
            sources: sources.len(),
        }),
        JoinRule::All | JoinRule::Some(_) => None,
    }
}

fn limits(parts: &Parts) -> BTreeSet<ShapeError> {
    let mut errors = BTreeSet::new();
    if parts.step_limit == 0 {
        errors.insert(ShapeError::NoSteps);
    }
    for (node, tasks) in &parts.limits {
        if *tasks == 0 {
            errors.insert(ShapeError::NoTasks(node.name));
        }
    }
    for node in &parts.may_stay_shut {
        if !parts.joins.iter().any(|join| join.target.name == node.name) {
            errors.insert(ShapeError::NoJoin(node.name));
        }
    }
    errors
}

fn ways(parts: &Parts) -> BTreeSet<ShapeError> {
    let reached = paths::reached(parts);
    let lost = parts.nodes.iter().map(|node| node.name);
    let mut errors: BTreeSet<_> = lost
        .filter(|name| !reached.contains(name))
        .map(ShapeError::Unreachable)
        .collect();
    for join in parts.joins.iter().filter(|join| quorum(join).is_none()) {
        if !paths::may_open(join, &reached) {
            let missing = join.sources.iter().map(|source| source.name);
            errors.extend(
                missing
                    .filter(|name| !reached.contains(name))
                    .map(|source_node| ShapeError::ShutJoin {
                        target: join.target.name,
                        source_node,
                    }),
            );
        }
    }
    errors
}
