//! From left to right, so that few lines cross.

use super::layers::Layers;

/// Times that all layers are gone through.
const SWEEPS: usize = 16;

/// Orders the vertices of each layer by where their neighbours are, and keeps the best order found.
pub(super) fn arrange(layers: &mut Layers) {
    let (above, below) = layers.neighbours();
    let mut best = layers.rows.clone();
    let mut fewest = crossings(&best, &below, layers.vertices);
    for sweep in 0..SWEEPS {
        let mut rows = layers.rows.len();
        let is_down = sweep % 2 == 0;
        let neighbours = if is_down { &above } else { &below };
        let mut place = places(&layers.rows, layers.vertices);
        while rows > 0 {
            rows -= 1;
            let row = if is_down {
                layers.rows.len() - 1 - rows
            } else {
                rows
            };
            let mut keyed: Vec<_> = layers.rows[row]
                .iter()
                .map(|vertex| (mean(&neighbours[*vertex], &place), *vertex))
                .collect();
            // One without neighbours stays where it is.
            for (at, (mean, _)) in keyed.iter_mut().enumerate() {
                *mean = mean.or(Some(super::count(at)));
            }
            keyed.sort_by(|(one, _), (other, _)| {
                one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal)
            });
            layers.rows[row] = keyed.into_iter().map(|(_, vertex)| vertex).collect();
            for (at, vertex) in layers.rows[row].iter().enumerate() {
                place[*vertex] = at;
            }
        }
        let now = crossings(&layers.rows, &below, layers.vertices);
        if now < fewest {
            fewest = now;
            best.clone_from(&layers.rows);
        }
    }
    layers.rows = best;
}

/// Where each vertex is in its row.
fn places(rows: &[Vec<usize>], vertices: usize) -> Vec<usize> {
    let mut place = vec![0; vertices];
    for (at, vertex) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        place[*vertex] = at;
    }
    place
}

fn mean(neighbours: &[usize], place: &[usize]) -> Option<f64> {
    let sum: f64 = neighbours.iter().map(|it| super::count(place[*it])).sum();
    (!neighbours.is_empty()).then(|| sum / super::count(neighbours.len()))
}

/// How many pairs of lines cross between one layer and the next.
fn crossings(rows: &[Vec<usize>], below: &[Vec<usize>], vertices: usize) -> usize {
    let place = places(rows, vertices);
    let mut crossings = 0;
    for pair in rows.windows(2) {
        // The lower ends in the order of the upper ones: each pair that is in the wrong order crosses.
        let mut seen = vec![0_usize; pair[1].len() + 1];
        let mut lines = 0;
        for upper in &pair[0] {
            let mut ends: Vec<_> = below[*upper].iter().map(|end| place[*end]).collect();
            ends.sort_unstable();
            for end in &ends {
                crossings += lines - up_to(&seen, *end);
            }
            lines += ends.len();
            for end in ends {
                add(&mut seen, end);
            }
        }
    }
    crossings
}

/// How many numbers of at most `end` were added; a Fenwick tree.
fn up_to(tree: &[usize], end: usize) -> usize {
    let (mut at, mut sum) = (end + 1, 0);
    while at > 0 {
        sum += tree.get(at).copied().unwrap_or(0);
        at &= at - 1;
    }
    sum
}

fn add(tree: &mut [usize], end: usize) {
    let mut at = end + 1;
    while at < tree.len() {
        tree[at] += 1;
        at += at & at.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_need_not_cross_do_not() {
        // A start and two branches whose ends are declared the other way round.
        let lines = [(0, 1), (0, 2), (1, 4), (2, 3), (1, 5), (2, 6)];
        let mut layers = Layers::of(7, &lines);
        let (_, below) = layers.neighbours();
        assert!(crossings(&layers.rows, &below, 7) > 0);
        arrange(&mut layers);
        assert_eq!(crossings(&layers.rows, &below, 7), 0);
    }

    #[test]
    fn crossings_are_counted_as_by_hand() {
        let rows = vec![vec![0, 1, 2], vec![3, 4, 5]];
        let below = vec![vec![5, 4], vec![3], vec![3, 4], vec![], vec![], vec![]];
        // Of 0-5 with 1-3, 2-3, 2-4; of 0-4 with 1-3, 2-3.
        assert_eq!(crossings(&rows, &below, 6), 5);
    }
}
