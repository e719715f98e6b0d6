//! What a worker counts beside the nodes' work, by the names that an operator sees; see also
//! [`velo_engine::metrics`].

/// Runs that were claimed.
pub const CLAIMED: &str = "velo_claimed_runs_total";
/// How long claims took, in seconds, the empty ones included.
pub const CLAIM_SECONDS: &str = "velo_claim_seconds";
/// How many steps went together into one commit.
pub const COMMIT_STEPS: &str = "velo_commit_batch_steps";
/// How long commits of steps took, in seconds.
pub const COMMIT_SECONDS: &str = "velo_commit_seconds";
/// Commits whose answer was lost, or that could not be sent: each is asked again.
pub const COMMIT_UNKNOWN: &str = "velo_commit_unknown_total";
/// Runs that were taken over from dead or silent workers.
pub const TAKEN_OVER: &str = "velo_taken_over_runs_total";
/// Runs that were deleted since they had been kept for long enough.
pub const DELETED: &str = "velo_deleted_runs_total";
/// Runs whose time had come.
pub const WOKEN: &str = "velo_woken_runs_total";
/// Times that the worker had lost its leases and began again.
pub const LEASES_LOST: &str = "velo_leases_lost_total";
/// Turns that ended; labels `graph`, `end`.
pub const TURNS: &str = "velo_turns_total";
/// Turns under way.
pub const TURNS_NOW: &str = "velo_turns";
/// How long the run has waited that would be claimed next, in seconds; zero when none is ready. Looked at every
/// 15 seconds; label `graph`.
pub const QUEUE_AGE: &str = "velo_queue_age_seconds";
/// Runs that could be claimed now, counted up to ten thousand. Looked at every 15 seconds; label `graph`.
pub const QUEUE_READY: &str = "velo_queue_ready_runs";
/// How long heartbeats took, in seconds, those that were not answered in time included.
pub const HEARTBEAT_SECONDS: &str = "velo_heartbeat_seconds";
