//! What a graph and an operator say about failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use velo_engine::prelude::*;
use velo_engine::{FailureClass, RunStatus, test_kit};

use crate::support::{Beside, Log, line, settled, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const BESIDE: NodeKey<Log> = NodeKey::new("beside");
const LAST: NodeKey<Log> = NodeKey::new("last");

fn quickly(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        max_attempts,
        first_delay: Duration::from_millis(10),
        factor: 1.0,
        ..RetryPolicy::default()
    }
}

#[tokio::test]
async fn each_class_of_errors_has_its_policy_and_attempts_are_counted_over_all() {
    let engine = test_kit::engine().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let graph = Graph::builder("classes", 1)
        .node(FIRST, move |_: Context<Log>| {
            let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                assert!(call <= 3, "enough");
                Err(NodeError::transient("slow down").classed("rate_limit"))
            }
        })
        .retry(FIRST, RetryPolicy::never())
        .retry_when(FIRST, "rate_limit", quickly(10))
        .retry_when(FIRST, FailureClass::Panic, quickly(5))
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    // Three of one class, and what the other one's five leave.
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    beside.stop().await;
}

#[tokio::test]
async fn a_node_that_fails_fast_pauses_the_run_while_a_sibling_is_at_work() {
    let engine = test_kit::engine().await;
    let began = Arc::new(Notify::new());
    let (sibling_began, is_begun) = (Arc::clone(&began), Arc::clone(&began));
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let graph = Graph::builder("fast", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let is_begun = Arc::clone(&is_begun);
            async move {
                if cx.is_resumed() {
                    return Ok(line("first").into());
                }
                is_begun.notified().await;
                Err(NodeError::permanent("no"))
            }
        })
        .node(BESIDE, move |cx: Context<Log>| {
            let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let began = Arc::clone(&sibling_began);
            async move {
                if call == 1 {
                    began.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(line(format!("attempt {}", cx.attempt())).into())
            }
        })
        .fail_fast(FIRST)
        .start(FIRST)
        .start(BESIDE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(paused.error.unwrap()["node"], "first");
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, ["attempt 1", "first"]);
    beside.stop().await;
}

fn failing() -> Graph<Log> {
    Graph::builder("failing", 1)
        .node(FIRST, async |_: Context<Log>| {
            Err(NodeError::permanent("no"))
        })
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .start(FIRST)
        .edge(FIRST, LAST)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_skipped_task_counts_as_finished_and_its_edges_fire() {
    let engine = test_kit::engine().await;
    let graph = failing();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    assert!(!engine.skip(run, 0).await.unwrap(), "it has not failed");
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.error.unwrap()["task"], 0);
    assert!(!engine.skip(run, 1).await.unwrap(), "there is no such task");
    assert!(engine.skip(run, 0).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["last"]);
    assert!(!engine.skip(run, 0).await.unwrap(), "it has ended");
    beside.stop().await;
}

#[tokio::test]
async fn a_terminated_run_ends_at_once_and_keeps_the_reason() {
    let engine = test_kit::engine().await;
    let graph = failing();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert!(engine.terminate(run, "nobody wants it").await.unwrap());
    let ended = engine.run(run).await.unwrap();
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(ended.error.unwrap()["message"], "nobody wants it");
    assert!(!engine.terminate(run, "again").await.unwrap());
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_terminated_at_work_keeps_the_reason() {
    let engine = test_kit::engine().await;
    let began = Arc::new(Notify::new());
    let shown = Arc::clone(&began);
    let graph = Graph::builder("at work", 1)
        .node(FIRST, move |cx: Context<Log>| {
            shown.notify_one();
            async move {
                cx.cancelled().await;
                Ok(Next::none())
            }
        })
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    within(began.notified()).await;
    assert!(engine.terminate(run, "too dear").await.unwrap());
    let ended = settled(&engine, run).await;
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(ended.error.unwrap()["message"], "too dear");
    beside.stop().await;
}
