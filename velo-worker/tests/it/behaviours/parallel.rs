use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Barrier, Semaphore};
use velo_engine::prelude::*;
use velo_engine::test_kit;

use super::support::{Sum, completed, line, serve};

const START: NodeKey<Sum> = NodeKey::new("start");
const EACH: NodeKey<Sum, usize> = NodeKey::new("each");

/// B9: two nodes side by side, the second of which finishes first.
#[tokio::test]
async fn results_are_in_the_order_of_names_and_not_of_completion() {
    const A: NodeKey<Sum> = NodeKey::new("a");
    const B: NodeKey<Sum> = NodeKey::new("b");
    let engine = test_kit::engine().await;
    let b_has_finished = Arc::new(Semaphore::new(0));
    let graph = Graph::builder("order", 1)
        .node(A, {
            let b_has_finished = Arc::clone(&b_has_finished);
            move |_: Context<Sum>| {
                let b_has_finished = Arc::clone(&b_has_finished);
                async move {
                    let _permit = b_has_finished.acquire().await?;
                    Ok(line("a"))
                }
            }
        })
        .node(B, move |_: Context<Sum>| {
            b_has_finished.add_permits(1);
            async { Ok(line("b")) }
        })
        .start(B)
        .start(A)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    completed(&engine, run).await;
    assert_eq!(engine.state::<Sum>(run).await.unwrap().lines, ["a", "b"]);
    beside.stop().await;
}

/// B19: 100 sends, of which 10 may be at work at once.
#[tokio::test]
async fn a_limited_node_never_has_more_tasks_at_work_than_it_may() {
    const SENDS: usize = 100;
    const AT_ONCE: usize = 10;
    let engine = test_kit::engine().await;
    let at_work = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    // Opens for ten at a time: with fewer at work the run would not come to its end.
    let together = Arc::new(Barrier::new(AT_ONCE));
    let graph = Graph::builder("limited", 1)
        .node(START, async |_| Ok(Next::send_all(EACH, 0..SENDS)))
        .node(EACH, {
            let most = Arc::clone(&most);
            move |cx: Context<Sum, usize>| {
                let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
                let together = Arc::clone(&together);
                async move {
                    let now = at_work.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    together.wait().await;
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    Ok(line(cx.input().to_string()))
                }
            }
        })
        .start(START)
        .may_go(START, EACH)
        .at_most(EACH, AT_ONCE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    completed(&engine, run).await;
    let lines = engine.state::<Sum>(run).await.unwrap().lines;
    let expected: Vec<_> = (0..SENDS).map(|send| send.to_string()).collect();
    assert_eq!(lines, expected);
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    beside.stop().await;
}

/// A limited node whose tasks wait for another node in the same step: the other one is let by.
#[tokio::test]
async fn a_limited_node_does_not_hold_back_the_others_of_its_step() {
    const ZED: NodeKey<Sum, ()> = NodeKey::new("zed");
    let engine = test_kit::engine().await;
    let zed_has_run = Arc::new(Semaphore::new(0));
    let graph = Graph::builder("let-by", 1)
        .node(START, async |_| {
            Ok(Next::send_all(EACH, 0..3).and_send(ZED, ()))
        })
        .node(EACH, {
            let zed_has_run = Arc::clone(&zed_has_run);
            move |_: Context<Sum, usize>| {
                let zed_has_run = Arc::clone(&zed_has_run);
                async move {
                    let _permit = zed_has_run.acquire().await?;
                    Ok(line("each"))
                }
            }
        })
        .node(ZED, move |_: Context<Sum>| {
            zed_has_run.add_permits(1);
            async { Ok(line("zed")) }
        })
        .start(START)
        .may_go(START, EACH)
        .may_go(START, ZED)
        .at_most(EACH, 1)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    completed(&engine, run).await;
    assert_eq!(engine.state::<Sum>(run).await.unwrap().lines.len(), 4);
    beside.stop().await;
}
