//! One run whose state grows with every step: a step late must cost what one early did.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use velo_engine::prelude::*;

use crate::Outcome;
use crate::args::Args;
use crate::line::{Line, Lines};
use crate::rig::{self, Beside};
use crate::server::Server;
use crate::stats::{median, milliseconds};
use crate::work::Ended;

/// Steps of the run.
const STEPS: usize = 5_050;
/// Bytes that each step appends.
const CHUNK: usize = 1024;
/// The early steps that are compared, and the late ones.
const EARLY: std::ops::Range<usize> = 25..75;
const LATE: std::ops::Range<usize> = 4_975..5_025;

/// A state that only grows.
#[derive(State, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Grown {
    #[state(append)]
    chunks: Vec<String>,
}

const GROW: NodeKey<Grown> = NodeKey::new("grow");

/// A step as it began: how far the WAL was, and between which two moments that was asked.
#[derive(Debug, Clone, Copy)]
struct Sample {
    asked: Instant,
    answered: Instant,
    wal: i64,
}

type Samples = Arc<Mutex<Vec<Sample>>>;

fn graph(pool: &PgPool, samples: &Samples, ended: &Ended) -> Outcome<Graph<Grown>> {
    let (pool, samples, ended) = (pool.clone(), Arc::clone(samples), ended.clone());
    let grow = move |cx: Context<Grown>| {
        let (pool, samples, ended) = (pool.clone(), Arc::clone(&samples), ended.clone());
        async move {
            let sample = sample(&pool).await?;
            samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sample);
            let step = cx.state().chunks.len();
            let update = Grown::update().chunks(vec![chunk(step)]);
            if step + 1 == STEPS {
                ended.one();
                return Ok(update.end());
            }
            Ok(update.goto(GROW))
        }
    };
    let graph = Graph::builder("growth", 1)
        .node(GROW, grow)
        .may_go(GROW, GROW)
        .start(GROW)
        .step_limit(u64::try_from(STEPS)?)
        .compile()?;
    Ok(graph)
}

async fn sample(pool: &PgPool) -> Result<Sample, sqlx::Error> {
    const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    let asked = Instant::now();
    let wal = sqlx::query_scalar(WAL).fetch_one(pool).await?;
    Ok(Sample {
        asked,
        answered: Instant::now(),
        wal,
    })
}

/// Letters without a pattern, so that no compression hides what is written.
fn chunk(step: usize) -> String {
    let mut state = step as u64 + 1;
    let letter = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'A' + u8::try_from((state >> 33) % 26).expect("below 26"))
    };
    (0..CHUNK).map(letter).collect()
}

/// What a step of a range wrote and how long it took, at the median.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of one step are far below 2^52"
)]
fn window(samples: &[Sample], range: std::ops::Range<usize>) -> (f64, f64) {
    let two = || samples[range.clone()].windows(2);
    let wal: Vec<f64> = two().map(|two| (two[1].wal - two[0].wal) as f64).collect();
    let took = two().map(|two| two[1].asked.saturating_duration_since(two[0].answered));
    let took: Vec<f64> = took.map(milliseconds).collect();
    (median(&wal), median(&took))
}

const DISK: &str = "\
select sum(pg_total_relation_size(c.oid))::bigint
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'velo'
  and c.relkind = 'r'";

/// Measures what a step writes and how long it takes, early and late, and the disk in the end.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of one run are far below 2^52"
)]
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let (samples, ended) = (Samples::default(), Ended::default());
    let graph = graph(&database.pool, &samples, &ended)?;
    let (mut wal, mut times, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut means, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..args.repetitions {
        database.clear().await?;
        let before: i64 = sqlx::query_scalar(DISK).fetch_one(&database.pool).await?;
        let beside = Beside::start(&database, args.pool, |worker| worker.serve(graph.clone()));
        let beside = beside.await?;
        let began = Instant::now();
        let run = database.engine.start(&graph, Grown::default()).await?;
        ended.wait(1).await?;
        rig::none_live(&database).await?;
        seconds.push(began.elapsed().as_secs_f64());
        let state: Grown = database.engine.state(run).await?;
        if state.chunks.len() != STEPS || state.chunks[STEPS - 1] != chunk(STEPS - 1) {
            return Err(format!("run {run} has {} chunks", state.chunks.len()).into());
        }
        let after: i64 = sqlx::query_scalar(DISK).fetch_one(&database.pool).await?;
        beside.stop().await?;
        let taken = std::mem::take(&mut *samples.lock().unwrap_or_else(PoisonError::into_inner));
        let whole = taken[STEPS - 1].wal - taken[0].wal;
        means.push(whole as f64 / (STEPS - 1) as f64);
        let (early, late) = (window(&taken, EARLY), window(&taken, LATE));
        wal.push((early.0, late.0));
        times.push((early.1, late.1));
        disks.push((after - before) as f64 / (STEPS * CHUNK) as f64);
    }
    let n = wal.len();
    let mut compare = |metric: &str, pairs: &[(f64, f64)], unit| {
        let early: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let late: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let growth: Vec<f64> = pairs.iter().map(|pair| pair.1 / pair.0).collect();
        let line = Line::new(
            "growth",
            format!("{metric}_at_step_5000"),
            median(&late),
            unit,
            n,
        );
        lines.push(line.against("step 50", median(&early), median(&growth)));
        let line = Line::new(
            "growth",
            format!("{metric}_growth"),
            median(&growth),
            "times",
            n,
        );
        lines.push(line);
    };
    compare("wal_bytes", &wal, "bytes");
    compare("step_time", &times, "ms");
    let per_step = Line::new(
        "growth",
        "wal_with_snapshots_per_step",
        median(&means),
        "bytes",
        n,
    );
    lines.push(per_step);
    lines.push(Line::new(
        "growth",
        "disk_of_data",
        median(&disks),
        "times",
        n,
    ));
    lines.push(Line::new("growth", "whole", median(&seconds), "s", n));
    database.drop().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn chunks_have_their_size_and_differ() {
        assert_eq!(chunk(0).len(), CHUNK);
        assert_ne!(chunk(0), chunk(1));
    }

    #[test]
    fn a_window_gives_the_median_step() {
        let start = Instant::now();
        let samples: Vec<Sample> = (0_u32..10)
            .map(|step| Sample {
                asked: start + Duration::from_millis(10) * step,
                answered: start + Duration::from_millis(10) * step + Duration::from_millis(4),
                wal: i64::from(step) * 100,
            })
            .collect();
        let (wal, took) = window(&samples, 2..8);
        assert!((wal - 100.0).abs() < 1e-9 && (took - 6.0).abs() < 1e-9);
    }
}
