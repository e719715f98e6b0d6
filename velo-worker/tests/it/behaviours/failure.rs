use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use velo_engine::prelude::*;
use velo_engine::{NodeFailure, RunStatus, TimeLimit, test_kit};

use super::support::{
    Calls, Sum, completed, history, line, lines, next, reason, said, serve, steps,
};
use crate::support::settled;

const ONE: NodeKey<Sum> = NodeKey::new("one");
const TWO: NodeKey<Sum> = NodeKey::new("two");
const EACH: NodeKey<Sum, u32> = NodeKey::new("each");

fn twice() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 2,
        first_delay: Duration::from_millis(10),
        factor: 1.0,
        ..RetryPolicy::default()
    }
}

/// B3: two nodes write one plain field in a step.
#[tokio::test]
async fn two_writers_of_one_plain_field_pause_the_run_and_name_both() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("writers", 1)
        .node(ONE, async |_| Ok(Sum::update().owner("one").into()))
        .node(TWO, async |_| Ok(Sum::update().owner("two").into()))
        .start(ONE)
        .start(TWO)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(
        reason(&engine, run).await,
        "field `owner` was written more than once in one step, by one, two: give it a reducer, one \
         writer or one value"
    );
    assert_eq!(engine.state::<Sum>(run).await.unwrap(), Sum::default());
    beside.stop().await;
}

/// B22, B23, B24: of two nodes side by side, one fails until it is resumed a second time.
#[tokio::test]
async fn a_resumed_step_runs_only_what_has_not_finished() {
    let engine = test_kit::engine().await;
    let (ones, twos) = (Calls::default(), Calls::default());
    let is_mended = Arc::new(AtomicBool::new(false));
    let graph = Graph::builder("pair", 1)
        .node(ONE, {
            let ones = ones.clone();
            move |_: Context<Sum>| {
                ones.next();
                async { Ok(Sum::update().value(2).into()) }
            }
        })
        .node(TWO, {
            let (twos, is_mended) = (twos.clone(), Arc::clone(&is_mended));
            move |_: Context<Sum>| {
                twos.next();
                let is_mended = is_mended.load(Ordering::SeqCst);
                async move {
                    if is_mended {
                        return Ok(Sum::update().value(3).into());
                    }
                    Err(NodeError::transient("not yet"))
                }
            }
        })
        .default_retry(twice())
        .start(ONE)
        .start(TWO)
        .compile()
        .unwrap();
    let input = Sum {
        value: 1,
        ..Sum::default()
    };
    let run = engine.start(&graph, input).await.unwrap();
    let beside = serve(&engine, graph);

    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!((ones.made(), twos.made()), (1, 2));
    let at = engine.checkpoint::<Sum>(run).await.unwrap();
    assert_eq!(
        (at.state.value, at.tasks.len()),
        (1, 2),
        "as the step began"
    );
    assert_eq!(reason(&engine, run).await, "not yet");
    let before = steps(&engine, run).await;

    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!((ones.made(), twos.made()), (1, 4));
    assert_eq!(steps(&engine, run).await, before, "no step was taken");

    is_mended.store(true, Ordering::SeqCst);
    assert!(engine.resume(run).await.unwrap());
    completed(&engine, run).await;
    assert_eq!((ones.made(), twos.made()), (1, 5));
    assert_eq!(engine.state::<Sum>(run).await.unwrap().value, 6);
    assert_eq!(steps(&engine, run).await, before + 1);
    beside.stop().await;
}

/// B27: one of several sends fails, and the run is resumed.
#[tokio::test]
async fn sends_that_have_finished_do_not_run_again() {
    let engine = test_kit::engine().await;
    let (calls, flaky) = (Calls::default(), Calls::default());
    let graph = Graph::builder("sends", 1)
        .node(ONE, async |_| Ok(Next::send_all(EACH, [0, 1, 2, 3])))
        .node(EACH, {
            let (calls, flaky) = (calls.clone(), flaky.clone());
            move |cx: Context<Sum, u32>| {
                let (calls, flaky) = (calls.clone(), flaky.clone());
                async move {
                    if *cx.input() != 2 {
                        calls.next();
                    } else if flaky.next() == 1 {
                        return Err(NodeError::permanent("the first time is unlucky"));
                    }
                    Ok(line(format!("{}", cx.input())))
                }
            }
        })
        .node(TWO, async |_| Ok(line("after all")))
        .start(ONE)
        .may_go(ONE, EACH)
        .edge(EACH, TWO)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert!(engine.resume(run).await.unwrap());
    completed(&engine, run).await;
    assert_eq!((calls.made(), flaky.made()), (3, 2));
    let lines = engine.state::<Sum>(run).await.unwrap().lines;
    assert_eq!(lines, ["0", "1", "2", "3", "after all"]);
    beside.stop().await;
}

