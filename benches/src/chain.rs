//! Many runs of ten steps at once: the whole engine, from the first claim to the last commit.

use std::sync::Arc;

use crate::Outcome;
use crate::args::Args;
use crate::floor::{BATCH, Floor, MANY, Payload};
use crate::line::{Line, Lines};
use crate::meter::Costs;
use crate::rig;
use crate::server::Server;
use crate::stats::{median, median_ratio, rate};
use crate::work::{self, Ended, STEPS, Work, Writes};

/// The step whose bytes stand for all.
const MIDDLE: i32 = 5;

/// Runs of a repetition, by how many of them are in flight: enough for about two seconds, so that what a worker
/// does once in its life is a small part of it.
fn runs(in_flight: usize) -> usize {
    (in_flight * 64).clamp(150, 8_000)
}

/// The rates of one number of runs in flight.
#[derive(Default)]
struct Case {
    rates: Vec<f64>,
    costs: Costs,
}

/// Measures the chain, beside the floors in the same repetitions.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let (name, writes) = if args.whole {
        ("chain-whole", Writes::Whole)
    } else {
        ("chain", Writes::Item)
    };
    let database = server.database().await?;
    let floor = Floor::new(&database).await?;
    let ended = Ended::default();
    let graph = work::chain(writes, &ended, &Arc::new(()))?;
    let mut cases: Vec<Case> = args.in_flight.iter().map(|_| Case::default()).collect();
    let (mut commits, mut inserts) = (Vec::new(), Vec::new());
    let mut payload = None;
    for _ in 0..args.repetitions {
        commits.push(floor.commits(MANY, args.seconds).await?);
        for (in_flight, case) in args.in_flight.iter().zip(&mut cases) {
            database.clear().await?;
            let runs = runs(*in_flight);
            let ids = rig::start(&database.engine, &graph, runs, Work::begin).await?;
            let mark = database.meter.mark().await?;
            let took = rig::drain(
                &database,
                graph.clone(),
                &ended,
                runs,
                *in_flight,
                args.pool,
            );
            let took = took.await?;
            let cost = database.meter.since(&mark).await?;
            rig::verify(&database, &ids).await?;
            let units = rate(runs * STEPS, took);
            case.rates.push(units);
            case.costs.push(units * took.as_secs_f64(), cost);
        }
        let stored = Payload::stored(&database.pool, MIDDLE).await?;
        inserts.push(floor.inserts(&stored, BATCH, args.seconds).await?);
        payload = Some(stored);
    }
    let n = commits.len();
    let payload = payload.ok_or("no repetition was asked for")?;
    for (in_flight, case) in args.in_flight.iter().zip(&cases) {
        let (workload, steps) = (format!("{name}/{in_flight}"), median(&case.rates));
        for (floor, rates) in [("K", &commits), ("S_ins", &inserts)] {
            let ratio = median_ratio(&case.rates, rates);
            let line = Line::new(&workload, "steps", steps, "steps/s", n);
            lines.push(line.against(floor, median(rates), ratio));
        }
        case.costs
            .report(lines, &workload, "step", Some(payload.bytes()));
    }
    drop(floor);
    database.drop().await
}
