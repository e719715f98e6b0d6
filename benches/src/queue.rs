//! Runs of a single step that does nothing: what the queue itself costs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

use crate::Outcome;
use crate::args::Args;
use crate::database::Database;
use crate::floor::{BATCH, Floor, MANY, Payload};
use crate::line::{Line, Lines};
use crate::meter::Costs;
use crate::rig::{self, Beside};
use crate::server::Server;
use crate::stats::{median, median_ratio, milliseconds, percentile, rate};
use crate::work::Ended;

/// Runs of a repetition.
const RUNS: usize = 6_000;
/// Runs in flight while the queue is drained.
const IN_FLIGHT: usize = 256;
/// Runs that are picked up one by one in a repetition.
const PICKED: usize = 40;
/// How long the minimal commits beside them last.
const COMMITS: Duration = Duration::from_millis(700);

/// A run with next to nothing in it.
#[derive(State, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    number: i64,
}

impl Job {
    pub(crate) fn new(number: i64) -> Self {
        Self { number }
    }
}

/// When the newest job was picked up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picked(Arc<Mutex<Option<Instant>>>);

impl Picked {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn take(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

const ONLY: NodeKey<Job> = NodeKey::new("only");

pub(crate) fn graph(ended: &Ended, picked: &Picked) -> Outcome<Graph<Job>> {
    let (ended, picked) = (ended.clone(), picked.clone());
    let only = move |_: Context<Job>| {
        picked.now();
        ended.one();
        async { Ok(Next::none()) }
    };
    Ok(Graph::builder("job", 1)
        .node(ONLY, only)
        .start(ONLY)
        .compile()?)
}

/// How long an idle worker takes to begin a job, in milliseconds from the call that starts it.
pub(crate) async fn pick_up(
    database: &Database<'_>,
    graph: &Graph<Job>,
    ended: &Ended,
    picked: &Picked,
    number: u64,
) -> Outcome<f64> {
    // Jobs come neither in step with a poll nor while the last one is still being committed.
    tokio::time::sleep(Duration::from_millis(20 + number * 37 % 80)).await;
    picked.take();
    let asked = Instant::now();
    database.engine.start(graph, Job::default()).await?;
    ended.wait(1).await?;
    let began = picked.take().ok_or("a job ended that had not begun")?;
    Ok(milliseconds(began - asked))
}

/// Measures enqueuing, draining, and picking up.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let floor = Floor::new(&database).await?;
    let (ended, picked) = (Ended::default(), Picked::default());
    let graph = graph(&ended, &picked)?;
    let (mut commits, mut inserts, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut enqueued, mut drained, mut pick_ups) = (Vec::new(), Vec::new(), Vec::new());
    let (mut start_costs, mut drain_costs) = (Costs::default(), Costs::default());
    let mut pick_up_medians = Vec::new();
    for _ in 0..args.repetitions {
        database.clear().await?;
        commits.push(floor.commits(MANY, args.seconds).await?);
        let mark = database.meter.mark().await?;
        let ids = rig::start(&database.engine, &graph, RUNS, Job::new).await?;
        let cost = database.meter.since(&mark).await?;
        enqueued.push(rate(ids.len(), cost.took));
        start_costs.push(rate(RUNS, Duration::from_secs(1)), cost);

        let mark = database.meter.mark().await?;
        let took = rig::drain(&database, graph.clone(), &ended, RUNS, IN_FLIGHT, args.pool).await?;
        let cost = database.meter.since(&mark).await?;
        drained.push(rate(RUNS, took));
        drain_costs.push(rate(RUNS, Duration::from_secs(1)), cost);
        completed(&database, RUNS).await?;
        let stored = Payload::stored(&database.pool, 1).await?;
        inserts.push(floor.inserts(&stored, BATCH, args.seconds).await?);

        // As autovacuum would have done before long.
        sqlx::query("vacuum analyze velo.queue")
            .execute(&database.pool)
            .await?;
        let beside = Beside::start(&database, args.pool, |worker| worker.serve(graph.clone()));
        let beside = beside.await?;
        latencies.push(median(&floor.latencies(COMMITS).await?));
        let mut own = Vec::new();
        for number in 0..u64::try_from(PICKED)? {
            own.push(pick_up(&database, &graph, &ended, &picked, number).await?);
        }
        pick_up_medians.push(median(&own));
        pick_ups.extend(own);
        rig::none_live(&database).await?;
        beside.stop().await?;
    }
    let n = commits.len();
    let line = Line::new("queue", "enqueue", median(&enqueued), "runs/s", n);
    lines.push(line.against("K", median(&commits), median_ratio(&enqueued, &commits)));
    start_costs.report(lines, "queue/enqueue", "run", None);
    let line = Line::new("queue", "drain", median(&drained), "runs/s", n);
    lines.push(line.against("S_ins", median(&inserts), median_ratio(&drained, &inserts)));
    drain_costs.report(lines, "queue/drain", "run", None);
    let p50 = Line::new(
        "queue",
        "pick_up_p50",
        percentile(&pick_ups, 50.0),
        "ms",
        pick_ups.len(),
    );
    let ratio = median_ratio(&pick_up_medians, &latencies);
    lines.push(p50.against("commit_p50", median(&latencies), ratio));
    let p99 = percentile(&pick_ups, 99.0);
    lines.push(Line::new("queue", "pick_up_p99", p99, "ms", pick_ups.len()));
    drop(floor);
    database.drop().await
}

/// Looks whether so many runs have completed, each with its one step.
pub(crate) async fn completed(database: &Database<'_>, runs: usize) -> Outcome {
    const COUNT: &str = "\
select count(*)
from velo.run r
where r.status = 'completed'
  and (select max(seq) from velo.step s where s.run_id = r.id) = 1";
    let count: i64 = sqlx::query_scalar(COUNT).fetch_one(&database.pool).await?;
    if usize::try_from(count)? != runs {
        return Err(format!("{count} of {runs} runs completed").into());
    }
    Ok(())
}
