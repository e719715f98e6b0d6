//! Where a run of others was lost or done twice: what becomes of it here. Processes are really killed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::FutureExt;
use sqlx::PgPool;
use velo_engine::prelude::*;
use velo_engine::{EngineError, test_kit};
use velo_worker::Worker;

use super::support::{Sum, asked, line, lines, said, serve, serve_briefly};
use crate::support::until;

/// In the environment of another process: what it shall do, and on which database.
const TASK: &str = "VELO_TEST_TASK";
const DATABASE: &str = "VELO_TEST_DATABASE";

const A: NodeKey<Sum> = NodeKey::new("a");
const B: NodeKey<Sum> = NodeKey::new("b");

async fn did(cx: &Context<Sum>, what: &'static str) -> Result<(), NodeError> {
    let pool = cx.resource::<PgPool>()?;
    sqlx::query("insert into done values ($1)")
        .bind(what)
        .execute(&*pool)
        .await?;
    Ok(())
}

/// Two nodes that do something outside; the second one, in its first process, then stays at work for
/// ever.
fn graph() -> Graph<Sum> {
    Graph::builder("killed", 1)
        .node(A, async |cx: Context<Sum>| {
            did(&cx, "a").await?;
            Ok(line("a"))
        })
        .node(B, async |cx: Context<Sum>| {
            cx.step("b", async |_| did(&cx, "b").await).await?;
            if std::env::var_os(TASK).is_some() {
                did(&cx, "is at work").await?;
                std::future::pending::<()>().await;
            }
            Ok(line("b"))
        })
        .start(A)
        .edge(A, B)
        .compile()
        .unwrap()
}

fn worker(engine: &Engine) -> velo_worker::WorkerBuilder {
    Worker::builder(engine.clone())
        .serve(graph())
        .resource(engine.pool().clone())
        .lease(Duration::from_secs(2))
}

/// Not a test by itself: the process that other tests start and kill.
#[tokio::test]
async fn another_process() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let pool = PgPool::connect(&std::env::var(DATABASE).unwrap()).await;
    let engine = Engine::connect(pool.unwrap());
    match task.as_str() {
        "work" => drop(worker(&engine).run(std::future::pending()).await.unwrap()),
        "start" => {
            engine.start(&graph(), Sum::default()).await.unwrap();
            // As `kill -9` would, in the moment after the start was accepted.
            std::process::abort();
        }
        other => panic!("no such task: {other}"),
    }
}

fn other_process(task: &str, url: &str) -> Child {
    let own = std::env::current_exe().unwrap();
    Command::new(own)
        .args(["behaviours::experiments::another_process", "--exact"])
        .env(TASK, task)
        .env(DATABASE, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A new database for this process and others.
async fn database() -> (Engine, String) {
    let url = test_kit::database_url().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let engine = Engine::migrate_and_connect(pool).await.unwrap();
    sqlx::query("create table done (what text not null, at timestamptz default clock_timestamp())")
        .execute(engine.pool())
        .await
        .unwrap();
    (engine, url)
}

async fn done(engine: &Engine) -> String {
    let done = "select coalesce(string_agg(what, ',' order by at), '') from done";
    sqlx::query_scalar(done)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

/// E3: the process of a node is killed with `kill -9`: another one goes on by itself, and what the node has
/// kept is not done again.
/// E4: nor is a node that has finished, whatever else was under way.
#[tokio::test]
async fn a_process_that_is_killed_inside_a_node_repeats_neither_finished_nodes_nor_kept_results() {
    let (engine, url) = database().await;
    let run = engine.start(&graph(), Sum::default()).await.unwrap();
    let mut doomed = other_process("work", &url);
    until(async || done(&engine).await == "a,b,is at work").await;
    doomed.kill().unwrap();
    doomed.wait().unwrap();

    let heir = crate::support::Beside::start(worker(&engine));
    assert_eq!(lines(&engine, run).await, ["a", "b"]);
    assert_eq!(done(&engine).await, "a,b,is at work", "each once");
    heir.stop().await;
}

/// E5: a run whose process is killed right after its start was accepted is there for any worker.
#[tokio::test]
async fn a_run_that_was_accepted_is_not_lost_with_the_process_that_started_it() {
    let (engine, url) = database().await;
    let mut starter = other_process("start", &url);
    assert!(!starter.wait().unwrap().success(), "it was killed");
    let runs = engine.unfinished(None, 10).await.unwrap();
    assert_eq!(runs.len(), 1);
    let heir = crate::support::Beside::start(worker(&engine));
    assert_eq!(lines(&engine, runs[0].id).await, ["a", "b"]);
    heir.stop().await;
}

/// E6: neither what catches errors nor what catches panics around a question gets anything to catch.
#[tokio::test]
async fn a_question_cannot_be_swallowed_by_the_node_that_asks_it() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("swallowing", 1)
        .node(A, async |cx: Context<Sum>| {
            let ask = cx.ask::<String>("name", &"who?").into_future();
            let caught = std::panic::AssertUnwindSafe(ask).catch_unwind().await;
            Ok(line(match caught {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => format!("swallowed an error: {error}"),
                Err(_) => "swallowed a panic".to_owned(),
            }))
        })
        .start(A)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    let question = asked(&engine, run).await;
    engine.answer(&question, &"Ada").await.unwrap();
    assert_eq!(lines(&engine, run).await, ["Ada"]);
    beside.stop().await;
}

/// E7: an answer to an earlier question is none to a later one, though both have one name.
#[tokio::test]
async fn an_answer_to_an_earlier_question_is_refused_when_a_later_one_is_open() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("twice", 1)
        .node(A, async |cx: Context<Sum>| {
            let answer: String = cx.ask("name", &"who?").await?;
            let told = said(answer);
            Ok(match cx.state().lines.len() {
                0 => told.goto(A),
                _ => told.end(),
            })
        })
        .start(A)
        .may_go(A, A)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve_briefly(&engine, graph);
    let first = asked(&engine, run).await;
    engine.answer(&first, &"A").await.unwrap();
    until(async || engine.state::<Sum>(run).await.unwrap().lines.len() == 1).await;
    let second = asked(&engine, run).await;
    let stale = engine.answer(&first, &"dup").await;
    assert!(
        matches!(stale, Err(EngineError::NotOpen { .. })),
        "{stale:?}"
    );
    engine.answer(&second, &"B").await.unwrap();
    assert_eq!(lines(&engine, run).await, ["A", "B"]);
    beside.stop().await;
}
