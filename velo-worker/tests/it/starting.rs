use futures::future::join_all;
use velo_engine::prelude::*;
use velo_engine::{EngineError, RunStatus, test_kit};

use crate::support::{Beside, Log, settled, worker};

const ONLY: NodeKey<Log> = NodeKey::new("only");

fn graph() -> Graph<Log> {
    Graph::builder("one", 1)
        .node(ONLY, async |_: Context<Log>| Ok(Next::none()))
        .start(ONLY)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_run_started_in_a_transaction_exists_only_if_that_commits() {
    let (engine, graph) = (test_kit::engine().await, graph());
    let mut tx = engine.pool().begin().await.unwrap();
    let lost = engine
        .start(&graph, Log::default())
        .in_tx(&mut tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert!(matches!(engine.run(lost).await, Err(EngineError::NoRun(run)) if run == lost));

    let beside = Beside::start(worker(&engine, graph.clone()));
    let mut tx = engine.pool().begin().await.unwrap();
    let kept = engine
        .start(&graph, Log::default())
        .in_tx(&mut tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(settled(&engine, kept).await.status, RunStatus::Completed);
    beside.stop().await;
}

/// E1: starts.
#[tokio::test]
async fn a_thread_has_one_live_run_however_many_start_at_once() {
    let (engine, graph) = (test_kit::engine().await, graph());
    let starts = join_all((0..20).map(|_| {
        engine
            .start(&graph, Log::default())
            .thread("acme/1")
            .into_future()
    }))
    .await;
    let started: Vec<RunId> = starts
        .iter()
        .filter_map(|start| start.as_ref().ok().copied())
        .collect();
    assert_eq!(started.len(), 1, "{starts:?}");
    for refused in starts.into_iter().filter_map(Result::err) {
        assert!(
            matches!(&refused, EngineError::ThreadBusy { thread, run } if thread == "acme/1" && *run == started[0]),
            "{refused}"
        );
    }
    let beside = Beside::start(worker(&engine, graph.clone()));
    settled(&engine, started[0]).await;
    let next = engine
        .start(&graph, Log::default())
        .thread("acme/1")
        .await
        .unwrap();
    assert_eq!(settled(&engine, next).await.status, RunStatus::Completed);
    beside.stop().await;
}

#[tokio::test]
async fn a_busy_thread_or_a_taken_id_does_not_spoil_the_callers_transaction() {
    let (engine, graph) = (test_kit::engine().await, graph());
    let first = engine
        .start(&graph, Log::default())
        .thread("t")
        .await
        .unwrap();
    let mut tx = engine.pool().begin().await.unwrap();
    let busy = engine
        .start(&graph, Log::default())
        .thread("t")
        .in_tx(&mut tx)
        .await;
    assert!(
        matches!(busy, Err(EngineError::ThreadBusy { .. })),
        "{busy:?}"
    );
    let taken = engine
        .start(&graph, Log::default())
        .id(first)
        .in_tx(&mut tx)
        .await;
    assert!(
        matches!(taken, Err(EngineError::IdTaken(id)) if id == first),
        "{taken:?}"
    );
    let other = engine
        .start(&graph, Log::default())
        .thread("u")
        .in_tx(&mut tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        engine.run(other).await.unwrap().thread.as_deref(),
        Some("u")
    );
}

#[tokio::test]
async fn the_same_id_starts_one_run_also_when_asked_at_once() {
    let (engine, graph) = (test_kit::engine().await, graph());
    let id = RunId::random();
    let starts =
        join_all((0..20).map(|_| engine.start(&graph, Log::default()).id(id).into_future())).await;
    assert_eq!(
        starts.iter().filter(|start| start.is_ok()).count(),
        1,
        "{starts:?}"
    );
    assert_eq!(engine.unfinished(None, 10).await.unwrap().len(), 1);
}
