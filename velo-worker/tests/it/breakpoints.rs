//! Runs that are paused on purpose before and after nodes, and go on once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use velo_engine::prelude::*;
use velo_engine::{Run, Why, test_kit};

use crate::support::{Beside, Log, line, settled, until, worker};

const ONE: NodeKey<Log> = NodeKey::new("one");
const TWO: NodeKey<Log> = NodeKey::new("two");
const THREE: NodeKey<Log> = NodeKey::new("three");

/// Three nodes in a row; each counts its runs.
fn chain(calls: &Arc<AtomicU32>) -> velo_engine::GraphBuilder<Log> {
    let node = |name: &'static str| {
        let calls = Arc::clone(calls);
        move |_: Context<Log>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move { Ok(line(name).into()) }
        }
    };
    Graph::builder("chain", 1)
        .node(ONE, node("one"))
        .node(TWO, node("two"))
        .node(THREE, node("three"))
        .start(ONE)
        .edge(ONE, TWO)
        .edge(TWO, THREE)
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    engine.state::<Log>(run).await.unwrap().lines
}

/// The run, paused at a breakpoint after as many steps.
async fn stopped(engine: &Engine, run: RunId, steps: i32) -> Run {
    until(async || {
        let found = engine.run(run).await.unwrap();
        found.status == RunStatus::Paused && found.steps == steps
    })
    .await;
    let found = settled(engine, run).await;
    assert_eq!(found.error.as_ref().unwrap()["kind"], "breakpoint");
    found
}

#[tokio::test]
async fn a_run_is_paused_before_a_node_with_nothing_begun_and_goes_on_once() {
    let engine = test_kit::engine().await;
    let calls = Arc::default();
    let graph = chain(&calls).pause_before(TWO).compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // A lease that is lost to a slow machine would have a body run again.
    let beside = Beside::start(worker(&engine, graph).lease(Duration::from_secs(600)));
    let found = stopped(&engine, run, 1).await;
    assert_eq!(found.error.unwrap()["before"], serde_json::json!(["two"]));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let why = engine.why(run).await.unwrap();
    assert!(matches!(why, Why::Paused { .. }));
    assert_eq!(
        why.to_string(),
        "it is paused at a breakpoint before two: resume it"
    );
    // A second resume finds nothing to do, or a run that goes on already.
    assert!(engine.resume(run).await.unwrap());
    engine.resume(run).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, run).await, ["one", "two", "three"]);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    beside.stop().await;
}

// B53. A run that has ended is not paused any more, so the last of the three has no stop of its own.
#[tokio::test]
async fn a_run_is_paused_after_every_step_also_of_nodes_that_write_nothing() {
    let engine = test_kit::engine().await;
    let nothing = async |_: Context<Log>| Ok(Next::none());
    let graph = Graph::builder("nothing", 1)
        .node(ONE, nothing)
        .node(TWO, nothing)
        .node(THREE, nothing)
        .start(ONE)
        .edge(ONE, TWO)
        .edge(TWO, THREE)
        .pause_after_all()
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    for (steps, node) in [(1, "one"), (2, "two")] {
        let found = stopped(&engine, run, steps).await;
        assert_eq!(found.error.unwrap()["after"], serde_json::json!([node]));
        assert!(engine.resume(run).await.unwrap());
    }
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(engine.run(run).await.unwrap().steps, 3);
    beside.stop().await;
}

#[tokio::test]
async fn one_run_alone_can_be_paused_and_a_breakpoint_at_no_node_is_refused() {
    let engine = test_kit::engine().await;
    let graph = chain(&Arc::default()).compile().unwrap();
    let start = || engine.start(&graph, Log::default());
    let stopping = start().pause_before_all().pause_after(TWO).await.unwrap();
    let other = start().await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    assert_eq!(settled(&engine, other).await.status, RunStatus::Completed);
    for steps in 0..3 {
        stopped(&engine, stopping, steps).await;
        assert!(engine.resume(stopping).await.unwrap());
    }
    until(async || engine.run(stopping).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(lines(&engine, stopping).await, ["one", "two", "three"]);

    const NOWHERE: NodeKey<Log> = NodeKey::new("nowhere");
    let refused = start().pause_before(NOWHERE).await;
    let Err(EngineError::UnknownNode { node, near, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((node.as_str(), near), ("nowhere", None));
    const SLIP: NodeKey<Log> = NodeKey::new("tow");
    let refused = start().pause_before(SLIP).await.unwrap_err().to_string();
    assert!(refused.ends_with("did you mean `two`?"), "{refused}");
    let refused = chain(&Arc::default()).pause_after(NOWHERE).compile();
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains(".pause_after(…) names `nowhere`"),
        "{refused}"
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_state_that_is_edited_at_a_breakpoint_is_what_the_node_sees_when_it_goes_on() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("edited", 1)
        .node(ONE, async |_: Context<Log>| Ok(line("one").into()))
        .node(TWO, async |cx: Context<Log>| {
            let seen = cx.state().lines.join("+");
            Ok(line(format!("two saw {seen}")).into())
        })
        .start(ONE)
        .edge(ONE, TWO)
        .pause_before(TWO)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    stopped(&engine, run, 1).await;
    engine
        .update_state(&graph, run, line("edit"))
        .await
        .unwrap();
    assert!(engine.resume(run).await.unwrap());
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(
        lines(&engine, run).await,
        ["one", "edit", "two saw one+edit"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_loop_is_paused_each_time_and_worker_deaths_pass_no_breakpoint() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("loop", 1)
        .node(ONE, async |cx: Context<Log>| {
            let turns = cx.state().turns + 1;
            let update = Log::update().turns(turns);
            Ok(if turns < 3 {
                update.goto(ONE)
            } else {
                update.end()
            })
        })
        .start(ONE)
        .may_go(ONE, ONE)
        .pause_before(ONE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    for steps in 0..3 {
        let beside = Beside::start(worker(&engine, graph.clone()));
        stopped(&engine, run, steps).await;
        beside.die().await;
        // Nobody claims a run that is paused; the next worker takes it when it is resumed.
        let beside = Beside::start(worker(&engine, graph.clone()));
        assert_eq!(engine.run(run).await.unwrap().steps, steps);
        assert!(engine.resume(run).await.unwrap());
        until(async || engine.run(run).await.unwrap().steps > steps).await;
        beside.stop().await;
    }
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
}

// B52.
#[tokio::test]
async fn a_breakpoint_three_levels_down_stops_the_whole_and_lets_it_go_on() {
    let engine = test_kit::engine().await;
    let lowest = chain(&Arc::default()).pause_before(TWO).compile().unwrap();
    let wrapped = |name: &str, child: &Graph<Log>| {
        Graph::builder(name, 1)
            .subgraph(
                ONE,
                child,
                |cx| cx.state().clone(),
                |child| line(child.lines.join("+")),
            )
            .start(ONE)
            .compile()
            .unwrap()
    };
    let middle = wrapped("middle", &lowest);
    let top = wrapped("top", &middle);
    let run = engine.start(&top, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, top));
    let mut below = run;
    for _ in 0..2 {
        until(async || !engine.children(below, 1).await.unwrap().is_empty()).await;
        below = engine.children(below, 1).await.unwrap()[0].run;
    }
    stopped(&engine, below, 1).await;
    let found = settled(&engine, run).await;
    assert_eq!((found.status, found.is_leased), (RunStatus::Waiting, false));
    assert_eq!(engine.resume_all(run).await.unwrap(), 1);
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(lines(&engine, run).await, ["one+two+three"]);
    assert_eq!(engine.resume_all(run).await.unwrap(), 0);
    beside.stop().await;
}
