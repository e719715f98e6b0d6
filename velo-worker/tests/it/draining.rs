//! Draining a worker: it stops at step boundaries and hands its runs back at once.

use velo_engine::prelude::*;
use velo_engine::{RunStatus, Why, test_kit};

use crate::support::{Beside, Gate, Log, line, settled, steady, until, within};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");

/// `at` waits at the gate; the other one does not.
fn gated(gate: &Gate, at: NodeKey<Log>) -> Graph<Log> {
    let node = |key: NodeKey<Log>| {
        let gate = (key.name() == at.name()).then(|| gate.clone());
        move |_: Context<Log>| {
            let gate = gate.clone();
            async move {
                if let Some(gate) = gate {
                    gate.pass().await;
                }
                Ok(line(key.name()).into())
            }
        }
    };
    Graph::builder("drained", 1)
        .node(FIRST, node(FIRST))
        .node(SECOND, node(SECOND))
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap()
}

async fn drain(engine: &Engine) {
    let workers = engine.workers(10).await.unwrap();
    engine.drain_worker(workers[0].id).await.unwrap();
}

/// B40: asked for before the start.
#[tokio::test]
async fn a_worker_that_was_drained_begins_nothing() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate, FIRST);
    let beside = Beside::start(steady(&engine, graph.clone()));
    until(async || !engine.workers(1).await.unwrap().is_empty()).await;
    drain(&engine).await;
    assert!(beside.ended().await.cut_off.is_empty());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let why = engine.why(run).await.unwrap();
    assert!(matches!(why, Why::NoCapableWorker { .. }), "{why:?}");
    let gone = engine.drain_worker(1).await;
    assert!(matches!(gone, Err(EngineError::NoWorker(1))), "{gone:?}");
}

/// B40: asked for in the middle.
#[tokio::test]
async fn a_drained_worker_ends_its_step_and_another_goes_on_at_once() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate, FIRST);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let drained = Beside::start(steady(&engine, graph.clone()));
    within(gate.came.notified()).await;
    drain(&engine).await;
    // It lives on, and its leases with it, until its step is committed.
    drained.is_stopping(&engine).await;
    gate.open.notify_one();
    assert!(drained.ended().await.cut_off.is_empty());
    let between = engine.run(run).await.unwrap();
    assert_eq!((between.steps, between.is_leased), (1, false));
    let next = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["first", "second"]);
    next.stop().await;
}

/// B40: asked for in the last step.
#[tokio::test]
async fn a_run_in_its_last_step_ends_as_if_nobody_had_asked() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate, SECOND);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let drained = Beside::start(steady(&engine, graph));
    within(gate.came.notified()).await;
    drain(&engine).await;
    drained.is_stopping(&engine).await;
    gate.open.notify_one();
    assert!(drained.ended().await.cut_off.is_empty());
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Completed);
}

/// B40: asked for while a subgraph is at work.
#[tokio::test]
async fn a_subgraph_is_handed_on_in_its_middle_and_its_parent_goes_on_behind_it() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let part = gated(&gate, FIRST);
    let whole = Graph::builder("whole", 1)
        .subgraph(
            FIRST,
            &part,
            |_: &Context<Log>| Log::default(),
            |log: Log| Log::update().lines(log.lines),
        )
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&whole, Log::default()).await.unwrap();
    let drained = Beside::start(steady(&engine, whole.clone()));
    within(gate.came.notified()).await;
    drain(&engine).await;
    drained.is_stopping(&engine).await;
    gate.open.notify_one();
    assert!(drained.ended().await.cut_off.is_empty());
    let part = engine.children(run, 1).await.unwrap()[0].run;
    assert_eq!(engine.run(part).await.unwrap().steps, 1);
    let next = Beside::start(steady(&engine, whole));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["first", "second"]);
    next.stop().await;
}

#[tokio::test]
async fn a_drain_ends_with_the_grace_and_names_what_it_waited_for_in_vain() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate, FIRST);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let short = steady(&engine, graph).grace(std::time::Duration::from_millis(50));
    let drained = Beside::start(short);
    within(gate.came.notified()).await;
    drain(&engine).await;
    assert_eq!(drained.ended().await.cut_off, [run]);
    assert!(!engine.run(run).await.unwrap().is_leased);
}
