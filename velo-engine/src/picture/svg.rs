//! A layout as SVG.

use std::fmt::Write as _;

use super::{
    Layout, NAME_LINE, NOTE_LETTER, NOTE_LINE, PADDING, PlacedLine, PlacedNode, Point, cells,
};
use crate::outline::WayKind;
use crate::progress::NodeState;

const HEAD: &str = r##"<style>
text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2933; text-anchor: middle }
.name { font-size: 13px } .note { font-size: 11px; fill: #52606d }
.label { font-size: 11px; fill: #52606d } .paper { fill: #ffffff }
.line { fill: none; stroke: #52606d; stroke-width: 1.3 }
.route { stroke-dasharray: 5 4 } .failure { stroke: #c53030; stroke-dasharray: 2 3 }
</style>
<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0.5 L8 4 L0 7.5 z" fill="#52606d"/></marker>
<marker id="failed-tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0.5 L8 4 L0 7.5 z" fill="#c53030"/></marker>
</defs>
"##;

/// Fill and border of a node.
pub(super) fn colours(state: Option<NodeState>) -> (&'static str, &'static str) {
    match state {
        None => ("#eef2f7", "#52606d"),
        Some(NodeState::Done) => ("#d9f2e0", "#2f855a"),
        Some(NodeState::Running) => ("#dbeafe", "#2563eb"),
        Some(NodeState::Waiting) => ("#fef3c7", "#b7791f"),
        Some(NodeState::Retrying) => ("#fde6d0", "#c05621"),
        Some(NodeState::Failed) => ("#fcdcdc", "#c53030"),
        Some(NodeState::Next) => ("#e8e7fb", "#5a54b8"),
        Some(NodeState::NotReached) => ("#ffffff", "#a0aab4"),
    }
}

impl Layout {
    /// The picture as an SVG document, without scripts and without anything that is fetched from elsewhere.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n{HEAD}\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            escaped(&self.title)
        );
        self.lines.iter().for_each(|line| draw_line(&mut svg, line));
        self.nodes.iter().for_each(|node| draw_node(&mut svg, node));
        // Above all lines, so that none crosses them.
        self.lines
            .iter()
            .for_each(|line| draw_label(&mut svg, line));
        svg.push_str("</svg>\n");
        svg
    }
}

fn draw_line(svg: &mut String, line: &PlacedLine) {
    let (class, tip) = match line.kind {
        WayKind::Edge | WayKind::Join => ("line", "tip"),
        WayKind::Route => ("line route", "tip"),
        WayKind::Failure => ("line failure", "failed-tip"),
    };
    let path = path(line);
    put(
        svg,
        format_args!("<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#{tip})\"/>\n"),
    );
}

/// Straight where it goes straight down or up, and a curve that leaves and comes in so elsewhere.
fn path(line: &PlacedLine) -> String {
    let mut path = String::new();
    let Some(first) = line.points.first() else {
        return path;
    };
    put(&mut path, format_args!("M{} {}", first.x, first.y));
    if let ([from, out, back, to], true) = (&line.points[..], line.from.as_ref() == Some(&line.to))
    {
        let bulge = out.x + (out.x - from.x) * 0.6;
        put(
            &mut path,
            format_args!(
                " C{bulge} {} {bulge} {} {} {}",
                out.y - 6.0,
                back.y + 6.0,
                to.x,
                to.y
            ),
        );
        return path;
    }
    for pair in line.points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        if (from.x - to.x).abs() < 0.5 {
            put(&mut path, format_args!(" L{} {}", to.x, to.y));
        } else {
            let middle = f64::midpoint(from.y, to.y);
            put(
                &mut path,
                format_args!(" C{} {middle} {} {middle} {} {}", from.x, to.x, to.x, to.y),
            );
        }
    }
    path
}

fn draw_node(svg: &mut String, node: &PlacedNode) {
    let (left, top) = (node.x - node.width / 2.0, node.y - node.height / 2.0);
    let Some(name) = &node.name else {
        put(
            svg,
            format_args!(
                "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" rx=\"13\" fill=\"#3e4c59\"/>\n\
                 <text class=\"note\" x=\"{}\" y=\"{}\" style=\"fill: #ffffff\">start</text>\n",
                node.width,
                node.height,
                node.x,
                node.y + 4.0
            ),
        );
        return;
    };
    let (fill, border) = colours(node.state);
    let dashes = match node.state {
        Some(NodeState::NotReached | NodeState::Next) => " stroke-dasharray=\"4 3\"",
        _ => "",
    };
    put(
        svg,
        format_args!(
            "<g><title>{}</title><rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" rx=\"6\" \
             fill=\"{fill}\" stroke=\"{border}\" stroke-width=\"1.4\"{dashes}/>\n",
            escaped(&told(name, node)),
            node.width,
            node.height
        ),
    );
    let mut line = top + PADDING + NAME_LINE - 5.0;
    put(
        svg,
        format_args!(
            "<text class=\"name\" x=\"{}\" y=\"{line}\">{}</text>\n",
            node.x,
            escaped(name)
        ),
    );
    for note in &node.notes {
        line += NOTE_LINE;
        put(
            svg,
            format_args!(
                "<text class=\"note\" x=\"{}\" y=\"{line}\">{}</text>\n",
                node.x,
                escaped(note)
            ),
        );
    }
    svg.push_str("</g>\n");
}

/// For who points at it, or has it read out.
fn told(name: &str, node: &PlacedNode) -> String {
    let state = node.state.map(|state| format!(": {}", state.as_str()));
    format!("{name}{}", state.unwrap_or_default())
}

fn draw_label(svg: &mut String, line: &PlacedLine) {
    let (Some(label), Some(at)) = (&line.label, middle(&line.points)) else {
        return;
    };
    // On paper of its own, so that no line goes through it.
    let width = cells(label) * NOTE_LETTER + 4.0;
    put(
        svg,
        format_args!(
            "<rect class=\"paper\" x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{NOTE_LINE}\"/>\n\
             <text class=\"label\" x=\"{}\" y=\"{}\">{}</text>\n",
            at.x - width / 2.0,
            at.y - NOTE_LINE / 2.0,
            at.x,
            at.y + 4.0,
            escaped(label)
        ),
    );
}

/// Half-way between the corners in the middle.
fn middle(points: &[Point]) -> Option<Point> {
    let before = points.get((points.len().max(2) - 1) / 2)?;
    let after = points.get(points.len().max(2) / 2)?;
    Some(Point {
        x: f64::midpoint(before.x, after.x),
        y: f64::midpoint(before.y, after.y),
    })
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more)
        .expect("a String takes all that is written");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