/// E10: one source was skipped.
#[tokio::test]
async fn a_join_that_can_no_longer_open_pauses_the_run_with_the_reason() {
    let engine = test_kit::engine().await;
    const LAST: NodeKey<Sum> = NodeKey::new("last");
    let graph = Graph::builder("skipped", 1)
        .node(ONE, async |_| Ok(line("one")))
        .node(TWO, async |_| Ok(Next::end()))
        .node(LAST, async |_| Ok(line("last")))
        .start(ONE)
        .start(TWO)
        .join([ONE, TWO], LAST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(
        reason(&engine, run).await,
        "the run would end while the join before `last` waits for two, after one: were they skipped \
         on purpose, say .may_stay_shut(last)"
    );
    beside.stop().await;
}

/// B26: what a run fails by is mended by an edit of its state, and its thread can be deleted when it has
/// ended.
#[tokio::test]
async fn a_run_that_fails_by_its_state_goes_on_when_that_is_mended() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("mended", 1)
        .node(ONE, async |cx: Context<Sum>| match cx.state().value {
            1 => Err(NodeError::permanent("the first attempt is unlucky")),
            _ => Ok(line("one")),
        })
        .node(TWO, async |_: Context<Sum>| Ok(line("two")))
        .start(ONE)
        .edge(ONE, TWO)
        .compile()
        .unwrap();
    let input = said("start").value(1).into_state().unwrap();
    let start = engine.start(&graph, input.clone());
    let run = start.thread("mended").await.unwrap();
    let beside = serve(&engine, graph.clone());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(engine.state::<Sum>(run).await.unwrap(), input);
    assert_eq!(next(&engine, run).await, ["one"]);
    let told = reason(&engine, run).await;
    assert_eq!(told, "the first attempt is unlucky");

    let mend = engine.update_state(&graph, run, Sum::update().value(1));
    assert_eq!(mend.await.unwrap(), 1);
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(lines(&engine, run).await, ["start", "one", "two"]);
    assert_eq!(history(&engine, run).await.len(), 4, "one is the edit");
    assert_eq!(engine.delete_thread("mended").await.unwrap(), 1);
    assert!(engine.run(run).await.is_err());
    beside.stop().await;
}

/// B29: a run is paused with the last error after its attempts, between which it waited as long as its
/// policy says.
#[tokio::test]
async fn the_last_of_all_attempts_tells_why_and_the_waits_before_it_grow() {
    let engine = test_kit::engine().await;
    let began = Arc::new(Mutex::new(Vec::new()));
    let graph = Graph::builder("exhausted", 1)
        .node(ONE, {
            let began = Arc::clone(&began);
            move |cx: Context<Sum>| {
                began.lock().unwrap().push(Instant::now());
                async move { Err(NodeError::transient(format!("no {}", cx.attempt()))) }
            }
        })
        .retry(
            ONE,
            RetryPolicy {
                max_attempts: 3,
                first_delay: Duration::from_millis(50),
                factor: 2.0,
                ..RetryPolicy::default()
            },
        )
        .start(ONE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(reason(&engine, run).await, "no 3");
    let began = began.lock().unwrap().clone();
    let waits: Vec<_> = began.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 2);
    for (wait, least) in waits.iter().zip([50, 100]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    beside.stop().await;
}

const HANDLE: NodeKey<Sum, NodeFailure> = NodeKey::new("handle");

/// B30: after its attempts a failed node is handed to its handler, which chooses where the run goes.
/// B31: a handler that fails has the run paused with the handler's own error.
#[tokio::test]
async fn a_handler_comes_after_all_attempts_and_chooses_the_way() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let graph = Graph::builder("handled", 1)
        .node(ONE, {
            let calls = calls.clone();
            move |_: Context<Sum>| {
                calls.next();
                async { Err(NodeError::transient("no")) }
            }
        })
        .node(HANDLE, async |cx: Context<Sum, NodeFailure>| {
            if cx.state().owner == "nobody" {
                return Err(NodeError::permanent("nor here"));
            }
            let NodeFailure { node, error, .. } = cx.input();
            Ok(said(format!("{node}: {error}")).goto(TWO))
        })
        .node(TWO, async |_: Context<Sum>| Ok(line("handled_after")))
        .default_retry(twice())
        .start(ONE)
        .on_error(ONE, HANDLE)
        .may_go(HANDLE, TWO)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph.clone());
    assert_eq!(lines(&engine, run).await, ["one: no", "handled_after"]);
    assert_eq!(calls.made(), 2);

    let input = Sum::update().owner("nobody").into_state().unwrap();
    let run = engine.start(&graph, input).await.unwrap();
    assert_eq!(reason(&engine, run).await, "nor here");
    assert_eq!(next(&engine, run).await, ["handle"]);
    beside.stop().await;
}

/// B37: what a node tells of its progress is a sign of life for the idle limit, and for no other.
#[tokio::test]
async fn a_node_that_tells_of_its_progress_is_not_idle_and_may_still_take_too_long() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("telling", 1)
        .node(ONE, async |cx: Context<Sum>| {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                cx.progress(serde_json::json!("still here"));
            }
        })
        .time_limit(
            ONE,
            TimeLimit {
                start_to_close: Some(Duration::from_secs(2)),
                idle: Some(Duration::from_secs(1)),
                ..TimeLimit::default()
            },
        )
        .retry(ONE, RetryPolicy::never())
        .start(ONE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    let paused = settled(&engine, run).await;
    let limit = &paused.error.unwrap()["kind"]["timed_out"]["limit"];
    assert_eq!(limit, "start_to_close");
    beside.stop().await;
}
