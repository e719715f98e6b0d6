//! Chains while another session holds a snapshot, so that nothing that died can be cleaned up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Connection as _;

use crate::Outcome;
use crate::args::Args;
use crate::database::Database;
use crate::line::{Line, Lines};
use crate::meter::{Cost, Costs};
use crate::rig;
use crate::server::Server;
use crate::stats::{median, rate};
use crate::work::{self, Ended, STEPS, Work, Writes};

/// Runs in flight.
const IN_FLIGHT: usize = 64;
/// Runs of one round.
const RUNS: usize = 1_500;
/// How much longer than `--seconds` each half of the measurement lasts.
const LONGER: u64 = 10;
/// Rounds at the end of each half that are compared.
const LAST: usize = 3;

/// Measures rounds without the snapshot, then rounds with it; the last of each are compared.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let half = Duration::from_secs(args.seconds * LONGER);
    let without = rounds(args, &database, half).await?;
    database.clear().await?;
    let mut holder = sqlx::PgConnection::connect_with(&database.options).await?;
    let mut held = holder
        .begin_with("begin isolation level repeatable read")
        .await?;
    // The snapshot is taken by the first statement, and is too old for all that dies afterwards.
    sqlx::query("select count(*) from velo.run")
        .execute(&mut *held)
        .await?;
    let with = rounds(args, &database, half).await?;
    held.rollback().await?;
    holder.close().await?;
    let last = |rounds: &[(f64, Cost)]| -> Vec<f64> {
        let first = rounds.len().saturating_sub(LAST);
        rounds[first..].iter().map(|round| round.0).collect()
    };
    let (floor, value) = (median(&last(&without)), median(&last(&with)));
    let line = Line::new("xmin", "steps_held", value, "steps/s", with.len());
    lines.push(line.against("not held", floor, value / floor));
    for (name, rounds) in [("xmin/not_held", &without), ("xmin/held", &with)] {
        let mut costs = Costs::default();
        for (_, cost) in &rounds[rounds.len().saturating_sub(LAST)..] {
            costs.push(rate(RUNS * STEPS, Duration::from_secs(1)), *cost);
        }
        costs.report(lines, name, "step", None);
    }
    database.drop().await
}

async fn rounds(
    args: &Args,
    database: &Database<'_>,
    limit: Duration,
) -> Outcome<Vec<(f64, Cost)>> {
    let ended = Ended::default();
    let graph = work::chain(Writes::Item, &ended, &Arc::new(()))?;
    let (began, mut rounds) = (Instant::now(), Vec::new());
    while rounds.len() < LAST || began.elapsed() < limit {
        let ids = rig::start(&database.engine, &graph, RUNS, Work::begin).await?;
        let mark = database.meter.mark().await?;
        let took = rig::drain(database, graph.clone(), &ended, RUNS, IN_FLIGHT, args.pool).await?;
        let cost = database.meter.since(&mark).await?;
        rounds.push((rate(RUNS * STEPS, took), cost));
        rig::verify(database, &ids).await?;
    }
    Ok(rounds)
}
