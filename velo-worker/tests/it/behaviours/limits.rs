use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

use super::support::{Calls, Sum, completed, line, reason, serve};
use crate::support::settled;

const AGAIN: NodeKey<Sum> = NodeKey::new("again");

fn endless(limit: u64, calls: &Calls) -> Graph<Sum> {
    let calls = calls.clone();
    Graph::builder("endless", 1)
        .node(AGAIN, move |_: Context<Sum>| {
            calls.next();
            async { Ok(Sum::update().value(1).into()) }
        })
        .start(AGAIN)
        .edge(AGAIN, AGAIN)
        .step_limit(limit)
        .compile()
        .unwrap()
}

/// B21: a loop over the limit.
#[tokio::test]
async fn a_run_pauses_before_the_step_over_its_limit_and_goes_on_under_a_higher_one() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let graph = endless(3, &calls);
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(
        reason(&engine, run).await,
        "the run has taken all 3 steps that it may: raise .step_limit(…) or mend the loop"
    );
    assert_eq!(engine.state::<Sum>(run).await.unwrap().value, 3);
    assert_eq!(calls.made(), 3, "no step began that could not be kept");
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(calls.made(), 3);
    beside.stop().await;

    let higher = serve(&engine, endless(5, &calls));
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(engine.state::<Sum>(run).await.unwrap().value, 5);
    higher.stop().await;
}

#[tokio::test]
async fn a_run_may_be_started_with_a_limit_of_its_own() {
    let engine = test_kit::engine().await;
    let graph = endless(3, &Calls::default());
    let start = engine.start(&graph, Sum::default());
    let run = start.step_limit(5).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    let at = engine.checkpoint::<Sum>(run).await.unwrap();
    assert_eq!((at.state.value, at.step_limit), (5, Some(5)));
    beside.stop().await;
}

#[tokio::test]
async fn a_node_sees_how_many_steps_are_left_and_can_end_in_time() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("in-time", 1)
        .node(AGAIN, async |cx: Context<Sum>| {
            let told = line(cx.steps_left().to_string());
            Ok(if cx.steps_left() == 1 {
                told.then(Next::end())
            } else {
                told
            })
        })
        .start(AGAIN)
        .edge(AGAIN, AGAIN)
        .step_limit(3)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    completed(&engine, run).await;
    let lines = engine.state::<Sum>(run).await.unwrap().lines;
    assert_eq!(lines, ["3", "2", "1"]);
    beside.stop().await;
}
