//! The binary `velo`: the agency, its workers and its API in one.

mod args;
mod brief;
mod check;
mod dev;
mod doctor;
mod exit;
mod failures;
mod fake_gemini;
mod graphs;
mod house;
mod limits;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod paint;
mod retention;
mod run;
mod runs;
mod schedules;
mod serve;
mod stop;
mod top;
mod workers;

use std::process::ExitCode;

use clap::Parser;
#[cfg(not(feature = "otel"))]
use tracing_subscriber::layer::Identity;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use args::{Args, Command};
use exit::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "otel")]
    let exporter = match otel::Exporter::from_env() {
        Ok(exporter) => exporter,
        Err(error) => return Failure::new("could not export spans", error).report(),
    };
    #[cfg(feature = "otel")]
    log(
        args.command.log_level(),
        exporter.as_ref().map(otel::Exporter::layer),
    );
    #[cfg(not(feature = "otel"))]
    log(args.command.log_level(), None::<Identity>);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new("could not start", error).report(),
    };
    let end = runtime.block_on(async {
        match args.command {
            Command::Run(run) => Box::pin(run::run(&args.house, run)).await,
            Command::Dev(dev) => Box::pin(dev::dev(&args.house, dev)).await,
            Command::Worker(worker) => Box::pin(serve::worker(&args.house, worker)).await,
            Command::Api(api) => Box::pin(serve::api(&args.house, api)).await,
            Command::Runs(runs) => Box::pin(runs::runs(&args.house, runs)).await,
            Command::Graph(graph) => Box::pin(graphs::graph(&args.house, graph)).await,
            Command::Schedules(schedules) => {
                Box::pin(schedules::schedules(&args.house, schedules)).await
            }
            Command::Failures(failures) => {
                Box::pin(failures::failures(&args.house, failures)).await
            }
            Command::Bulk(bulk) => Box::pin(failures::bulk(&args.house, bulk)).await,
            Command::Limits(limits) => Box::pin(limits::limits(&args.house, limits)).await,
            Command::Queues(queues) => Box::pin(limits::queues(&args.house, queues)).await,
            Command::Retention(wanted) => Box::pin(retention::retention(&args.house, wanted)).await,
            Command::Workers(workers) => Box::pin(workers::workers(&args.house, workers)).await,
            Command::Top(seen) => Box::pin(top::top(&args.house, seen)).await,
            Command::Migrate(migrate) => Box::pin(serve::migrate(&args.house, migrate)).await,
            Command::Check(list) => Box::pin(check::check(&args.house, list)).await,
            Command::Doctor(list) => Box::pin(doctor::doctor(&args.house, list)).await,
            Command::FakeGemini(fake) => Box::pin(fake_gemini::serve(fake)).await,
        }
    });
    #[cfg(feature = "otel")]
    if let Some(exporter) = exporter {
        exporter.stop();
    }
    // A blocked file system must not hold up the end.
    runtime.shutdown_background();
    match end {
        Ok(code) => code.into(),
        Err(failure) => failure.report(),
    }
}

/// Logs go to standard error, and only from `level` up unless `VELO_LOG` says otherwise.
fn log<L>(level: &str, exported: L)
where
    L: Layer<Registry> + Send + Sync,
{
    let filter = EnvFilter::try_from_env("VELO_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let printed = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(paint::err_has_colour())
        .with_target(false)
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(exported)
        .with(printed)
        .init();
}
