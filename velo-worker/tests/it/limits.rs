//! A node that takes too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use velo_engine::prelude::*;
use velo_engine::{RunStatus, TimeLimit, test_kit};

use crate::support::{Beside, Log, line, settled, worker};

const SLOW: NodeKey<Log> = NodeKey::new("slow");
const SHORT: Duration = Duration::from_millis(100);
/// Far more than the test takes.
const LONG: Duration = Duration::from_secs(600);

fn limited(node: impl Node<Log>, limit: TimeLimit, max_attempts: u32) -> Graph<Log> {
    Graph::builder("limited", 1)
        .node(SLOW, node)
        .time_limit(SLOW, limit)
        .retry(
            SLOW,
            RetryPolicy {
                max_attempts,
                first_delay: Duration::from_millis(10),
                factor: 1.0,
                ..RetryPolicy::default()
            },
        )
        .start(SLOW)
        .compile()
        .unwrap()
}

async fn failures(engine: &Engine, run: RunId) -> Vec<serde_json::Value> {
    sqlx::query_scalar("select error from velo.failure where run_id = $1 order by attempt")
        .bind(run)
        .fetch_all(engine.pool())
        .await
        .unwrap()
}

/// B36: with all that it did.
#[tokio::test]
async fn an_attempt_that_takes_too_long_is_dropped_undone_and_tried_again() {
    let engine = test_kit::engine().await;
    sqlx::query("create table public.mark (attempt int)")
        .execute(engine.pool())
        .await
        .unwrap();
    let graph = limited(
        async |cx: Context<Log>| {
            let mut tx = cx.tx().await?;
            sqlx::query("insert into public.mark values ($1)")
                .bind(cx.attempt().cast_signed())
                .execute(&mut *tx)
                .await?;
            drop(tx);
            cx.emit("tried", &cx.attempt())?;
            if cx.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            Ok(line("in time").into())
        },
        TimeLimit {
            start_to_close: Some(Duration::from_secs(1)),
            ..TimeLimit::default()
        },
        2,
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let failed = failures(&engine, run).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["kind"]["timed_out"]["limit"], "start_to_close");
    let marks: Vec<i32> = sqlx::query_scalar("select attempt from public.mark")
        .fetch_all(engine.pool())
        .await
        .unwrap();
    assert_eq!(marks, [2]);
    assert_eq!(engine.events(run, 0, 10).await.unwrap().len(), 1);
    beside.stop().await;
}

/// B37: by heartbeats alone.
#[tokio::test]
async fn a_node_that_gives_no_sign_of_life_is_dropped_and_one_that_does_is_not() {
    let engine = test_kit::engine().await;
    let graph = limited(
        async |cx: Context<Log>| {
            if cx.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            for _ in 0..8 {
                tokio::time::sleep(SHORT).await;
                cx.heartbeat();
            }
            Ok(line("alive").into())
        },
        TimeLimit {
            idle: Some(5 * SHORT),
            ..TimeLimit::default()
        },
        2,
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let failed = failures(&engine, run).await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["kind"]["timed_out"]["limit"], "idle");
    beside.stop().await;
}

#[tokio::test]
async fn the_time_of_all_attempts_survives_a_crash_and_counts_anew_after_a_resume() {
    let engine = test_kit::engine().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let graph = limited(
        move |_: Context<Log>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(line("done").into()) }
        },
        TimeLimit {
            schedule_to_close: Some(LONG),
            ..TimeLimit::default()
        },
        50,
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // As if workers had tried, and died, for longer than that.
    sqlx::query("update velo.step set at = at - interval '1 hour' where run_id = $1")
        .bind(run)
        .execute(engine.pool())
        .await
        .unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    let error = paused.error.unwrap();
    assert_eq!(error["kind"]["timed_out"]["limit"], "schedule_to_close");
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    beside.stop().await;
}

#[tokio::test]
async fn an_attempt_that_could_begin_only_after_the_limit_is_not_waited_for() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("limited", 1)
        .node(SLOW, async |_: Context<Log>| {
            Err(NodeError::transient("busy"))
        })
        .time_limit(
            SLOW,
            TimeLimit {
                schedule_to_close: Some(LONG),
                ..TimeLimit::default()
            },
        )
        .retry(
            SLOW,
            RetryPolicy {
                first_delay: 2 * LONG,
                max_delay: 2 * LONG,
                ..RetryPolicy::default()
            },
        )
        .start(SLOW)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let error = paused.error.unwrap();
    assert_eq!(error["message"], "busy");
    assert!(error["causes"].to_string().contains("schedule_to_close"));
    beside.stop().await;
}

#[tokio::test]
async fn a_task_that_no_worker_took_in_time_pauses_its_run_and_a_resume_lets_it_begin() {
    let engine = test_kit::engine().await;
    let graph = limited(
        async |_: Context<Log>| Ok(line("late").into()),
        TimeLimit {
            schedule_to_start: Some(LONG),
            ..TimeLimit::default()
        },
        5,
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    sqlx::query("update velo.step set at = at - interval '1 hour' where run_id = $1")
        .bind(run)
        .execute(engine.pool())
        .await
        .unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(failures(&engine, run).await.len(), 1);
    assert!(engine.resume(run).await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
}

#[tokio::test]
async fn time_in_which_a_node_waits_for_an_answer_is_no_part_of_its_attempt() {
    let engine = test_kit::engine().await;
    let limit = Duration::from_secs(2);
    let graph = limited(
        async |cx: Context<Log>| {
            let answer: String = cx.ask("go", &"on?").await?;
            Ok(line(answer).into())
        },
        TimeLimit {
            start_to_close: Some(limit),
            ..TimeLimit::default()
        },
        1,
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    tokio::time::sleep(limit + SHORT).await;
    let question = engine.questions(Some(run), 1).await.unwrap().remove(0);
    engine.answer(&question, &"yes").await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert!(failures(&engine, run).await.is_empty());
    beside.stop().await;
}
