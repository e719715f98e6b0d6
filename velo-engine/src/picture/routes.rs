//! Where the lines are.

use super::layers::Layers;
use super::places::{LOOP, Places, rounded};
use super::{PlacedNode, Point, count};

/// Between two lines at a node's border.
const PORT_GAP: f64 = 16.0;
/// From a node's corner to its outermost line.
const PORT_MARGIN: f64 = 14.0;
/// Height of a line that leads back to its own node.
const LOOP_HEIGHT: f64 = 16.0;

/// The corners of each line.
pub(super) fn draw(
    layers: &Layers,
    nodes: &[PlacedNode],
    places: &Places,
    lines: &[(usize, usize)],
) -> Vec<Vec<Point>> {
    let (lower, upper) = ports(layers, nodes, places);
    let mut loops = vec![0; nodes.len()];
    let drawn = lines.iter().enumerate().map(|(line, (from, _))| {
        if layers.is_loop(line) {
            loops[*from] += 1;
            return around(&nodes[*from], loops[*from]);
        }
        let chain = &layers.chains[line];
        let (first, last) = (chain[0], chain[chain.len() - 1]);
        let border =
            |node: usize, side: f64| places.middles[node].y + side * nodes[node].height / 2.0;
        let mut points = vec![Point {
            x: lower[line],
            y: rounded(border(first, 1.0)),
        }];
        for bend in &chain[1..chain.len() - 1] {
            let (top, bottom) = places.borders[places.layer[*bend]];
            let x = places.middles[*bend].x;
            points.push(Point { x, y: rounded(top) });
            points.push(Point {
                x,
                y: rounded(bottom),
            });
        }
        points.push(Point {
            x: upper[line],
            y: rounded(border(last, -1.0)),
        });
        if layers.is_back[line] {
            points.reverse();
        }
        points
    });
    drawn.collect()
}

/// For each line, how far from the left it leaves the node above, and reaches the one below: side by side, in
/// the order in which they go on.
fn ports(layers: &Layers, nodes: &[PlacedNode], places: &Places) -> (Vec<f64>, Vec<f64>) {
    let mut leaving = vec![Vec::new(); nodes.len()];
    let mut reaching = vec![Vec::new(); nodes.len()];
    for line in (0..layers.chains.len()).filter(|line| !layers.is_loop(*line)) {
        let chain = &layers.chains[line];
        let (second, before) = (chain[1], chain[chain.len() - 2]);
        leaving[chain[0]].push((places.middles[second].x, line));
        reaching[chain[chain.len() - 1]].push((places.middles[before].x, line));
    }
    let spread = |sides: Vec<Vec<(f64, usize)>>| {
        let mut at = vec![0.0; layers.chains.len()];
        for (node, mut ends) in sides.into_iter().enumerate() {
            ends.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            let room = (nodes[node].width - 2.0 * PORT_MARGIN).max(0.0);
            let apart = PORT_GAP.min(room / count(ends.len()).max(1.0));
            let middle = count(ends.len().saturating_sub(1)) / 2.0;
            for (number, (_, line)) in ends.into_iter().enumerate() {
                at[line] = rounded(places.middles[node].x + (count(number) - middle) * apart);
            }
        }
        at
    };
    (spread(leaving), spread(reaching))
}

/// A line from a node's right border back to it; the `number`th one goes farther out.
fn around(node: &PlacedNode, number: u32) -> Vec<Point> {
    let border = node.x + node.width / 2.0;
    let number = f64::from(number);
    // However many there are, within the room at the node's side.
    let out = border + (LOOP - 4.0) * number / (number + 0.5);
    let half = (LOOP_HEIGHT / 2.0 + 3.0 * (number - 1.0)).min(node.height / 2.0 - 3.0);
    let point = |x: f64, y: f64| Point {
        x: rounded(x),
        y: rounded(y),
    };
    vec![
        point(border, node.y - half),
        point(out, node.y - half),
        point(out, node.y + half),
        point(border, node.y + half),
    ]
}
