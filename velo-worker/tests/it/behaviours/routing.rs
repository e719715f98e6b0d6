use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{Streamed, test_kit};

use super::support::{Sum, history, line, lines, said, serve};
use crate::support::{settled, within};

const A: NodeKey<Sum> = NodeKey::new("a");
const B: NodeKey<Sum> = NodeKey::new("b");
const C: NodeKey<Sum> = NodeKey::new("c");
const D: NodeKey<Sum> = NodeKey::new("d");
const E: NodeKey<Sum> = NodeKey::new("e");
const EACH: NodeKey<Sum, u32> = NodeKey::new("each");

/// A node that says its name.
fn says(name: &'static str) -> impl Node<Sum> {
    move |_: Context<Sum>| async move { Ok(line(name)) }
}

/// Nodes that say their names, before there is an `e` among them.
fn four(name: &str) -> velo_engine::GraphBuilder<Sum> {
    Graph::builder(name, 1)
        .node(A, says("a"))
        .node(B, says("b"))
        .node(C, says("c"))
        .node(D, says("d"))
        .start(A)
}

/// B10: on a worker; retrievers of unequal depth, joined before the answer.
/// B11: the same with a plain edge beside the join.
/// B12: the join in a loop.
/// B13: the same ways before a deferred node, with no join at all.
/// B14: one source of the join leads to the other.
#[tokio::test]
async fn joins_open_on_a_worker_as_they_do_in_the_executor() {
    let engine = test_kit::engine().await;
    let forked = |name: &str| four(name).edge(A, B).edge(A, C).edge(C, D);
    let waiting = forked("waiting").node(E, says("e")).join([B, D], E);
    let beside = forked("beside")
        .node(E, says("e"))
        .edge(A, E)
        .join([B, D], E);
    let looping = forked("looping")
        .node(E, async |cx: Context<Sum>| {
            let was_here = cx.state().lines.iter().any(|line| line == "e");
            Ok(match was_here {
                false => said("e").goto(A),
                true => line("e"),
            })
        })
        .join([B, D], E)
        .may_go(E, A);
    let deferred = forked("deferred")
        .node(E, says("e"))
        .edge(B, E)
        .edge(D, E)
        .deferred(E);
    let edges = four("edges").edge(A, B).edge(A, C).join([A, B], D);
    let cases = [
        (waiting, "a b c d e"),
        (beside, "a b c e d e"),
        (looping, "a b c d e a b c d e"),
        (deferred, "a b c d e"),
        (edges, "a b c d"),
    ];
    for (graph, expected) in cases {
        let graph = graph.compile().unwrap();
        let run = engine.start(&graph, Sum::default()).await.unwrap();
        let beside = serve(&engine, graph.clone());
        assert_eq!(lines(&engine, run).await.join(" "), expected, "{graph:?}");
        beside.stop().await;
    }
}

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Topics {
    #[state(append, ephemeral)]
    topic: Vec<u32>,
    #[state(append)]
    kept: Vec<u32>,
}

/// B4: on two workers at once, a hundred times.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_of_a_topic_are_both_heard_in_each_of_a_hundred_runs() {
    const RUNS: usize = 100;
    const ONE: NodeKey<Topics> = NodeKey::new("one");
    const TWO: NodeKey<Topics> = NodeKey::new("two");
    const ADD: NodeKey<Topics> = NodeKey::new("add");
    let engine = test_kit::engine().await;
    let three = async |_: Context<Topics>| Ok(Topics::update().topic(vec![3]).into());
    let graph = Graph::builder("topics", 1)
        .node(ONE, three)
        .node(TWO, three)
        .node(ADD, async |cx: Context<Topics>| {
            let more: Vec<u32> = cx.state().topic.iter().map(|value| value + 10).collect();
            Ok(Topics::update().kept(more).into())
        })
        .start(ONE)
        .start(TWO)
        .join([ONE, TWO], ADD)
        .compile()
        .unwrap();
    let starts = (0..RUNS).map(|_| engine.start(&graph, Topics::default()).into_future());
    let runs = join_all(starts).await;
    let both = [serve(&engine, graph.clone()), serve(&engine, graph)];
    for run in runs {
        let run = run.unwrap();
        settled(&engine, run).await;
        let state: Topics = engine.state(run).await.unwrap();
        assert_eq!((state.topic, state.kept), (vec![], vec![13, 13]));
    }
    for one in both {
        one.stop().await;
    }
}

