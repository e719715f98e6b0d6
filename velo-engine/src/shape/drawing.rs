//! Graphs as pictures.

use std::fmt::Write as _;

use super::{Join, JoinRule, Shape};
use crate::state::State;

/// Words that the drawing's language keeps for itself.
const RESERVED: [&str; 14] = [
    "call",
    "class",
    "classDef",
    "click",
    "default",
    "direction",
    "end",
    "flowchart",
    "graph",
    "href",
    "interpolate",
    "linkStyle",
    "style",
    "subgraph",
];

impl<S: State> Shape<S> {
    /// The graph as a Mermaid flowchart: edges solid, declared routes dotted, joins labelled with
    /// how many of their sources they need, deferred and limited nodes marked.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = self.structure();
        let _ = writeln!(text, "    %% a run takes at most {} steps", self.step_limit);
        for (node, shape) in &self.nodes {
            if let Some(tasks) = shape.at_most {
                let deferred = if shape.is_deferred { ", deferred" } else { "" };
                let _ = writeln!(
                    text,
                    "    {}[\"{node} (at most {tasks}{deferred})\"]",
                    id(node)
                );
            }
        }
        text
    }

    /// What makes two graphs different: all of the drawing but the limits, which may change under a
    /// run.
    pub(crate) fn structure(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for start in &self.starts {
            let _ = writeln!(text, "    __start__([start]) --> {}", id(start));
        }
        for (node, shape) in &self.nodes {
            let from = id(node);
            if shape.is_deferred {
                let _ = writeln!(text, "    {from}[\"{node} (deferred)\"]");
            } else if from != *node {
                let _ = writeln!(text, "    {from}[\"{node}\"]");
            }
            for target in &shape.edges {
                let _ = writeln!(text, "    {from} --> {}", id(target));
            }
            for target in &shape.may_go_to {
                let _ = writeln!(text, "    {from} -.-> {}", id(target));
            }
        }
        for (number, join) in (1..).zip(&self.joins) {
            let others = self
                .joins
                .iter()
                .filter(|other| other.target == join.target);
            let label = label(join, (others.count() > 1).then_some(number));
            for source in &join.sources {
                let _ = writeln!(text, "    {} -->|{label}| {}", id(source), id(join.target));
            }
        }
        text
    }
}

/// What is written on a join's arrows; numbered where several joins lead to one node.
pub(super) fn label(join: &Join, number: Option<usize>) -> String {
    let mut label = match join.rule {
        JoinRule::All => "join".to_owned(),
        JoinRule::Some(1) => "any".to_owned(),
        JoinRule::Some(needs) => format!("{needs} of {}", join.sources.len()),
    };
    if let Some(number) = number {
        let _ = write!(label, " {number}");
    }
    if join.may_stay_shut {
        label.push_str(", may stay shut");
    }
    label
}

/// A node's name, or what stands for it where the drawing would take it for something else.
pub(crate) fn id(node: &str) -> String {
    if RESERVED.contains(&node) {
        format!("__{node}__")
    } else {
        node.to_owned()
    }
}
