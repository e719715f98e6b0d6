//! How far from the left and from the top.

use super::layers::Layers;
use super::{PlacedNode, Point, count};

/// Between two nodes of a layer.
const GAP: f64 = 30.0;
/// Between two lines that pass through a layer.
const LINE_GAP: f64 = 22.0;
/// Between two layers.
const LAYER_GAP: f64 = 58.0;
/// Around the whole.
const MARGIN: f64 = 24.0;
/// Room at a node's side for lines that lead back to it.
pub(super) const LOOP: f64 = 26.0;
/// How often each layer is drawn towards its neighbours.
const PULLS: usize = 24;
/// How much more a bend wants to be straight than a node.
const BEND_WEIGHT: f64 = 2.0;

/// Where the vertices are.
#[derive(Debug)]
pub(super) struct Places {
    /// The middle of each vertex.
    pub(super) middles: Vec<Point>,
    /// The upper and lower border of each layer, and which layer each vertex is in.
    pub(super) borders: Vec<(f64, f64)>,
    pub(super) layer: Vec<usize>,
    pub(super) width: f64,
    pub(super) height: f64,
}

pub(super) fn place(layers: &Layers, nodes: &[PlacedNode], lines: &[(usize, usize)]) -> Places {
    let mut widths: Vec<f64> = vec![0.0; layers.vertices];
    for (width, node) in widths.iter_mut().zip(nodes) {
        *width = node.width;
    }
    for (from, _) in lines.iter().filter(|(from, to)| from == to) {
        // On both sides, so that the node stays in the middle.
        widths[*from] = widths[*from].max(nodes[*from].width + 2.0 * LOOP);
    }
    let x = across(layers, &widths);
    let mut layer = vec![0; layers.vertices];
    let mut borders = Vec::with_capacity(layers.rows.len());
    let mut top = MARGIN;
    for (at, row) in layers.rows.iter().enumerate() {
        let heights = row.iter().filter_map(|vertex| nodes.get(*vertex));
        let height = heights.map(|node| node.height).fold(0.0, f64::max);
        borders.push((top, top + height));
        top += height + LAYER_GAP;
        row.iter().for_each(|vertex| layer[*vertex] = at);
    }
    let left = |at: usize| x[at] - widths[at] / 2.0;
    let right = |at: usize| x[at] + widths[at] / 2.0;
    let all = 0..layers.vertices;
    let leftmost = all.clone().map(left).fold(f64::INFINITY, f64::min);
    let rightmost = all.clone().map(right).fold(f64::NEG_INFINITY, f64::max);
    let middle = |vertex: usize| {
        let (upper, lower) = borders[layer[vertex]];
        Point {
            x: rounded(x[vertex] - leftmost + MARGIN),
            y: rounded(f64::midpoint(upper, lower)),
        }
    };
    Places {
        middles: all.map(middle).collect(),
        width: rounded(rightmost - leftmost + 2.0 * MARGIN),
        height: rounded(top - LAYER_GAP + MARGIN),
        borders,
        layer,
    }
}

/// The middle of each vertex from the left: as near to its neighbours' as the order of its layer lets it be.
fn across(layers: &Layers, widths: &[f64]) -> Vec<f64> {
    let (above, below) = layers.neighbours();
    let apart = |one: usize, other: usize| {
        let gap = if one < layers.nodes || other < layers.nodes {
            GAP
        } else {
            LINE_GAP
        };
        f64::midpoint(widths[one], widths[other]) + gap
    };
    let mut x = vec![0.0; layers.vertices];
    for row in &layers.rows {
        let mut at = 0.0;
        for pair in row.windows(2) {
            x[pair[0]] = at;
            at += apart(pair[0], pair[1]);
            x[pair[1]] = at;
        }
        row.iter().for_each(|vertex| x[*vertex] -= at / 2.0);
    }
    for pull in 0..PULLS {
        let rows: Box<dyn Iterator<Item = &Vec<usize>>> = match pull % 2 {
            0 => Box::new(layers.rows.iter()),
            _ => Box::new(layers.rows.iter().rev()),
        };
        for row in rows {
            let wish = |vertex: &usize| {
                let near: Vec<f64> = match (pull + 2 >= PULLS, pull % 2) {
                    (true, _) => above[*vertex]
                        .iter()
                        .chain(&below[*vertex])
                        .map(|it| x[*it])
                        .collect(),
                    (false, 0) => above[*vertex].iter().map(|it| x[*it]).collect(),
                    (false, _) => below[*vertex].iter().map(|it| x[*it]).collect(),
                };
                if near.is_empty() {
                    x[*vertex]
                } else {
                    near.iter().sum::<f64>() / count(near.len())
                }
            };
            let wishes: Vec<f64> = row.iter().map(wish).collect();
            let weights: Vec<f64> = row
                .iter()
                .map(|vertex| {
                    if *vertex < layers.nodes {
                        1.0
                    } else {
                        BEND_WEIGHT
                    }
                })
                .collect();
            let gaps: Vec<f64> = row.windows(2).map(|pair| apart(pair[0], pair[1])).collect();
            for (vertex, at) in row.iter().zip(nearest(&wishes, &weights, &gaps)) {
                x[*vertex] = at;
            }
        }
    }
    x
}

/// The places nearest to the wishes that are at least the gaps apart: neighbours that want to be nearer move
/// together, to where their mean wish is.
fn nearest(wishes: &[f64], weights: &[f64], gaps: &[f64]) -> Vec<f64> {
    // What each would be at if there were no gaps: then they only have to be in order.
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(wishes.len());
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (at, (wish, weight)) in wishes.iter().zip(weights).enumerate() {
        if at > 0 {
            offset += gaps[at - 1];
        }
        offsets.push(offset);
        blocks.push((wish - offset, *weight, 1));
        while let [
            ..,
            (left, left_weight, left_size),
            (right, right_weight, right_size),
        ] = blocks[..]
        {
            if left <= right {
                break;
            }
            let weight = left_weight + right_weight;
            let mean = (left * left_weight + right * right_weight) / weight;
            blocks.truncate(blocks.len() - 2);
            blocks.push((mean, weight, left_size + right_size));
        }
    }
    let settled = blocks
        .into_iter()
        .flat_map(|(at, _, size)| std::iter::repeat_n(at, size));
    settled
        .zip(offsets)
        .map(|(at, offset)| at + offset)
        .collect()
}

/// To a tenth of a pixel.
pub(super) fn rounded(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_where_they_want_to_be_or_as_near_as_the_gaps_let_them() {
        let even = [1.0; 3];
        assert_eq!(
            nearest(&[0.0, 10.0, 20.0], &even, &[5.0, 5.0]),
            [0.0, 10.0, 20.0]
        );
        assert_eq!(
            nearest(&[0.0, 0.0, 0.0], &even, &[5.0, 5.0]),
            [-5.0, 0.0, 5.0]
        );
        assert_eq!(
            nearest(&[9.0, 0.0, 30.0], &even, &[3.0, 3.0]),
            [3.0, 6.0, 30.0]
        );
    }
}
