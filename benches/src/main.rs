//! Measures the engine against what the database under it can do at best, in the same run.
//!
//! `cargo run --release -p velo-benches -- chain`; see `docs/benchmarks.md`.

mod args;
mod line;
mod stats;

// Where, and what it costs.
mod cpu;
mod database;
mod meter;
mod server;

// What is done.
mod floor;
mod pgbench;
mod rig;
mod work;

// What is measured.
mod backlog;
mod chain;
mod fanout;
mod growth;
mod idle;
mod latency;
mod queue;
mod recovery;
mod xmin;

// How else it can be asked for.
mod driver;
mod fleet;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Args, Workload};
use line::Lines;
use server::Server;

/// What a part of a benchmark returns. The first error ends the benchmark: a person reads it.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("VELO_LOG").unwrap_or_else(|_| EnvFilter::new("error")),
        )
        .with_writer(std::io::stderr)
        .init();
    match Box::pin(run(&Args::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("velo-benches: {error}");
            let mut cause = error.source();
            while let Some(source) = cause {
                eprintln!("  because: {source}");
                cause = source.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Outcome {
    if let Ok(url) = std::env::var(fleet::DATABASE) {
        return fleet::work_for_ever(&url).await;
    }
    if args.driver {
        return driver::drive().await;
    }
    let server = Server::find(args.statements, args.untested).await?;
    let mut lines = Lines::new(args.json);
    for workload in args.workloads() {
        let (server, lines) = (&server, &mut lines);
        match workload {
            Workload::Floor => floor::measure(args, server, lines).await?,
            Workload::Chain => chain::measure(args, server, lines).await?,
            Workload::Latency => latency::measure(args, server, lines).await?,
            Workload::Fanout => fanout::measure(args, server, lines).await?,
            Workload::Queue => queue::measure(args, server, lines).await?,
            Workload::Recovery => recovery::measure(args, server, lines).await?,
            Workload::Growth => growth::measure(args, server, lines).await?,
            Workload::Xmin => xmin::measure(args, server, lines).await?,
            Workload::Backlog => backlog::measure(args, server, lines).await?,
            Workload::Idle => idle::measure(args, server, lines).await?,
        }
    }
    lines.finish();
    server.end().await
}
