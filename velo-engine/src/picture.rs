//! Pictures of graphs and of runs: as places and lines, as SVG, as Mermaid.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use velo_engine::prelude::*;
//!
//! # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
//! # struct Report { topic: String }
//! # const PLAN: NodeKey<Report> = NodeKey::new("plan");
//! # const WRITE: NodeKey<Report> = NodeKey::new("write");
//! let shape = Shape::<Report>::builder("report", 1)
//!     .node(PLAN)
//!     .node(WRITE)
//!     .start(PLAN)
//!     .edge(PLAN, WRITE)
//!     .compile()
//!     .map_err(|errors| format!("{errors:?}"))?;
//! let layout = shape.outline().layout();
//! assert!(layout.node("plan").unwrap().y < layout.node("write").unwrap().y);
//! assert!(layout.to_svg().starts_with("<svg"));
//! # Ok::<(), String>(())
//! ```

mod layers;
mod mermaid;
mod order;
mod places;
mod routes;
mod svg;

use serde::Serialize;

use crate::outline::{Outline, OutlineNode, Way, WayKind};
use crate::progress::{NodeState, RunProgress};

use layers::Layers;

/// A graph laid out from top to bottom. Lengths are in pixels; zero is the upper left corner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layout {
    /// What it shows, in words.
    pub title: String,
    /// The width of the whole.
    pub width: f64,
    /// The height of the whole.
    pub height: f64,
    /// Where the nodes are, the start first.
    pub nodes: Vec<PlacedNode>,
    /// Where the lines between them are.
    pub lines: Vec<PlacedLine>,
}

/// A node of a layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlacedNode {
    /// Its name; `None` for the start.
    pub name: Option<String>,
    /// What is written below the name.
    pub notes: Vec<String>,
    /// How it stands, in the picture of a run.
    pub state: Option<NodeState>,
    /// The middle of it.
    pub x: f64,
    /// The middle of it.
    pub y: f64,
    /// How wide it is.
    pub width: f64,
    /// How high it is.
    pub height: f64,
}

/// A line of a layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlacedLine {
    /// Where it begins; `None` for the start.
    pub from: Option<String>,
    /// Where it ends.
    pub to: String,
    /// When this way is taken.
    pub kind: WayKind,
    /// What is written at it.
    pub label: Option<String>,
    /// Its corners, from the border of the one node to that of the other.
    pub points: Vec<Point>,
}

/// A place in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
}

impl Layout {
    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&PlacedNode> {
        self.nodes
            .iter()
            .find(|node| node.name.as_deref() == Some(name))
    }
}

impl Outline {
    /// The graph laid out: nodes in layers from top to bottom, each below those that lead to it but for ways
    /// back, with few crossings.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.laid_out(None)
    }

    /// As [`layout`](Self::layout), with how each node of a run stands.
    #[must_use]
    pub fn layout_of(&self, run: &RunProgress) -> Layout {
        self.laid_out(Some(run))
    }

    fn laid_out(&self, run: Option<&RunProgress>) -> Layout {
        let mut nodes = vec![sized(None, Vec::new(), None)];
        nodes.extend(self.nodes.iter().map(|node| {
            let notes = notes(node, run);
            let state = run.map(|run| run.state(&node.name));
            sized(Some(node.name.clone()), notes, state)
        }));
        let mut ways = Vec::new();
        let place = |name: &str| {
            let found = self.nodes.iter().position(|node| node.name == name);
            found.map(|index| index + 1)
        };
        for start in &self.starts {
            if let Some(to) = place(start) {
                ways.push(Line::from_start(to, start));
            }
        }
        for way in &self.ways {
            if let (Some(from), Some(to)) = (place(&way.from), place(&way.to)) {
                ways.push(Line::of(way, from, to));
            }
        }
        let title = match run {
            Some(run) => format!("run {} of {}: {}", run.run, run.code, run.status.as_str()),
            None => self.code(),
        };
        let ends: Vec<_> = ways.iter().map(|line| (line.from, line.to)).collect();
        let mut layers = Layers::of(nodes.len(), &ends);
        order::arrange(&mut layers);
        let places = places::place(&layers, &nodes, &ends);
        for (node, middle) in nodes.iter_mut().zip(&places.middles) {
            (node.x, node.y) = (middle.x, middle.y);
        }
        let lines = routes::draw(&layers, &nodes, &places, &ends);
        let lines = ways.into_iter().zip(lines);
        Layout {
            title,
            width: places.width,
            height: places.height,
            lines: lines.map(|(line, points)| line.drawn(points)).collect(),
            nodes,
        }
    }
}

/// A way, with its ends by their places among the nodes.
struct Line {
    from: usize,
    to: usize,
    drawn: PlacedLine,
}

impl Line {
    fn from_start(to: usize, name: &str) -> Self {
        let drawn = PlacedLine {
            from: None,
            to: name.to_owned(),
            kind: WayKind::Edge,
            label: None,
            points: Vec::new(),
        };
        Self { from: 0, to, drawn }
    }

    fn of(way: &Way, from: usize, to: usize) -> Self {
        let drawn = PlacedLine {
            from: Some(way.from.clone()),
            to: way.to.clone(),
            kind: way.kind,
            label: way.label.clone(),
            points: Vec::new(),
        };
        Self { from, to, drawn }
    }

    fn drawn(self, points: Vec<Point>) -> PlacedLine {
        PlacedLine {
            points,
            ..self.drawn
        }
    }
}

/// What is written below a node's name.
fn notes(node: &OutlineNode, run: Option<&RunProgress>) -> Vec<String> {
    let mut limits = Vec::new();
    if node.is_deferred {
        limits.push("deferred".to_owned());
    }
    if let Some(tasks) = node.at_most {
        limits.push(format!("at most {tasks}"));
    }
    let words = run.and_then(|run| run.nodes.get(&node.name));
    let words = words.map(crate::NodeProgress::words);
    let lines = [limits.join(", "), words.unwrap_or_default()];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// Height of a name's line.
const NAME_LINE: f64 = 18.0;
/// Height of a note's line.
const NOTE_LINE: f64 = 15.0;
/// Width of a letter of a name.
const NAME_LETTER: f64 = 7.9;
/// Width of a letter of a note or a label.
const NOTE_LETTER: f64 = 6.7;
/// Around what is written.
const PADDING: f64 = 11.0;
/// The least width of a node.
const WIDTH_MIN: f64 = 72.0;
/// Width and height of the start.
const START: (f64, f64) = (56.0, 26.0);

fn sized(name: Option<String>, notes: Vec<String>, state: Option<NodeState>) -> PlacedNode {
    let (width, height) = match &name {
        None => START,
        Some(name) => {
            let lines = notes.iter().map(|note| cells(note) * NOTE_LETTER);
            let widest = lines.fold(cells(name) * NAME_LETTER, f64::max);
            let below = NOTE_LINE * count(notes.len());
            let width = (widest + 2.0 * PADDING).max(WIDTH_MIN);
            (width.ceil(), NAME_LINE + below + 2.0 * PADDING)
        }
    };
    PlacedNode {
        name,
        notes,
        state,
        x: 0.0,
        y: 0.0,
        width,
        height,
    }
}

/// How many letters wide a text is: those of some scripts are twice as wide.
fn cells(text: &str) -> f64 {
    let is_wide = |char: &char| ('\u{1100}'..).contains(char);
    count(text.chars().count() + text.chars().filter(is_wide).count())
}

/// A number of things, of which there are few.
fn count(things: usize) -> f64 {
    f64::from(u32::try_from(things).unwrap_or(u32::MAX))
}
