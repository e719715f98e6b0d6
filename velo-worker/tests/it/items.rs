//! The long-term store, as nodes and workers use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use velo_engine::item::{ItemError, Namespace};
use velo_engine::lease::{self, Neighbour};
use velo_engine::prelude::*;
use velo_engine::test_kit;

use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");

fn place() -> Namespace {
    Namespace::new(["notes"]).unwrap()
}

fn single(node: impl Node<Log>) -> Graph<Log> {
    let again = RetryPolicy {
        first_delay: Duration::from_millis(10),
        ..RetryPolicy::default()
    };
    Graph::builder("single", 1)
        .node(FIRST, node)
        .retry(FIRST, again)
        .start(FIRST)
        .compile()
        .unwrap()
}

async fn value(engine: &Engine, key: &str) -> Option<Value> {
    let found = engine.items().get(&place(), key).await.unwrap();
    found.map(|item| item.value)
}

/// Puts one more than there is.
async fn count<I>(cx: &Context<Log, I>, key: &str) -> Result<(), NodeError> {
    let before = cx.get(&place(), key).await?;
    let before = before.and_then(|item| item.value.as_u64()).unwrap_or(0);
    cx.put(&place(), key, &(before + 1)).await?;
    Ok(())
}

async fn runs_to_its_end(engine: &Engine, graph: &Graph<Log>) {
    let run = engine.start(graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(engine, graph.clone()));
    let found = settled(engine, run).await;
    assert_eq!(found.status, RunStatus::Completed, "{:?}", found.error);
    beside.stop().await;
}

#[tokio::test]
async fn a_node_that_runs_again_has_put_once_and_sees_what_it_has_put() {
    let engine = test_kit::engine().await;
    engine.items().put(&place(), "gone", &1).await.unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let graph = single(move |cx: Context<Log>| {
        let tries = Arc::clone(&tries);
        async move {
            count(&cx, "n").await?;
            count(&cx, "n").await?;
            cx.delete(&place(), "gone")?;
            let seen = cx.get(&place(), "n").await?.unwrap().value;
            assert_eq!(seen, json!(2));
            assert_eq!(cx.get(&place(), "gone").await?, None);
            // Committed, and not what is about to be.
            assert_eq!(cx.search(&place()).await?.items.len(), 1);
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(NodeError::transient("again"));
            }
            let _: u32 = cx.step("beside", async |_| Ok::<_, NodeError>(1)).await?;
            Ok(line("done").into())
        }
    });
    runs_to_its_end(&engine, &graph).await;
    assert_eq!(value(&engine, "n").await, Some(json!(2)));
    assert_eq!(value(&engine, "gone").await, None);
}

#[tokio::test]
async fn tasks_that_run_side_by_side_put_with_their_outcomes() {
    let engine = test_kit::engine().await;
    let first = async |_: Context<Log>| Ok(Next::send_all(EACH, 0..20));
    let each = async |cx: Context<Log, u32>| {
        cx.put(&place(), &cx.input().to_string(), cx.input())
            .await?;
        Ok(line("put").into())
    };
    let graph = Graph::builder("wide", 1)
        .node(FIRST, first)
        .node(EACH, each)
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    runs_to_its_end(&engine, &graph).await;
    let found = engine.items().search(&place()).limit(100).await.unwrap();
    assert_eq!(found.items.len(), 20);
}

#[tokio::test]
async fn a_node_with_a_transaction_reads_through_it_and_puts_with_it() {
    let engine = test_kit::engine().await;
    let items = engine.items();
    let graph = single(move |cx: Context<Log>| {
        let items = items.clone();
        async move {
            let mut tx = cx.tx().await?;
            items.put(&place(), "own", &1).in_tx(&mut tx).await?;
            let busy = cx.get(&place(), "own").await;
            assert!(matches!(busy, Err(ItemError::InUse)));
            drop(tx);
            assert!(cx.get(&place(), "own").await?.is_some());
            cx.put(&place(), "other", &2).await?;
            Ok(line("done").into())
        }
    });
    runs_to_its_end(&engine, &graph).await;
    assert_eq!(value(&engine, "own").await, Some(json!(1)));
    assert_eq!(value(&engine, "other").await, Some(json!(2)));
}

