use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

use crate::support::{Beside, Log, line, settled, until, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");

fn quickly(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        max_attempts,
        first_delay: Duration::from_millis(20),
        factor: 1.0,
        ..RetryPolicy::default()
    }
}

/// Counts its calls.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<AtomicU32>);

impl Calls {
    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn made(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

fn single(node: impl Node<Log>, policy: RetryPolicy) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .retry(FIRST, policy)
        .start(FIRST)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_failed_node_is_tried_again_until_it_succeeds() {
    let engine = test_kit::engine().await;
    let graph = single(
        async |cx: Context<Log>| match cx.attempt() {
            3 => Ok(line("third time").into()),
            _ => Err(NodeError::transient("not yet")),
        },
        quickly(3),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(
        engine.state::<Log>(run).await.unwrap().lines,
        ["third time"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_node_that_keeps_failing_pauses_the_run_with_the_reason_and_a_resume_tries_it_afresh() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = single(
        move |cx: Context<Log>| {
            let call = counted.next();
            async move {
                if call == 4 {
                    return Ok(line(format!("attempt {}", cx.attempt())).into());
                }
                Err(std::io::Error::other("the disk is on fire"))?
            }
        },
        quickly(3),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!((paused.status, calls.made()), (RunStatus::Paused, 3));
    let error = paused.error.unwrap();
    assert_eq!(
        (&error["node"], &error["attempt"]),
        (&"first".into(), &3.into())
    );
    assert_eq!(error["message"], "the disk is on fire");
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["attempt 1"]);
    assert!(
        !engine.resume(run).await.unwrap(),
        "a finished run stays finished"
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_permanent_error_is_not_tried_again() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = single(
        move |_: Context<Log>| {
            counted.next();
            async { Err(NodeError::permanent("no")) }
        },
        quickly(3),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(calls.made(), 1);
    beside.stop().await;
}

#[tokio::test]
async fn a_panic_is_an_error_of_the_node_and_the_worker_goes_on() {
    let engine = test_kit::engine().await;
    let graph = single(
        async |cx: Context<Log>| {
            assert!(cx.attempt() > 1, "first attempts are unlucky");
            Ok(Next::none())
        },
        quickly(2),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let stored: String =
        sqlx::query_scalar("select error ->> 'message' from velo.failure where run_id = $1")
            .bind(run)
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert_eq!(stored, "the node panicked: first attempts are unlucky");
    beside.stop().await;
}

#[tokio::test]
async fn a_kept_result_is_read_back_by_later_attempts() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = single(
        move |cx: Context<Log>| {
            let counted = counted.clone();
            async move {
                let paid: String = cx
                    .step("pay", |key| async move {
                        let call = counted.next();
                        Ok::<_, NodeError>(format!("call {call} with key {key}"))
                    })
                    .await?;
                if cx.attempt() < 3 {
                    return Err(NodeError::transient("after paying"));
                }
                Ok(line(paid).into())
            }
        },
        quickly(3),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(calls.made(), 1);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, [format!("call 1 with key velo-{run}-1-0-pay")]);
    beside.stop().await;
}

#[tokio::test]
async fn a_step_name_used_twice_is_refused_and_one_that_failed_may_be_used_again() {
    let engine = test_kit::engine().await;
    let graph = single(
        async |cx: Context<Log>| {
            let failed = cx
                .step("a", |_| async { Err::<u32, _>(NodeError::transient("x")) })
                .await;
            assert!(failed.is_err());
            let fine: u32 = cx.step("a", |_| async { Ok::<_, NodeError>(1) }).await?;
            let twice = cx.step("a", |_| async { Ok::<u32, NodeError>(2) }).await;
            Ok(line(format!("{fine} {}", twice.unwrap_err())).into())
        },
        RetryPolicy::never(),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert!(
        lines[0].starts_with("1 the name `a` is used twice in node `first`"),
        "{lines:?}"
    );
    beside.stop().await;
}

#[tokio::test]
async fn what_a_failed_attempt_wrote_in_its_transaction_is_rolled_back() {
    let engine = test_kit::engine().await;
    sqlx::query("create table effect (attempt int)")
        .execute(engine.pool())
        .await
        .unwrap();
    let graph = single(
        async |cx: Context<Log>| {
            sqlx::query("insert into effect values ($1)")
                .bind(cx.attempt().cast_signed())
                .execute(&mut *cx.tx().await?)
                .await?;
            match cx.attempt() {
                1 => Err(NodeError::transient("after writing")),
                2 => panic!("while holding a transaction"),
                _ => Ok(Next::none()),
            }
        },
        quickly(3),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let effects: Vec<i32> = sqlx::query_scalar("select attempt from effect")
        .fetch_all(engine.pool())
        .await
        .unwrap();
    assert_eq!(effects, [3]);
    beside.stop().await;
}

#[tokio::test]
async fn finished_branches_do_not_run_again_when_one_of_them_fails() {
    let engine = test_kit::engine().await;
    sqlx::query("create table effect (branch int)")
        .execute(engine.pool())
        .await
        .unwrap();
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = Graph::builder("fan", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..5))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            counted.next();
            async move {
                sqlx::query("insert into effect values ($1)")
                    .bind(cx.input().cast_signed())
                    .execute(&mut *cx.tx().await?)
                    .await?;
                if *cx.input() == 3 && cx.attempt() < 3 {
                    return Err(NodeError::transient("flaky"));
                }
                Ok(line(cx.input().to_string()).into())
            }
        })
        .default_retry(quickly(3))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(
        engine.state::<Log>(run).await.unwrap().lines,
        ["0", "1", "2", "3", "4"]
    );
    assert_eq!(calls.made(), 7);
    let effects: Vec<i32> = sqlx::query_scalar("select branch from effect order by 1")
        .fetch_all(engine.pool())
        .await
        .unwrap();
    assert_eq!(effects, [0, 1, 2, 3, 4]);
    beside.stop().await;
}

/// E8: a node that is known, and to which this one may not go.
#[tokio::test]
async fn a_route_that_was_not_declared_pauses_the_run_and_says_how_to_mend_it() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Log>| Ok(Next::goto(FIRST)), quickly(3));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let message = paused.error.unwrap()["message"].to_string();
    assert!(
        message.contains("declare it with .may_go(first, first)"),
        "{message}"
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_loop_ends_at_the_step_limit() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("loop", 1)
        .node(FIRST, async |cx: Context<Log>| {
            Ok(Log::update().turns(cx.state().turns + 1).goto(FIRST))
        })
        .start(FIRST)
        .may_go(FIRST, FIRST)
        .step_limit(7)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert_eq!(engine.state::<Log>(run).await.unwrap().turns, 7);
    beside.stop().await;
}

#[tokio::test]
async fn a_cancelled_run_ends_whether_it_waits_or_works() {
    let engine = test_kit::engine().await;
    let graph = single(
        async |cx: Context<Log>| {
            cx.cancelled().await;
            Ok(line("too late").into())
        },
        RetryPolicy::never(),
    );
    let waiting = engine
        .start(&graph, Log::default())
        .thread("t")
        .await
        .unwrap();
    assert!(engine.cancel(waiting).await.unwrap());
    assert_eq!(
        engine.run(waiting).await.unwrap().status,
        RunStatus::Cancelled
    );
    assert!(
        engine.cancel(waiting).await.unwrap(),
        "asked again, the same"
    );

    let working = engine
        .start(&graph, Log::default())
        .thread("t")
        .await
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    until(async || engine.run(working).await.unwrap().is_leased).await;
    assert!(engine.cancel(working).await.unwrap());
    assert_eq!(settled(&engine, working).await.status, RunStatus::Cancelled);
    assert_eq!(
        engine.state::<Log>(working).await.unwrap().lines,
        Vec::<String>::new()
    );
    beside.stop().await;
    engine
        .start(&graph, Log::default())
        .thread("t")
        .await
        .unwrap();
}