/// B6: on a worker; what follows two sends runs once.
/// B7: on a worker; the sends of two nodes that are side by side, beside a node that one of them names.
#[tokio::test]
async fn sends_of_two_nodes_run_side_by_side_and_what_follows_them_runs_once() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("sends", 1)
        .node(A, async |_: Context<Sum>| {
            Ok(said("a").send(EACH, 1).and_send(EACH, 2).and_goto(C))
        })
        .node(B, async |_: Context<Sum>| {
            Ok(said("b").send(EACH, 3).and_send(EACH, 4))
        })
        .node(C, says("c"))
        .node(EACH, async |cx: Context<Sum, u32>| {
            // The later, the sooner it is done: the order is not that of completion.
            let pause = Duration::from_millis(u64::from(50 - 10 * cx.input()));
            tokio::time::sleep(pause).await;
            Ok(line(format!("each {}", cx.input())))
        })
        .node(D, says("d"))
        .start(A)
        .start(B)
        .may_go(A, EACH)
        .may_go(A, C)
        .may_go(B, EACH)
        .edge(EACH, D)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(
        lines(&engine, run).await,
        ["a", "b", "c", "each 1", "each 2", "each 3", "each 4", "d"]
    );
    assert_eq!(history(&engine, run).await.len(), 4);
    beside.stop().await;
}

/// B1: on a worker.
/// B5: what is given as the input goes before what the first node writes, through the same reducer.
/// B15: a node that returns two outcomes, and a node after it; a stream of updates has both.
/// B16: the writes of one node are told apart, in order, in the history; each state before them can be read.
#[tokio::test]
async fn a_node_may_write_a_field_several_times_and_the_history_tells_each_write() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("several", 1)
        .node(A, async |_: Context<Sum>| {
            Ok(line("a.0").then(said("a.1").goto(B)))
        })
        .node(B, async |_: Context<Sum>| Ok(said("b").owner("b").end()))
        .start(A)
        .may_go(A, B)
        .compile()
        .unwrap();
    let input = said("input").into_state().unwrap();
    let run = engine.start(&graph, input).await.unwrap();
    let beside = serve(&engine, graph.clone());
    assert_eq!(
        lines(&engine, run).await,
        ["input", "a.0", "a.1", "b"],
        "in the order of the writes"
    );
    let told = history(&engine, run).await;
    let writes: Vec<_> = told.iter().map(|step| step.writes.clone()).collect();
    assert_eq!(
        writes,
        [
            json!([]),
            json!([["lines", ["a.0"]], ["lines", ["a.1"]]]),
            json!([["lines", ["b"]], ["owner", "b"]]),
        ]
    );
    let mut updates = engine.stream(&graph, run).updates().open().await.unwrap();
    let mut streamed = Vec::new();
    while let Some(item) = within(updates.next()).await {
        if let Streamed::Updates { writes, .. } = item.unwrap().what {
            streamed.push(writes);
        }
    }
    assert_eq!(streamed, writes[1..]);
    for (seq, expected) in [(0, 1), (1, 3), (2, 4)] {
        let state: Sum = engine.state_at(run, seq).await.unwrap();
        assert_eq!(state.lines.len(), expected, "after step {seq}");
    }
    beside.stop().await;
}

/// B18: on a worker; the plan is part of the state.
#[tokio::test]
async fn a_planner_that_chooses_the_nodes_by_a_plan_runs_once_after_each_part_of_it() {
    let engine = test_kit::engine().await;
    let planner = async |cx: Context<Sum>| {
        let plan = [vec![B], vec![C, D], vec![E]];
        let at = usize::try_from(cx.state().value).unwrap_or(usize::MAX);
        let turn = Next::from(said("plan").value(1));
        Ok(match plan.get(at) {
            Some(nodes) => nodes.iter().fold(turn, |next, node| next.and_goto(*node)),
            None => turn.then(Next::end()),
        })
    };
    let nodes = Graph::builder("plan", 1)
        .node(A, planner)
        .node(B, says("b"))
        .node(C, says("c"))
        .node(D, says("d"))
        .node(E, says("e"))
        .start(A);
    let graph = [B, C, D, E]
        .into_iter()
        .fold(nodes, |graph, node| graph.may_go(A, node).edge(node, A));
    let graph = graph.compile().unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(
        lines(&engine, run).await,
        ["plan", "b", "plan", "c", "d", "plan", "e", "plan"]
    );
    beside.stop().await;
}
