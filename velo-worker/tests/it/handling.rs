//! What a graph and an operator say about failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use velo_engine::prelude::*;
use velo_engine::{FailureClass, NodeFailure, RunStatus, ShapeError, TimeLimit, test_kit};

use crate::support::{Beside, Log, line, settled, until, within, worker};

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

/// B28: by class.
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

/// B35: where that is asked for.
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
    assert!(engine.terminate(run, "again").await.unwrap());
    let again = engine.run(run).await.unwrap();
    assert_eq!(again.error.unwrap()["message"], "nobody wants it");
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

const HANDLE: NodeKey<Log, NodeFailure> = NodeKey::new("handle");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");

async fn handle(cx: Context<Log, NodeFailure>) -> NodeResult<Log> {
    let failure = cx.input();
    let told = format!(
        "{} after {}: {}",
        failure.node, failure.attempts, failure.error
    );
    Ok(line(told).into())
}

#[tokio::test]
async fn a_failure_goes_to_its_handler_while_siblings_finish_and_edges_do_not_fire() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("handled", 1)
        .node(FIRST, async |_: Context<Log>| {
            Err(NodeError::transient("no"))
        })
        .node(BESIDE, async |cx: Context<Log>| {
            let answer: String = cx.ask("go", &"on?").await?;
            Ok(line(answer).into())
        })
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .node(HANDLE, handle)
        .retry(FIRST, quickly(2))
        .start(FIRST)
        .start(BESIDE)
        .edge(FIRST, LAST)
        .on_error(FIRST, HANDLE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until(|| async {
        sqlx::query_scalar("select exists (select from velo.outcome where run_id = $1)")
            .bind(run)
            .fetch_one(engine.pool())
            .await
            .unwrap()
    })
    .await;
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let question = engine.questions(Some(run), 1).await.unwrap().remove(0);
    engine.answer(&question, &"beside").await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, ["beside", "first after 2: no"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_crash_after_the_last_attempt_leads_to_the_handler_and_not_to_the_node() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("handled", 1)
        .node(FIRST, async |_: Context<Log>| Ok(line("again").into()))
        .node(HANDLE, handle)
        .start(FIRST)
        .default_on_error(HANDLE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // All that is left of a worker that died between recording the failure and taking the step.
    sqlx::query(
        "insert into velo.failure (run_id, seq, task, attempt, fence, error)
         values ($1, 1, 0, 1, 0, '{\"kind\": \"permanent\", \"message\": \"no\"}')",
    )
    .bind(run)
    .execute(engine.pool())
    .await
    .unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, ["first after 1: no"]);
    beside.stop().await;
}

#[tokio::test]
async fn each_failed_send_has_a_handler_of_its_own_that_may_go_on_to_the_join() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("sends", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, [1, 2, 3]))
        })
        .node(EACH, async |cx: Context<Log, u32>| {
            if *cx.input() == 2 {
                return Ok(line("two").into());
            }
            Err(NodeError::permanent(format!("no {}", cx.input())))
        })
        .node(HANDLE, async |cx: Context<Log, NodeFailure>| {
            let input = cx.input().input.as_ref().unwrap().to_string();
            Ok(Next::goto(LAST).and_update(line(format!("handled {input}"))))
        })
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .may_go(HANDLE, LAST)
        .on_error(EACH, HANDLE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, ["two", "handled 1", "handled 3", "last"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_handler_that_fails_pauses_the_run() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("handled", 1)
        .node(FIRST, async |_: Context<Log>| {
            Err(NodeError::permanent("no"))
        })
        .node(HANDLE, async |_: Context<Log, NodeFailure>| {
            Err(NodeError::permanent("nor here"))
        })
        .start(FIRST)
        .default_on_error(HANDLE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(paused.error.unwrap()["node"], "handle");
    beside.stop().await;
}

#[test]
fn a_handler_that_is_no_node_or_handles_itself_is_refused() {
    let none = async |_: Context<Log, NodeFailure>| Ok(Next::none());
    let unknown = Graph::builder("unknown", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .start(FIRST)
        .on_error(FIRST, HANDLE)
        .compile()
        .unwrap_err();
    assert!(unknown.to_string().contains("`handle`"), "{unknown}");
    let own = Graph::builder("own", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .node(HANDLE, none)
        .start(FIRST)
        .on_error(FIRST, HANDLE)
        .on_error(HANDLE, HANDLE)
        .compile()
        .unwrap_err();
    assert_eq!(own.0, [ShapeError::OwnHandler("handle")]);
}

#[test]
fn what_is_said_of_a_node_that_is_not_there_is_refused() {
    const THERE: NodeKey<Log> = NodeKey::new("there");
    const GONE: NodeKey<Log> = NodeKey::new("gone");
    let refused = Graph::builder("unknown", 1)
        .node(THERE, async |_: Context<Log>| Ok(line("there").into()))
        .start(THERE)
        .retry(GONE, RetryPolicy::never())
        .retry_when(GONE, FailureClass::Transient, RetryPolicy::never())
        .time_limit(GONE, TimeLimit::default())
        .fail_fast(GONE)
        .compile()
        .unwrap_err()
        .to_string();
    for place in [
        ".retry(…)",
        ".retry_when(…)",
        ".time_limit(…)",
        ".fail_fast(…)",
    ] {
        assert!(
            refused.contains(&format!(
                "{place} names `gone`, which is not a node of the graph"
            )),
            "{refused}"
        );
    }
}

const TEXT: NodeKey<Log, String> = NodeKey::new("each");

/// As a retry policy of LangGraph goes by the types of exceptions.
#[tokio::test]
async fn errors_of_each_rust_type_have_their_policy() {
    let engine = test_kit::engine().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let graph = Graph::builder("types", 1)
        .node(FIRST, move |_: Context<Log>| {
            let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                if call < 4 {
                    Err(std::io::Error::other("no answer"))?;
                }
                let number: u32 = "many".parse()?;
                Ok(line(number.to_string()).into())
            }
        })
        .default_retry(RetryPolicy::never())
        .retry_when(FIRST, FailureClass::of::<std::io::Error>(), quickly(10))
        .retry_when(
            FIRST,
            FailureClass::of::<std::num::ParseIntError>(),
            quickly(6),
        )
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(calls.load(Ordering::SeqCst), 6);
    let error = paused.error.unwrap();
    assert_eq!(
        error["type"],
        std::any::type_name::<std::num::ParseIntError>()
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_send_may_have_a_time_of_its_own_which_holds_for_each_attempt_and_in_each_worker_and_fork()
 {
    let engine = test_kit::engine().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let graph = Graph::builder("sends", 1)
        .node(FIRST, async |_: Context<Log>| {
            let short = Duration::from_millis(40);
            Ok(Next::send(TEXT, "usual".to_owned()).and_send_within(
                TEXT,
                "short".to_owned(),
                short,
            ))
        })
        .node(TEXT, move |cx: Context<Log, String>| {
            let counted = Arc::clone(&counted);
            async move {
                if cx.input() == "short" && counted.fetch_add(1, Ordering::SeqCst) % 3 < 2 {
                    std::future::pending::<()>().await;
                }
                Ok(line(cx.input().clone()).into())
            }
        })
        // What is said of the node is longer than the test is patient.
        .time_limit(
            TEXT,
            TimeLimit {
                start_to_close: Some(Duration::from_secs(3_600)),
                ..TimeLimit::default()
            },
        )
        .retry(TEXT, quickly(3))
        .start(FIRST)
        .may_go(FIRST, TEXT)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    beside.stop().await;
    let history = engine.history(run, 0, 1).await.unwrap();
    assert_eq!(history[0].next, ["each", "each"]);
    assert_eq!(history[0].within_ms.iter().collect::<Vec<_>>(), [(&1, &40)]);

    let fork = engine.fork(&graph, run, 1).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, fork).await.status, RunStatus::Completed);
    assert_eq!(calls.load(Ordering::SeqCst), 6);
    let lines = engine.state::<Log>(fork).await.unwrap().lines;
    assert_eq!(lines, ["usual", "short"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_send_that_waits_behind_a_deferred_node_or_for_its_siblings_keeps_its_time() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("deferred-sends", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(
                Next::send_within(TEXT, "short".to_owned(), Duration::from_millis(40))
                    .and_goto(BESIDE),
            )
        })
        .node(BESIDE, async |_: Context<Log>| Ok(line("beside").into()))
        .node(TEXT, async |_: Context<Log, String>| {
            std::future::pending::<()>().await;
            Ok(Next::none())
        })
        .deferred(TEXT)
        .retry(TEXT, RetryPolicy::never())
        .start(FIRST)
        .may_go(FIRST, TEXT)
        .may_go(FIRST, BESIDE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let error = paused.error.unwrap();
    assert_eq!(error["node"], "each", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("40ms"),
        "{error}"
    );
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["beside"]);
    beside.stop().await;
}
