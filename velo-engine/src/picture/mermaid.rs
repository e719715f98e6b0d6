//! A run as Mermaid.

use std::fmt::Write as _;

use super::{notes, svg};
use crate::outline::Outline;
use crate::progress::{NodeState, RunProgress};
use crate::shape::drawing_id;

/// All states, with the names of their classes.
const CLASSES: [(NodeState, &str); 7] = [
    (NodeState::Failed, "failed"),
    (NodeState::Retrying, "retrying"),
    (NodeState::Running, "running"),
    (NodeState::Waiting, "waiting"),
    (NodeState::Next, "next"),
    (NodeState::Done, "done"),
    (NodeState::NotReached, "notReached"),
];

impl Outline {
    /// A run as a Mermaid flowchart: the graph's, with how each node stands, as text and as a class.
    #[must_use]
    pub fn mermaid_of(&self, run: &RunProgress) -> String {
        let mut text = self.mermaid.clone();
        for node in &self.nodes {
            let notes = notes(node, Some(run));
            if !notes.is_empty() {
                let (id, name) = (drawing_id(&node.name), &node.name);
                let _ = writeln!(text, "    {id}[\"{name}<br/>{}\"]", notes.join("<br/>"));
            }
        }
        for (state, class) in CLASSES {
            let in_it = self
                .nodes
                .iter()
                .filter(|node| run.state(&node.name) == state);
            let ids: Vec<_> = in_it.map(|node| drawing_id(&node.name)).collect();
            if ids.is_empty() {
                continue;
            }
            let (fill, border) = svg::colours(Some(state));
            let _ = writeln!(
                text,
                "    classDef {class} fill:{fill},stroke:{border},color:#1f2933"
            );
            let _ = writeln!(text, "    class {} {class}", ids.join(","));
        }
        text
    }
}
