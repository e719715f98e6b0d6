//! What is counted while runs are at work, by the names that an operator sees.
//!
//! It goes through the facade of the crate `metrics`: a process that installs no recorder pays next to nothing
//! and counts nothing. `graph` is name and version, such as `report@1`.

use std::time::Duration;

/// Attempts of nodes that came to an end; labels `graph`, `node`, `outcome`: `finished`, `failed` or `parked`.
pub const NODE_ATTEMPTS: &str = "velo_node_attempts_total";
/// How long attempts took, in seconds; labels `graph`, `node`.
pub const NODE_SECONDS: &str = "velo_node_seconds";
/// Failed attempts that are followed by another; labels `graph`, `node`.
pub const NODE_RETRIES: &str = "velo_node_retries_total";
/// Committed steps by what the database said of them; labels `graph`, `verdict`: `added`; `repeated`, when an
/// answer had been lost; `behind`; `lost`, when the lease was gone.
pub const STEP_COMMITS: &str = "velo_step_commits_total";
/// Runs that were paused because they need attention; label `graph`.
pub const RUNS_PAUSED: &str = "velo_runs_paused_total";
/// Writes of a turn, other than steps, that had to be tried again since the database was away; label `graph`.
pub const WRITE_RETRIES: &str = "velo_write_retries_total";

/// Pieces of what nodes said that could not be kept: readers are told of a gap.
pub const PIECES_LOST: &str = "velo_pieces_lost_total";

/// An attempt came to an end.
pub(crate) fn attempt(graph: &str, node: &str, outcome: &'static str, took: Duration) {
    let (graph, node) = (graph.to_owned(), node.to_owned());
    metrics::counter!(NODE_ATTEMPTS, "graph" => graph.clone(), "node" => node.clone(), "outcome" => outcome)
        .increment(1);
    metrics::histogram!(NODE_SECONDS, "graph" => graph, "node" => node).record(took);
}

/// A failed attempt is followed by another.
pub(crate) fn retry(graph: &str, node: &str) {
    metrics::counter!(NODE_RETRIES, "graph" => graph.to_owned(), "node" => node.to_owned())
        .increment(1);
}

/// A step was answered.
pub(crate) fn commit(graph: &str, verdict: &'static str) {
    metrics::counter!(STEP_COMMITS, "graph" => graph.to_owned(), "verdict" => verdict).increment(1);
}

/// A run was paused.
pub(crate) fn paused(graph: &str) {
    metrics::counter!(RUNS_PAUSED, "graph" => graph.to_owned()).increment(1);
}

/// Something that a node said is lost.
pub(crate) fn piece_lost() {
    metrics::counter!(PIECES_LOST).increment(1);
}

/// A write is tried again.
pub(crate) fn write_again(graph: &str) {
    metrics::counter!(WRITE_RETRIES, "graph" => graph.to_owned()).increment(1);
}
