//! One run at a time: how long a step takes when nothing else is to be done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::args::Args;
use crate::floor::Floor;
use crate::line::{Line, Lines};
use crate::meter::Costs;
use crate::rig::{self, Beside};
use crate::server::Server;
use crate::stats::{gaps, median, median_ratio, milliseconds, percentile};
use crate::work::{self, Ended, STEPS, Times, Work, Writes};

/// Runs of a repetition.
const RUNS: usize = 60;
/// How long the minimal commits beside them last.
const COMMITS: Duration = Duration::from_millis(700);

/// Measures from the beginning of one node to the beginning of the next: the commit between them,
/// and all that the engine does around it.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let floor = Floor::new(&database).await?;
    let (ended, times) = (Ended::default(), Arc::new(Times::default()));
    let graph = work::chain(Writes::Item, &ended, &times)?;
    let beside = Beside::start(&database, args.pool, |worker| worker.serve(graph.clone())).await?;
    let (mut steps, mut wholes) = (Vec::new(), Vec::new());
    let (mut medians, mut commits) = (Vec::new(), Vec::new());
    let mut costs = Costs::default();
    for _ in 0..args.repetitions {
        commits.push(median(&floor.latencies(COMMITS).await?));
        let mark = database.meter.mark().await?;
        let mut own = Vec::new();
        for _ in 0..RUNS {
            let began = Instant::now();
            let ids = rig::start(&database.engine, &graph, 1, Work::begin).await?;
            ended.wait(1).await?;
            rig::none_live(&database).await?;
            wholes.push(milliseconds(began.elapsed()));
            own.extend(gaps(&times.take()));
            rig::verify(&database, &ids).await?;
        }
        let cost = database.meter.since(&mark).await?;
        costs.push(f64::from(u32::try_from(RUNS * STEPS)?), cost);
        medians.push(median(&own));
        steps.extend(own);
    }
    beside.stop().await?;
    let (floor_p50, ratio) = (median(&commits), median_ratio(&medians, &commits));
    let p50 = Line::new(
        "latency",
        "step_p50",
        percentile(&steps, 50.0),
        "ms",
        steps.len(),
    );
    lines.push(p50.against("commit_p50", floor_p50, ratio));
    let p99 = percentile(&steps, 99.0);
    lines.push(Line::new("latency", "step_p99", p99, "ms", steps.len()));
    for percent in [50.0, 99.0] {
        let whole = percentile(&wholes, percent);
        lines.push(Line::new(
            "latency",
            format!("run_p{percent}"),
            whole,
            "ms",
            wholes.len(),
        ));
    }
    costs.report(lines, "latency", "step", None);
    drop(floor);
    database.drop().await
}
