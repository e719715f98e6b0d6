//! The command line.

use clap::{Parser, ValueEnum};

/// Measures Velo against the database under it.
///
/// Uses the server that DATABASE_URL names, in a new database, or else a private one with its data in
/// `.velo/bench`, fsync on.
#[derive(Debug, Parser)]
#[command(name = "velo-benches")]
pub(crate) struct Args {
    /// What to measure; all of it when left out.
    pub(crate) workload: Option<Workload>,

    /// One JSON object a line, instead of a table.
    #[arg(long)]
    pub(crate) json: bool,

    /// How long one case of one repetition lasts, where it is time that ends it.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,

    /// Repetitions of each case, of which the median is reported.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) repetitions: u32,

    /// Runs in flight at once: several values by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256, 1024])]
    pub(crate) in_flight: Vec<usize>,

    /// Has each step of a chain write its whole state of about 1 KB, and not only what is new in it.
    #[arg(long)]
    pub(crate) whole: bool,

    /// Ready runs of the long queue in `backlog`.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(i64).range(10_000..))]
    pub(crate) rows: i64,

    /// Speaks the protocol of the harness that also drives other engines; the environment says what
    /// to measure, and where.
    #[arg(long)]
    pub(crate) driver: bool,

    /// Also tells, on standard error, which statements the server spent its time on.
    #[arg(long)]
    pub(crate) statements: bool,

    /// Has the worker's pool hand out connections without asking first whether they live, which is a
    /// round trip before each statement.
    #[arg(long)]
    pub(crate) untested: bool,

    /// Connections of a worker's pool.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=200))]
    pub(crate) pool: u32,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// What the database can do at best: minimal commits, and plain inserts.
    Floor,
    /// Runs of ten steps, many at once.
    Chain,
    /// Runs of ten steps, one at a time.
    Latency,
    /// A hundred and a thousand sends, and a join.
    Fanout,
    /// Runs of one step: enqueue, drain, pick up.
    Queue,
    /// A worker is killed in mid-run, and another goes on.
    Recovery,
    /// A state that grows by 1 KiB a step.
    Growth,
    /// Chains while another session holds a snapshot.
    Xmin,
    /// Claiming from a short and from a long queue.
    Backlog,
    /// Ten workers and a thousand sleeping runs.
    Idle,
}

impl Args {
    /// What was asked for.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        match self.workload {
            Some(one) => vec![one],
            None => Workload::value_variants().to_vec(),
        }
    }
}
