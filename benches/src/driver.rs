//! The protocol by which a harness drives this and other engines over the same workloads.
//!
//! The environment says what to do: `PGURL`, `BENCH_WORKLOAD`, `N`, `STEPS`, `CONC`. On standard
//! output, `@begin` asks to begin and `@end` tells what came of it; each waits for a line of input.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use sqlx::postgres::PgConnectOptions;

use crate::Outcome;
use crate::database::Database;
use crate::fanout::{self, WIDTHS};
use crate::queue::{self, Job, Picked};
use crate::recovery;
use crate::rig::{self, Beside};
use crate::server::Server;
use crate::stats::{gaps, milliseconds, percentile};
use crate::work::{self, Ended, STEPS, Times, Work, Writes};

/// Connections of the worker.
const CONNECTIONS: u32 = 10;

/// Does what the environment says.
pub(crate) async fn drive() -> Outcome {
    let options = PgConnectOptions::from_str(&std::env::var("PGURL")?)?;
    let server = Server::at(options.clone()).await?;
    let database = Database::open(&server, options).await?;
    let mut harness = Harness;
    println!("@version velo {}", env!("CARGO_PKG_VERSION"));
    if number("STEPS", STEPS)? != STEPS {
        return Err(format!("only {STEPS} steps are built in").into());
    }
    let runs = number("N", 500)?;
    let in_flight = number("CONC", 64)?;
    let workload = std::env::var("BENCH_WORKLOAD").unwrap_or_else(|_| "w1".to_owned());
    match workload.as_str() {
        "w1" => chain(&database, &mut harness, runs, in_flight).await,
        "w2" => latency(&database, &mut harness, runs).await,
        "w3" => fan(&database, &mut harness).await,
        "w4" => drain(&database, &mut harness, runs, in_flight).await,
        "w4p" => pick_up(&database, runs).await,
        "w5" => recover(&database, &mut harness, runs).await,
        other => Err(format!("there is no workload {other}").into()),
    }
}

fn number(name: &str, otherwise: usize) -> Outcome<usize> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => Ok(text.parse()?),
        _ => Ok(otherwise),
    }
}

/// The other side of the protocol.
struct Harness;

impl Harness {
    fn begin(&mut self, label: &str) -> Outcome<Instant> {
        println!("@begin {label}");
        self.answer()?;
        Ok(Instant::now())
    }

    fn end(&mut self, label: &str, told: &Value) -> Outcome {
        println!("@end {label} {told}");
        self.answer()
    }

    /// Nothing is measured while it waits, but the worker's tasks go on.
    fn answer(&mut self) -> Outcome {
        tokio::task::block_in_place(|| std::io::stdin().read_line(&mut String::new()))?;
        Ok(())
    }
}

