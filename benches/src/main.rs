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
mod chain;
mod latency;

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
    let server = Server::find().await?;
    let mut lines = Lines::new(args.json);
    for workload in args.workloads() {
        match workload {
            Workload::Floor => floor::measure(args, &server, &mut lines).await?,
            Workload::Chain => chain::measure(args, &server, &mut lines).await?,
            Workload::Latency => latency::measure(args, &server, &mut lines).await?,
        }
    }
    lines.finish();
    server.end().await
}
