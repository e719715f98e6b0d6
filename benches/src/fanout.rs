//! One run that sends to many branches at once and joins them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

use crate::Outcome;
use crate::args::Args;
use crate::database::Database;
use crate::floor::{Floor, MANY};
use crate::line::{Line, Lines};
use crate::meter::Costs;
use crate::rig::{self, Beside};
use crate::server::Server;
use crate::stats::{median, median_ratio, milliseconds, rate};
use crate::work::Ended;

/// Branches of a run.
pub(crate) const WIDTHS: [u32; 2] = [100, 1_000];

/// What the branches leave, and what is made of it.
#[derive(State, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fan {
    width: u32,
    #[state(append)]
    seen: Vec<u32>,
    sum: u64,
}

impl Fan {
    pub(crate) fn begin(width: u32) -> Self {
        Self {
            width,
            ..Self::default()
        }
    }

    fn done(width: u32) -> Self {
        Self {
            width,
            seen: (0..width).collect(),
            sum: (0..u64::from(width)).sum(),
        }
    }
}

const SPLIT: NodeKey<Fan> = NodeKey::new("split");
const BRANCH: NodeKey<Fan, u32> = NodeKey::new("branch");
const JOIN: NodeKey<Fan> = NodeKey::new("join");

async fn split(cx: Context<Fan>) -> NodeResult<Fan> {
    Ok(Next::send_all(BRANCH, 0..cx.state().width))
}

async fn branch(cx: Context<Fan, u32>) -> NodeResult<Fan> {
    Ok(Fan::update().seen(vec![*cx.input()]).into())
}

pub(crate) fn graph(ended: &Ended) -> Outcome<Graph<Fan>> {
    let ended = ended.clone();
    let join = move |cx: Context<Fan>| {
        let ended = ended.clone();
        async move {
            ended.one();
            let sum = cx.state().seen.iter().copied().map(u64::from).sum::<u64>();
            Ok(Fan::update().sum(sum).into())
        }
    };
    let graph = Graph::builder("fan", 1)
        .node(SPLIT, split)
        .node(BRANCH, branch)
        .node(JOIN, join)
        .may_go(SPLIT, BRANCH)
        .edge(BRANCH, JOIN)
        .start(SPLIT)
        .compile()?;
    Ok(graph)
}

/// Runs one; returns how long it took from its start to its last commit.
pub(crate) async fn once(
    database: &Database<'_>,
    graph: &Graph<Fan>,
    ended: &Ended,
    width: u32,
) -> Outcome<Duration> {
    let began = Instant::now();
    let run = database.engine.start(graph, Fan::begin(width)).await?;
    ended.wait(1).await?;
    rig::none_live(database).await?;
    let took = began.elapsed();
    if database.engine.state::<Fan>(run).await? != Fan::done(width) {
        return Err(format!("run {run} joined the wrong branches").into());
    }
    Ok(took)
}

/// Measures runs of each width, one at a time.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let floor = Floor::new(&database).await?;
    let ended = Ended::default();
    let graph = graph(&ended)?;
    let beside = Beside::start(&database, args.pool, |worker| worker.serve(graph.clone())).await?;
    let mut commits = Vec::new();
    let mut rates = WIDTHS.map(|_| Vec::new());
    let mut times = WIDTHS.map(|_| Vec::new());
    let mut costs = WIDTHS.map(|_| Costs::default());
    once(&database, &graph, &ended, WIDTHS[0]).await?;
    for _ in 0..args.repetitions {
        commits.push(floor.commits(MANY, args.seconds).await?);
        for (case, width) in WIDTHS.into_iter().enumerate() {
            let mark = database.meter.mark().await?;
            let took = once(&database, &graph, &ended, width).await?;
            let cost = database.meter.since(&mark).await?;
            times[case].push(milliseconds(took));
            rates[case].push(rate(usize::try_from(width)?, took));
            costs[case].push(f64::from(width) / 100.0, cost);
        }
    }
    beside.stop().await?;
    let n = commits.len();
    for (case, width) in WIDTHS.into_iter().enumerate() {
        let workload = format!("fanout/{width}");
        let ratio = median_ratio(&rates[case], &commits);
        let line = Line::new(&workload, "branches", median(&rates[case]), "branches/s", n);
        lines.push(line.against("K", median(&commits), ratio));
        lines.push(Line::new(&workload, "whole", median(&times[case]), "ms", n));
        costs[case].report(lines, &workload, "100_branches", None);
    }
    drop(floor);
    database.drop().await
}