fn metric(name: &str, value: f64, n: usize) {
    let told = json!({"metric": name, "value": rounded(value), "n": n, "notes": "LISTEN/NOTIFY"});
    println!("@metric {told}");
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn percentiles(times: &[f64], prefix: &str) -> Map<String, Value> {
    [50.0, 95.0, 99.0]
        .into_iter()
        .map(|percent| {
            let value = rounded(percentile(times, percent));
            (format!("{prefix}p{percent}_ms"), json!(value))
        })
        .collect()
}

async fn chain(
    database: &Database<'_>,
    harness: &mut Harness,
    runs: usize,
    in_flight: usize,
) -> Outcome {
    let ended = Ended::default();
    let graph = work::chain(Writes::Item, &ended, &Arc::new(()))?;
    let beside = Beside::start(database, CONNECTIONS, |worker| {
        worker.serve(graph.clone()).concurrency(in_flight)
    });
    let beside = beside.await?;
    rig::start(&database.engine, &graph, 1, |_| Work::begin(-1)).await?;
    ended.wait(1).await?;
    rig::none_live(database).await?;
    let began = harness.begin("main")?;
    let ids = rig::start(&database.engine, &graph, runs, Work::begin).await?;
    let enqueued = began.elapsed();
    ended.wait(runs).await?;
    rig::none_live(database).await?;
    let seconds = began.elapsed().as_secs_f64();
    rig::verify(database, &ids).await?;
    let told = json!({
        "units": runs * STEPS, "secs": seconds, "verify": "ok",
        "metrics": {"enqueue_s": rounded(enqueued.as_secs_f64())},
        "notes": "state kept as deltas; every state read back and compared",
    });
    harness.end("main", &told)?;
    beside.stop().await
}

async fn latency(database: &Database<'_>, harness: &mut Harness, runs: usize) -> Outcome {
    let (ended, times) = (Ended::default(), Arc::new(Times::default()));
    let graph = work::chain(Writes::Item, &ended, &times)?;
    let beside = Beside::start(database, CONNECTIONS, |worker| worker.serve(graph.clone()));
    let beside = beside.await?;
    let (mut wholes, mut steps, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let began = harness.begin("main")?;
    for run in 0..i64::try_from(runs)? {
        let asked = Instant::now();
        ids.push(database.engine.start(&graph, Work::begin(run)).await?);
        ended.wait(1).await?;
        rig::none_live(database).await?;
        wholes.push(milliseconds(asked.elapsed()));
        steps.extend(gaps(&times.take()));
    }
    let seconds = began.elapsed().as_secs_f64();
    rig::verify(database, &ids).await?;
    let mut metrics = percentiles(&wholes, "wf_");
    metrics.extend(percentiles(&steps, "step_"));
    let told = json!({
        "units": runs * STEPS, "n": runs, "secs": seconds, "noprimary": true, "verify": "ok",
        "metrics": metrics, "notes": "from the start to the last commit",
    });
    harness.end("main", &told)?;
    beside.stop().await
}

async fn fan(database: &Database<'_>, harness: &mut Harness) -> Outcome {
    let ended = Ended::default();
    let graph = fanout::graph(&ended)?;
    let beside = Beside::start(database, CONNECTIONS, |worker| worker.serve(graph.clone()));
    let beside = beside.await?;
    fanout::once(database, &graph, &ended, 5).await?;
    for width in WIDTHS {
        let label = format!("steps{width}");
        harness.begin(&label)?;
        let took = fanout::once(database, &graph, &ended, width).await?;
        let metric = format!("fanout{width}_steps_ms");
        let told = json!({
            "units": width, "secs": took.as_secs_f64(), "noprimary": true, "verify": "ok",
            "metrics": {metric: rounded(milliseconds(took))}, "notes": "sends and a join",
        });
        harness.end(&label, &told)?;
    }
    beside.stop().await
}

async fn drain(
    database: &Database<'_>,
    harness: &mut Harness,
    runs: usize,
    in_flight: usize,
) -> Outcome {
    let ended = Ended::default();
    let graph = queue::graph(&ended, &Picked::default())?;
    let began = harness.begin("enqueue")?;
    rig::start(&database.engine, &graph, runs, Job::new).await?;
    let seconds = began.elapsed().as_secs_f64();
    let told = json!({
        "units": runs, "secs": seconds, "verify": "ok", "notes": "one start each, 24 at once",
    });
    harness.end("enqueue", &told)?;
    let began = harness.begin("main")?;
    rig::drain(database, graph, &ended, runs, in_flight, CONNECTIONS).await?;
    let seconds = began.elapsed().as_secs_f64();
    queue::completed(database, runs).await?;
    let told = json!({"units": runs, "secs": seconds, "verify": "ok", "notes": "one step each"});
    harness.end("main", &told)
}

async fn pick_up(database: &Database<'_>, runs: usize) -> Outcome {
    let (ended, picked) = (Ended::default(), Picked::default());
    let graph = queue::graph(&ended, &picked)?;
    let beside = Beside::start(database, CONNECTIONS, |worker| worker.serve(graph.clone()));
    let beside = beside.await?;
    let mut times = Vec::new();
    for number in 0..u64::try_from(runs)? {
        times.push(queue::pick_up(database, &graph, &ended, &picked, number).await?);
    }
    for (name, value) in percentiles(&times, "pickup_") {
        metric(&name, value.as_f64().unwrap_or_default(), runs);
    }
    rig::none_live(database).await?;
    beside.stop().await
}

async fn recover(database: &Database<'_>, harness: &mut Harness, runs: usize) -> Outcome {
    let began = harness.begin("rec")?;
    let recovery = recovery::restarted(database, runs).await?;
    let told = json!({
        "units": recovery.left, "secs": recovery.took.as_secs_f64(), "noprimary": true, "verify": "ok",
        "metrics": {
            "recovery_s": rounded(recovery.took.as_secs_f64()),
            "lost_steps": recovery.audit.lost,
            "dup_steps": recovery.audit.again,
            "repeated_committed_steps": recovery.audit.repeated,
        },
        "notes": format!("killed at half; all in {:.1} s", began.elapsed().as_secs_f64()),
    });
    harness.end("rec", &told)
}
