//! A shape as data.

use super::Shape;
use super::drawing::label;
use crate::outline::{Outline, OutlineNode, Way, WayKind};
use crate::state::State;

impl<S: State> Shape<S> {
    /// The graph as data: for pictures, and for who does not have its code.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let owned = |name: &&'static str| (*name).to_owned();
        let mut ways = Vec::new();
        for (from, node) in &self.nodes {
            let way = |to: &'static str, kind| Way {
                from: owned(from),
                to: to.to_owned(),
                kind,
                label: None,
            };
            ways.extend(node.edges.iter().map(|to| way(to, WayKind::Edge)));
            ways.extend(node.may_go_to.iter().map(|to| {
                let is_handler = node.on_error == Some(*to);
                way(
                    to,
                    if is_handler {
                        WayKind::Failure
                    } else {
                        WayKind::Route
                    },
                )
            }));
        }
        for (number, join) in (1..).zip(&self.joins) {
            let is_like = |other: &&super::Join| other.target == join.target;
            let is_one_of_several = self.joins.iter().filter(is_like).count() > 1;
            let label = label(join, is_one_of_several.then_some(number));
            ways.extend(join.sources.iter().map(|from| Way {
                from: owned(from),
                to: join.target.to_owned(),
                kind: WayKind::Join,
                label: Some(label.clone()),
            }));
        }
        let node = |(name, node): (&&'static str, &super::NodeShape)| OutlineNode {
            name: owned(name),
            is_deferred: node.is_deferred,
            at_most: node.at_most,
        };
        Outline {
            graph: self.name.clone(),
            version: self.version,
            starts: self.starts.iter().map(owned).collect(),
            nodes: self.nodes.iter().map(node).collect(),
            ways,
            state_version: S::VERSION,
            fields: S::rules(),
            mermaid: self.mermaid(),
        }
    }
}
