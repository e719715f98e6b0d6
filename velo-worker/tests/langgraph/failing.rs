use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

use crate::support::{Beside, Calls, Sum, completed, line, reason, settled, steps};

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
    let beside = Beside::serve(&engine, graph);
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
    let beside = Beside::serve(&engine, graph);

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
    let beside = Beside::serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert!(engine.resume(run).await.unwrap());
    completed(&engine, run).await;
    assert_eq!((calls.made(), flaky.made()), (3, 2));
    let lines = engine.state::<Sum>(run).await.unwrap().lines;
    assert_eq!(lines, ["0", "1", "2", "3", "after all"]);
    beside.stop().await;
}

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
    let beside = Beside::serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(
        reason(&engine, run).await,
        "the run would end while the join before `last` waits for two, after one: were they skipped \
         on purpose, say .may_stay_shut(last)"
    );
    beside.stop().await;
}