#[tokio::test]
async fn a_worker_that_has_lost_the_run_puts_nothing() {
    let engine = test_kit::engine().await;
    let (came, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let calls = Arc::new(AtomicU32::new(0));
    let node = {
        let (came, open) = (Arc::clone(&came), Arc::clone(&open));
        move |cx: Context<Log>| {
            let (came, open, calls) = (Arc::clone(&came), Arc::clone(&open), Arc::clone(&calls));
            async move {
                let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
                count(&cx, "n").await?;
                cx.put(&place(), "by", &call).await?;
                if call == 1 {
                    came.notify_one();
                    open.notified().await;
                }
                Ok(line(call.to_string()).into())
            }
        }
    };
    let graph = single(node);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // It keeps its heartbeat, but has lost the run before it commits.
    let first = Beside::start(worker(&engine, graph.clone()));
    within(came.notified()).await;
    let id: i32 = sqlx::query_scalar("select id from velo.worker")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    lease::bury(engine.pool(), Neighbour { id, pid: 1 })
        .await
        .unwrap();
    open.notify_one();
    let found = settled(&engine, run).await;
    assert_eq!(found.status, RunStatus::Completed, "{:?}", found.error);
    let log: Log = engine.state(run).await.unwrap();
    // By the attempt whose step it is, and by no other.
    assert_eq!(log.lines.len(), 1);
    assert_ne!(log.lines, ["1"]);
    assert_eq!(value(&engine, "n").await, Some(json!(1)));
    let by = value(&engine, "by").await.unwrap();
    assert_eq!(log.lines, [by.to_string()]);
    first.stop().await;
}

#[tokio::test]
async fn an_item_lives_on_when_a_node_asks_for_that_and_its_step_is_committed() {
    let engine = test_kit::engine().await;
    let hour = Duration::from_secs(3_600);
    let items = engine.items();
    items.put(&place(), "k", &1).ttl(hour).await.unwrap();
    let before = items.get(&place(), "k").await.unwrap().unwrap().expires_at;
    let graph = single(async |cx: Context<Log>| {
        let read = cx.get(&place(), "k").refresh().await?;
        Ok(line(read.unwrap().value.to_string()).into())
    });
    runs_to_its_end(&engine, &graph).await;
    let after = items.get(&place(), "k").await.unwrap().unwrap().expires_at;
    assert!(after > before);
}

#[tokio::test]
async fn a_node_that_puts_what_cannot_be_stored_fails_and_leaves_nothing() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        cx.put(&place(), "good", &1).await?;
        cx.put(&place(), "bad", &"\0").await.permanent()?;
        Ok(line("done").into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let found = settled(&engine, run).await;
    assert_eq!(found.status, RunStatus::Paused);
    assert!(found.error.unwrap().to_string().contains("NUL"));
    assert_eq!(value(&engine, "good").await, None);
    beside.stop().await;
}

/// beyond/time_to_live: of documents.
#[tokio::test]
async fn a_worker_deletes_what_has_expired() {
    let engine = test_kit::engine().await;
    let short = Duration::from_millis(1);
    let put = engine.items().put(&place(), "k", &1).ttl(short).await;
    put.unwrap();
    until(async || value(&engine, "k").await.is_none()).await;
    let graph = single(async |_: Context<Log>| Ok(line("x").into()));
    let beside = Beside::start(worker(&engine, graph));
    until(async || {
        let rows: i64 = sqlx::query_scalar("select count(*) from velo.item")
            .fetch_one(engine.pool())
            .await
            .unwrap();
        rows == 0
    })
    .await;
    beside.stop().await;
}
