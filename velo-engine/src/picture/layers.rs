//! Which layer a node is in, and which ways lead back.

/// Bends of all lines together: when there are more, long lines go straight.
const BENDS_MAX: usize = 10_000;

/// Vertices in layers: the nodes first, then the bends of lines that pass through layers.
#[derive(Debug)]
pub(super) struct Layers {
    /// The vertices of each layer, from left to right.
    pub(super) rows: Vec<Vec<usize>>,
    /// Of each line, its vertices from top to bottom: both ends and the bends between.
    pub(super) chains: Vec<Vec<usize>>,
    /// Of each line, whether it leads from bottom to top.
    pub(super) is_back: Vec<bool>,
    /// How many of the vertices are nodes.
    pub(super) nodes: usize,
    /// How many vertices there are.
    pub(super) vertices: usize,
}

impl Layers {
    /// Layers of so many nodes with these lines, of which those from a node to itself are left out.
    pub(super) fn of(nodes: usize, lines: &[(usize, usize)]) -> Self {
        let is_back = ways_back(nodes, lines);
        let down: Vec<_> = lines
            .iter()
            .zip(&is_back)
            .map(|((from, to), back)| if *back { (*to, *from) } else { (*from, *to) })
            .collect();
        let layer = depths(nodes, &down);
        let mut rows = vec![Vec::new(); layer.iter().max().map_or(0, |last| last + 1)];
        for (vertex, layer) in layer.iter().enumerate() {
            rows[*layer].push(vertex);
        }
        let between = |(from, to): &(usize, usize)| layer[*to].saturating_sub(layer[*from] + 1);
        let are_few = down.iter().map(between).sum::<usize>() <= BENDS_MAX;
        let mut vertices = nodes;
        let mut chains = Vec::with_capacity(lines.len());
        for (from, to) in down {
            let mut chain = vec![from];
            if are_few && from != to {
                for row in &mut rows[layer[from] + 1..layer[to]] {
                    chain.push(vertices);
                    row.push(vertices);
                    vertices += 1;
                }
            }
            chain.push(to);
            chains.push(chain);
        }
        Self {
            rows,
            chains,
            is_back,
            nodes,
            vertices,
        }
    }

    /// Whether a line begins and ends at one node.
    pub(super) fn is_loop(&self, line: usize) -> bool {
        self.chains[line].first() == self.chains[line].last()
    }

    /// For each vertex its neighbours in the layer above, and in the one below.
    pub(super) fn neighbours(&self) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let mut above = vec![Vec::new(); self.vertices];
        let mut below = vec![Vec::new(); self.vertices];
        for line in (0..self.chains.len()).filter(|line| !self.is_loop(*line)) {
            for pair in self.chains[line].windows(2) {
                above[pair[1]].push(pair[0]);
                below[pair[0]].push(pair[1]);
            }
        }
        (above, below)
    }
}

/// For each line, whether it leads to a node from which its own beginning was reached.
fn ways_back(nodes: usize, lines: &[(usize, usize)]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        UnderWay,
        Done,
    }
    let mut from = vec![Vec::new(); nodes];
    for (line, (begin, _)) in lines.iter().enumerate() {
        from[*begin].push(line);
    }
    let mut seen = vec![Seen::No; nodes];
    let mut is_back = vec![false; lines.len()];
    for root in 0..nodes {
        if seen[root] != Seen::No {
            continue;
        }
        // With a list of its own in place of the stack: a graph may be a thousand nodes deep.
        let mut path = vec![(root, 0)];
        seen[root] = Seen::UnderWay;
        while let Some((node, next)) = path.last_mut() {
            let Some(line) = from[*node].get(*next) else {
                seen[*node] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            let to = lines[*line].1;
            match seen[to] {
                Seen::UnderWay => is_back[*line] = to != *node,
                Seen::Done => (),
                Seen::No => {
                    seen[to] = Seen::UnderWay;
                    path.push((to, 0));
                }
            }
        }
    }
    is_back
}

/// The layer of each node: below all that lead to it.
fn depths(nodes: usize, down: &[(usize, usize)]) -> Vec<usize> {
    let mut before = vec![0; nodes];
    let mut from = vec![Vec::new(); nodes];
    for (begin, end) in down.iter().filter(|(begin, end)| begin != end) {
        before[*end] += 1;
        from[*begin].push(*end);
    }
    let mut depth = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|node| before[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for end in &from[node] {
            depth[*end] = depth[*end].max(depth[node] + 1);
            before[*end] -= 1;
            if before[*end] == 0 {
                ready.push(*end);
            }
        }
    }
    depth
}
