//! Pausing, resuming, retrying: each verb in each state, and asked again.

use std::time::Duration;

use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{RunStatus, Why, test_kit};

use crate::proxy::{At, Loss, Proxy};
use crate::support::{Beside, Gate, Log, heard, line, settled, steady, until, within};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");

/// `first` waits at the gate, `second` comes after it.
fn gated(gate: &Gate) -> Graph<Log> {
    let gate = gate.clone();
    Graph::builder("steered", 1)
        .node(FIRST, move |_: Context<Log>| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(line("first").into())
            }
        })
        .node(SECOND, async |_: Context<Log>| Ok(line("second").into()))
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap()
}

fn single(node: impl Node<Log>, policy: RetryPolicy) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .retry(FIRST, policy)
        .start(FIRST)
        .compile()
        .unwrap()
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    engine.state::<Log>(run).await.unwrap().lines
}

#[tokio::test]
async fn a_run_at_work_is_paused_at_its_step_boundary_and_goes_on_from_there() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    within(gate.came.notified()).await;
    for _ in 0..2 {
        engine.pause(run, "the provider is down").await.unwrap();
        let why = engine.why(run).await.unwrap();
        assert!(
            matches!(why, Why::Stopping { is_end: false, .. }),
            "{why:?}"
        );
    }
    heard(&engine).await;
    gate.open.notify_one();
    let paused = settled(&engine, run).await;
    assert_eq!((paused.status, paused.steps), (RunStatus::Paused, 1));
    let reason = json!({ "kind": "paused", "message": "the provider is down" });
    assert_eq!(paused.error, Some(reason));
    let why = engine.why(run).await.unwrap().to_string();
    assert!(why.contains("the provider is down"), "{why}");
    // Asked again, the same; what was said first stays.
    engine.pause(run, "once more").await.unwrap();
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, run).await, ["first", "second"]);
    assert!(!engine.resume(run).await.unwrap());
    let ended = engine.pause(run, "too late").await;
    assert!(matches!(ended, Err(EngineError::Ended(id)) if id == run));
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_was_asked_to_pause_and_is_resumed_before_does_not() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    within(gate.came.notified()).await;
    engine.pause(run, "wait").await.unwrap();
    heard(&engine).await;
    assert!(engine.resume(run).await.unwrap());
    gate.open.notify_one();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_whose_worker_dies_before_it_is_paused_is_paused_by_the_next_one() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let dying = Beside::start(steady(&engine, graph.clone()));
    within(gate.came.notified()).await;
    engine.pause(run, "wait").await.unwrap();
    dying.die().await;
    let beside = Beside::start(steady(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!((paused.status, paused.steps), (RunStatus::Paused, 0));
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_waits_is_paused_at_once_and_keeps_what_comes_meanwhile() {
    let engine = test_kit::engine().await;
    let node = async |cx: Context<Log>| {
        let word: String = cx.signal("word").await?;
        Ok(line(word).into())
    };
    let graph = single(node, RetryPolicy::never());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    engine.pause(run, "wait").await.unwrap();
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Paused);
    engine.signal(run, "word", &"said", None).await.unwrap();
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Paused);
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, run).await, ["said"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_sleeps_is_paused_and_does_not_wake() {
    let engine = test_kit::engine().await;
    let node = async |cx: Context<Log>| {
        cx.sleep("nap", Duration::from_millis(300)).await?;
        Ok(line("woke").into())
    };
    let graph = single(node, RetryPolicy::never());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    engine.pause(run, "before it has begun").await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert!(engine.resume(run).await.unwrap());
    until(async || {
        let why = engine.why(run).await.unwrap();
        matches!(why, Why::Asleep { .. } | Why::Ended { .. })
    })
    .await;
    if engine.pause(run, "wait").await.is_ok() {
        let paused = engine.why(run).await.unwrap();
        assert!(matches!(paused, Why::Paused { .. }), "{paused:?}");
        assert!(engine.resume(run).await.unwrap());
    }
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
}

#[tokio::test]
async fn a_retry_is_for_what_has_failed_and_refused_for_all_else() {
    let engine = test_kit::engine().await;
    let gate = Gate::default();
    let held = gate.clone();
    let node = move |cx: Context<Log>| {
        let gate = held.clone();
        async move {
            if !cx.is_resumed() {
                return Err(NodeError::transient("once"));
            }
            gate.pass().await;
            Ok(line("again").into())
        }
    };
    let graph = single(node, RetryPolicy::never());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let refused = engine.retry(run).await;
    assert!(matches!(refused, Err(EngineError::NothingFailed(id)) if id == run));
    engine.pause(run, "by hand").await.unwrap();
    assert!(engine.retry(run).await.is_err(), "nothing has failed");
    assert!(engine.resume(run).await.unwrap());
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    engine.retry(run).await.unwrap();
    within(gate.came.notified()).await;
    let refused = engine.retry(run).await;
    assert!(matches!(refused, Err(EngineError::NothingFailed(_))));
    gate.open.notify_one();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let refused = engine.retry(run).await;
    assert!(matches!(refused, Err(EngineError::Ended(id)) if id == run));
    beside.stop().await;
}

/// B21: state kept, and continued with more steps.
#[tokio::test]
async fn a_run_that_has_taken_all_its_steps_keeps_its_state_and_is_resumed_with_more() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("endless", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let turns = cx.state().turns + 1;
            Ok(Log::update().turns(turns).into())
        })
        .start(FIRST)
        .edge(FIRST, FIRST)
        .step_limit(3)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    for limit in [3, 5, 9] {
        if limit > 3 {
            assert!(engine.resume_within(run, limit).await.unwrap());
        }
        assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
        let state: Log = engine.state(run).await.unwrap();
        assert_eq!(u64::from(state.turns), limit);
    }
    // The limit is the run's own from then on.
    assert!(engine.resume(run).await.unwrap());
    let paused = settled(&engine, run).await;
    assert_eq!((paused.status, paused.steps), (RunStatus::Paused, 9));
    beside.stop().await;
}

#[tokio::test]
async fn every_verb_whose_answer_is_lost_gives_the_same_answer_when_asked_again() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = single(
        async |_: Context<Log>| Ok(Next::none()),
        RetryPolicy::never(),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let lose = |statement| drop(proxy.lose(At::CommitAfter(statement), Loss::Answer));
    lose("run.pause");
    within(proxy.engine.pause(run, "wait")).await.unwrap();
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Paused);
    lose("run.resume");
    assert!(within(proxy.engine.resume(run)).await.unwrap());
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Active);
    lose("run.end");
    assert!(within(proxy.engine.cancel(run)).await.unwrap());
    lose("run.end");
    assert!(within(proxy.engine.terminate(run, "again")).await.unwrap());
    let ended = engine.run(run).await.unwrap();
    assert_eq!((ended.status, ended.error), (RunStatus::Cancelled, None));
    let nobody = RunId::from_i64(1);
    for refused in [
        engine.cancel(nobody).await,
        engine.terminate(nobody, "why").await,
        engine.resume(nobody).await,
        engine.pause(nobody, "why").await.map(|()| true),
        engine.retry(nobody).await.map(|()| true),
    ] {
        assert!(matches!(refused, Err(EngineError::NoRun(run)) if run == nobody));
    }
}
