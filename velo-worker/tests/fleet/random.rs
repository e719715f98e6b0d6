//! Random graphs, whose runs change hands at random moments, beside the pure executor alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use velo_engine::executor::{self, Task};
use velo_engine::prelude::*;
use velo_worker::test_kit::Fleet;

use super::{Log, line};

/// Graphs that are drawn.
const GRAPHS: usize = 16;
const NAMES: [&str; 6] = ["n0", "n1", "n2", "n3", "n4", "n5"];
const EACH: NodeKey<Log, u32> = NodeKey::new("each");
const END: NodeKey<Log> = NodeKey::new("end");

/// A graph, and what befalls its run.
#[derive(Debug, Clone)]
struct Drawn {
    /// For each node but the first, one that leads to it.
    parents: Vec<usize>,
    more_edges: BTreeSet<(usize, usize)>,
    /// What the last node sends to `each`.
    sends: u32,
    sleep: BTreeSet<usize>,
    fail_once: BTreeSet<usize>,
    /// How long after the start each worker is struck, and whether it is killed or cut off.
    blows: Vec<(u64, bool)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let size = 2..=NAMES.len();
    size.prop_flat_map(|size| {
        let parents: Vec<_> = (1..size).map(|node| 0..node).collect();
        let edge = (0..size, 0..size);
        let some = || prop::collection::btree_set(0..size, 0..=size / 2);
        (
            parents,
            prop::collection::btree_set(edge, 0..4),
            0..5u32,
            some(),
            some(),
            prop::collection::vec((0..60u64, any::<bool>()), 0..3),
        )
            .prop_map(|(parents, edges, sends, sleep, fail_once, blows)| Drawn {
                parents,
                more_edges: edges.into_iter().filter(|(from, to)| from < to).collect(),
                sends,
                sleep,
                fail_once,
                blows,
            })
    })
}

fn key(node: usize) -> NodeKey<Log> {
    NodeKey::new(NAMES[node])
}

/// What a task leaves: it depends on all that it can see.
fn outcome(drawn: &Drawn, task: &str, input: Option<u32>, state: &Log) -> Next<Log> {
    let seen = state.lines.len();
    let wrote = line(format!("{task} {input:?} after {seen}"));
    if task == NAMES[drawn.parents.len()] {
        let sent = Next::send_all(EACH, (0..drawn.sends).rev());
        return sent.and_goto(END).and_update(wrote);
    }
    wrote.into()
}

fn graph(number: usize, drawn: &Arc<Drawn>) -> Graph<Log> {
    let last = drawn.parents.len();
    let soon = RetryPolicy {
        first_delay: Duration::from_secs(60),
        ..RetryPolicy::default()
    };
    let mut graph = Graph::builder(format!("random{number}"), 1).default_retry(soon);
    for (node, name) in NAMES.into_iter().enumerate().take(last + 1) {
        let drawn = Arc::clone(drawn);
        graph = graph.node(key(node), move |cx: Context<Log>| {
            let drawn = Arc::clone(&drawn);
            async move {
                if drawn.sleep.contains(&node) {
                    cx.sleep("rest", Duration::from_secs(3_600)).await?;
                }
                if drawn.fail_once.contains(&node) && cx.attempt() == 1 {
                    return Err(NodeError::transient("once"));
                }
                Ok(outcome(&drawn, name, None, cx.state()))
            }
        });
    }
    let each = Arc::clone(drawn);
    graph = graph
        .node(EACH, move |cx: Context<Log, u32>| {
            let drawn = Arc::clone(&each);
            async move { Ok(outcome(&drawn, "each", Some(*cx.input()), cx.state())) }
        })
        .node(END, async |cx: Context<Log>| {
            let seen = cx.state().lines.len();
            Ok(line(format!("end None after {seen}")).into())
        })
        .start(key(0))
        .may_go(key(last), EACH)
        .may_go(key(last), END);
    let tree = drawn.parents.iter().enumerate();
    let tree = tree.map(|(child, parent)| (*parent, child + 1));
    let edges: BTreeSet<(usize, usize)> = tree.chain(drawn.more_edges.iter().copied()).collect();
    for (from, to) in edges {
        graph = graph.edge(key(from), key(to));
    }
    graph.compile().unwrap()
}

/// The state at the end and the nodes of each step, when nothing happens but the run.
fn alone(graph: &Graph<Log>, drawn: &Drawn) -> (Log, Vec<Vec<String>>) {
    let mut at = executor::begin(graph.shape(), Log::default());
    let mut steps = Vec::new();
    while !at.tasks.is_empty() {
        steps.push(at.tasks.iter().map(|task| task.node.clone()).collect());
        let one = |task: &Task| {
            let input = task.input.clone();
            let input = input.map(|input| serde_json::from_value(input).unwrap());
            outcome(drawn, &task.node, input, &at.state)
        };
        let outcomes = at.tasks.iter().map(one).collect();
        at = executor::advance(graph.shape(), &at, outcomes).unwrap();
    }
    (at.state, steps)
}

#[tokio::test]
async fn runs_of_random_graphs_end_alike_whatever_workers_die_or_are_cut_off_meanwhile() {
    let mut chance = TestRunner::deterministic();
    let drawn: Vec<Arc<Drawn>> = (0..GRAPHS)
        .map(|_| Arc::new(drawn().new_tree(&mut chance).unwrap().current()))
        .collect();
    let graphs: Vec<Graph<Log>> = drawn
        .iter()
        .enumerate()
        .map(|(number, drawn)| graph(number, drawn))
        .collect();
    let served = graphs.clone();
    let prepare = move |worker| {
        served
            .iter()
            .cloned()
            .fold(worker, velo_worker::WorkerBuilder::serve)
    };
    let mut fleet = Fleet::start(2, prepare).await;
    let mut live = vec![0, 1];
    for (graph, drawn) in graphs.iter().zip(&drawn) {
        let run = fleet.engine().start(graph, Log::default()).await.unwrap();
        for (after, is_killed) in &drawn.blows {
            tokio::time::sleep(Duration::from_millis(*after)).await;
            let struck = live.remove(0);
            if *is_killed {
                fleet.kill(struck).await;
                live.push(fleet.add().await);
            } else {
                fleet.pause_past_lease(struck).await;
                live.push(struck);
            }
        }
        // One of them has to be there.
        fleet.resume(live[0]);
        let ended = fleet.settled(run).await;
        assert_eq!(ended.status, RunStatus::Completed, "{ended:?} {drawn:?}");
        for worker in &live {
            fleet.resume(*worker);
        }
        let (state, steps) = alone(graph, drawn);
        let found: Log = fleet.engine().state(run).await.unwrap();
        assert_eq!(found, state, "{drawn:?}");
        let history = fleet.engine().history(run, 0, 1_000).await.unwrap();
        let nodes: Vec<Vec<String>> = history.into_iter().map(|step| step.nodes).collect();
        assert_eq!(nodes, steps, "{drawn:?}");
    }
    fleet.no_unexplained().await;
    fleet.stop().await;
}
