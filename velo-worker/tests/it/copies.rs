//! Copies of runs and threads, and looking at runs without their code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{Question, RuleError, test_kit};

use crate::support::{Beside, Log, line, settled, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const ASK: NodeKey<Log> = NodeKey::new("ask");

/// A side effect that is counted, then a question, then the end.
fn asking(effects: &Arc<AtomicU32>) -> Graph<Log> {
    let effects = Arc::clone(effects);
    let ask = move |cx: Context<Log>| {
        let effects = Arc::clone(&effects);
        async move {
            let number = cx.step("effect", async |_| {
                Ok::<_, NodeError>(effects.fetch_add(1, Ordering::SeqCst))
            });
            let number = number.await?;
            cx.emit("worked", &number)?;
            let said: String = cx.ask("word", &"say it").await?;
            Ok(line(format!("{number} {said}")).into())
        }
    };
    Graph::builder("asking", 1)
        .node(FIRST, async |_: Context<Log>| Ok(line("first").into()))
        .node(ASK, ask)
        .start(FIRST)
        .edge(FIRST, ASK)
        .compile()
        .unwrap()
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    engine.state::<Log>(run).await.unwrap().lines
}

async fn question(engine: &Engine, run: RunId) -> Question {
    let mut open = engine.questions(Some(run), 10).await.unwrap();
    assert_eq!(open.len(), 1);
    open.remove(0)
}

/// copy_thread/all_checkpoints, copy_thread/metadata, copy_thread/source_unchanged: step by step.
#[tokio::test]
async fn a_copy_has_the_whole_history_and_the_original_stays_as_it_was() {
    let engine = test_kit::engine().await;
    let graph = asking(&Arc::default());
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    let asked = question(&engine, run).await;
    engine.answer(&asked, &"yes").await.unwrap();
    let before = settled(&engine, run).await;
    assert_eq!(before.status, RunStatus::Completed);
    let copy = engine.copy(run, Some("elsewhere")).await.unwrap();
    let found = engine.run(copy).await.unwrap();
    assert_eq!(found.thread.as_deref(), Some("elsewhere"));
    assert_eq!((found.status, found.steps), (before.status, before.steps));
    assert_eq!(
        engine.history(copy, -1, 100).await.unwrap(),
        engine.history(run, -1, 100).await.unwrap()
    );
    assert_eq!(lines(&engine, copy).await, lines(&engine, run).await);
    let bodies = async |run| {
        let events = engine.events(run, 0, 10).await.unwrap();
        events
            .into_iter()
            .map(|event| event.body)
            .collect::<Vec<_>>()
    };
    assert_eq!(bodies(copy).await, bodies(run).await);
    assert_eq!(engine.run(run).await.unwrap(), before);
    assert_eq!(engine.lineage(copy).await.unwrap()[0].run, run);
    // Each can be deleted without the other.
    assert!(engine.delete(run).await.unwrap());
    assert_eq!(lines(&engine, copy).await.len(), 2);
    beside.stop().await;
}

/// copy_thread/pending_writes: with questions.
#[tokio::test]
async fn a_copy_of_a_run_that_waits_has_a_question_of_its_own_and_repeats_no_side_effect() {
    let (engine, effects) = (test_kit::engine().await, Arc::default());
    let graph = asking(&effects);
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine
        .start(&graph, Log::default())
        .thread("a")
        .await
        .unwrap();
    settled(&engine, run).await;
    let copy = engine.copy(run, None).await.unwrap();
    assert_eq!(engine.run(copy).await.unwrap().status, RunStatus::Waiting);
    let asked = question(&engine, copy).await;
    assert_eq!(asked.question, json!("say it"));
    engine.answer(&asked, &"copied").await.unwrap();
    assert_eq!(settled(&engine, copy).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, copy).await, ["first", "0 copied"]);
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Waiting);
    let asked = question(&engine, run).await;
    engine.answer(&asked, &"own").await.unwrap();
    settled(&engine, run).await;
    assert_eq!(lines(&engine, run).await, ["first", "0 own"]);
    assert_eq!(effects.load(Ordering::SeqCst), 1);
    beside.stop().await;
}

#[tokio::test]
async fn a_copy_of_a_run_that_is_under_way_waits_for_somebody_to_resume_it() {
    let engine = test_kit::engine().await;
    let graph = asking(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let copy = engine.copy(run, None).await.unwrap();
    let found = engine.run(copy).await.unwrap();
    assert_eq!(found.status, RunStatus::Paused);
    assert_eq!(found.error.unwrap()["kind"], "copied");
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Active);
    assert!(engine.resume(copy).await.unwrap());
    let beside = Beside::start(worker(&engine, graph));
    for run in [run, copy] {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
        assert_eq!(lines(&engine, run).await, ["first"]);
    }
    beside.stop().await;
}

#[tokio::test]
async fn a_copy_of_a_paused_run_is_paused_for_the_same_reason_with_its_questions_open() {
    let engine = test_kit::engine().await;
    let is_mended = Arc::new(AtomicU32::new(0));
    let mended = Arc::clone(&is_mended);
    let fail = move |_: Context<Log>| {
        let mended = mended.load(Ordering::SeqCst);
        async move {
            match mended {
                0 => Err(NodeError::permanent("broken")),
                _ => Ok(line("mended").into()),
            }
        }
    };
    let ask = async |cx: Context<Log>| {
        let said: String = cx.ask("word", &1).await?;
        Ok(line(said).into())
    };
    let graph = Graph::builder("paused", 1)
        .node(FIRST, fail)
        .node(ASK, ask)
        .start(FIRST)
        .start(ASK)
        .compile()
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let before = settled(&engine, run).await;
    assert_eq!(before.status, RunStatus::Paused);
    let copy = engine.copy(run, None).await.unwrap();
    let found = engine.run(copy).await.unwrap();
    assert_eq!((found.status, found.error), (before.status, before.error));
    let asked = question(&engine, copy).await;
    engine.answer(&asked, &"answered").await.unwrap();
    is_mended.store(1, Ordering::SeqCst);
    assert!(engine.resume(copy).await.unwrap());
    assert_eq!(settled(&engine, copy).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, copy).await, ["answered", "mended"]);
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Paused);
    assert_eq!(engine.questions(Some(run), 10).await.unwrap().len(), 1);
    beside.stop().await;
}

/// copy_thread/namespaces: children.
#[tokio::test]
async fn a_copy_starts_children_of_its_own() {
    let engine = test_kit::engine().await;
    let inner = asking(&Arc::default());
    let child = inner.clone();
    let first = move |cx: Context<Log>| {
        let child = child.clone();
        async move {
            let end: Log = cx.child("inner", &child, Log::default()).await?;
            Ok(line(end.lines.join(" ")).into())
        }
    };
    let graph = Graph::builder("outer", 1)
        .node(FIRST, first)
        .child(&inner)
        .start(FIRST)
        .compile()
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    let copy = engine.copy(run, None).await.unwrap();
    assert_eq!(engine.run(copy).await.unwrap().status, RunStatus::Paused);
    assert_eq!(engine.children(copy, 10).await.unwrap(), []);
    let imported = engine.import(&engine.export(run).await.unwrap()).await;
    for copy in [copy, imported.unwrap()] {
        assert!(engine.resume(copy).await.unwrap());
        settled(&engine, copy).await;
        let asked = question(&engine, copy).await;
        assert_ne!(asked.run, question(&engine, run).await.run);
        engine.answer(&asked, &"copied").await.unwrap();
        assert_eq!(settled(&engine, copy).await.status, RunStatus::Completed);
    }
    beside.stop().await;
}

/// copy_thread/basic, copy_thread/order_and_ids: all of its runs.
#[tokio::test]
async fn a_thread_is_copied_as_a_whole_to_one_that_has_no_runs() {
    let engine = test_kit::engine().await;
    let graph = asking(&Arc::default());
    let beside = Beside::start(worker(&engine, graph.clone()));
    for _ in 0..2 {
        let run = engine
            .start(&graph, Log::default())
            .thread("from")
            .await
            .unwrap();
        settled(&engine, run).await;
        engine.cancel(run).await.unwrap();
        settled(&engine, run).await;
    }
    let live = engine
        .start(&graph, Log::default())
        .thread("from")
        .await
        .unwrap();
    settled(&engine, live).await;
    let copies = engine.copy_thread("from", "to").await.unwrap();
    let mut statuses = Vec::new();
    for copy in &copies {
        let found = engine.run(*copy).await.unwrap();
        assert_eq!(found.thread.as_deref(), Some("to"));
        statuses.push(found.status);
    }
    use RunStatus::{Cancelled, Waiting};
    assert_eq!(statuses, [Cancelled, Cancelled, Waiting]);
    // It is a thread like any other: it has its one live run.
    let busy = engine.start(&graph, Log::default()).thread("to").await;
    assert!(matches!(busy, Err(EngineError::ThreadBusy { run, .. }) if run == copies[2]));
    let again = engine.copy_thread("from", "to").await;
    assert!(
        matches!(again, Err(EngineError::ThreadNotEmpty(_))),
        "{again:?}"
    );
    let busy = engine.copy(live, Some("to")).await;
    assert!(
        matches!(busy, Err(EngineError::ThreadBusy { .. })),
        "{busy:?}"
    );
    beside.stop().await;
}

/// copy_thread/unknown_source: nothing.
#[tokio::test]
async fn what_is_not_there_is_copied_to_nothing() {
    let engine = test_kit::engine().await;
    let graph = asking(&Arc::default());
    let nobody = RunId::from_i64(7);
    let missing = engine.copy(nobody, Some("to")).await;
    assert!(matches!(missing, Err(EngineError::NoRun(run)) if run == nobody));
    assert_eq!(engine.copy_thread("nowhere", "to").await.unwrap(), []);
    let threads: i64 = sqlx::query_scalar("select count(*) from velo.thread")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(threads, 0);
    engine
        .start(&graph, Log::default())
        .thread("to")
        .await
        .unwrap();
}

#[tokio::test]
async fn of_two_copies_to_one_thread_at_once_one_is_there() {
    let engine = test_kit::engine().await;
    let graph = asking(&Arc::default());
    engine
        .start(&graph, Log::default())
        .thread("from")
        .await
        .unwrap();
    let both = tokio::join!(
        engine.copy_thread("from", "to"),
        engine.copy_thread("from", "to")
    );
    let both = [both.0, both.1];
    assert_eq!(
        both.iter().filter(|copied| copied.is_ok()).count(),
        1,
        "{both:?}"
    );
    for refused in both.iter().filter_map(|copied| copied.as_ref().err()) {
        let is_taken = matches!(refused, EngineError::ThreadNotEmpty(_));
        assert!(is_taken || refused.is_transient(), "{refused:?}");
    }
    let runs: i64 = sqlx::query_scalar("select count(*) from velo.run where thread = 'to'")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 1);
}

/// Merged by code that nobody can guess, and large, so that the whole state is stored in between.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    #[state(reduce = add)]
    sum: u64,
    #[state(append)]
    texts: Vec<String>,
}

fn add(sum: &mut u64, more: u64) {
    *sum += more;
}

const LOOP: NodeKey<Sum> = NodeKey::new("loop");
const ROUNDS: u64 = 8;

fn summing() -> Graph<Sum> {
    let node = async |cx: Context<Sum>| {
        let update = Sum::update().sum(1).texts(vec!["x".repeat(6_000)]);
        Ok(match cx.state().sum {
            sum if sum + 1 < ROUNDS => update.goto(LOOP),
            _ => update.goto(LOOP).then(Next::end()),
        })
    };
    Graph::builder("sum", 1)
        .node(LOOP, node)
        .start(LOOP)
        .may_go(LOOP, LOOP)
        .step_limit(ROUNDS)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_fork_without_the_code_goes_on_from_the_very_state_of_the_step() {
    let engine = test_kit::engine().await;
    let graph = summing();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    // It is paused at its step limit.
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    beside.stop().await;
    let snapshots: i64 =
        sqlx::query_scalar("select count(snapshot) from velo.step where run_id = $1")
            .bind(run)
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert!(snapshots > 1);
    for seq in 0..=i32::try_from(ROUNDS).unwrap() {
        let fork = engine.fork_untyped(run, seq, None).await.unwrap();
        let original = engine.checkpoint_at::<Sum>(run, seq).await.unwrap();
        let forked = engine.checkpoint::<Sum>(fork).await.unwrap();
        assert_eq!(forked.state, original.state, "after step {seq}");
        assert_eq!(forked.tasks, original.tasks);
        let line = engine.lineage(fork).await.unwrap();
        assert_eq!((line[0].run, line[0].seq), (run, seq));
    }
    let early = engine.fork_untyped(run, 1, Some("fork")).await.unwrap();
    let busy = engine.fork_untyped(run, 1, Some("fork")).await;
    assert!(matches!(busy, Err(EngineError::ThreadBusy { run, .. }) if run == early));
    let missing = engine.fork_untyped(run, 99, None).await;
    assert!(matches!(missing, Err(EngineError::NoStep { seq: 99, .. })));
    let missing = engine.fork_untyped(RunId::from_i64(7), 0, None).await;
    assert!(matches!(missing, Err(EngineError::NoRun(_))));
    let beside = Beside::start(worker(&engine, graph));
    settled(&engine, early).await;
    let state: Sum = engine.state(early).await.unwrap();
    assert!(state.sum > 1);
    beside.stop().await;
}

#[tokio::test]
async fn the_state_can_be_read_without_its_type_once_a_worker_has_told_its_rules() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("plain", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(line("one").turns(1).into())
        })
        .node(SECOND, async |_: Context<Log>| {
            Ok(Log::update()
                .lines(Overwrite(vec!["two".to_owned()]))
                .into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let last = settled(&engine, run).await.steps;
    beside.stop().await;
    for seq in 0..=last {
        let typed = engine.state_at::<Log>(run, seq).await.unwrap();
        let value = engine.value_at(run, seq).await.unwrap();
        assert_eq!(value, serde_json::to_value(typed).unwrap());
    }
    assert_eq!(engine.value(run).await.unwrap()["lines"], json!(["two"]));
    assert_eq!(
        engine.diff_values(run, 0, last).await.unwrap(),
        engine.diff::<Log>(run, 0, last).await.unwrap()
    );
    let told = engine.outline("plain@1").await.unwrap().unwrap();
    assert_eq!(told, graph.shape().outline());
    assert_eq!(engine.outlines("", 10).await.unwrap(), ["plain@1"]);
    sqlx::query("delete from velo.outline")
        .execute(engine.pool())
        .await
        .unwrap();
    assert!(engine.value_at(run, 0).await.is_ok());
    let Err(EngineError::Unreadable { source, .. }) = engine.value(run).await else {
        panic!("nobody has told the rules");
    };
    let missing = source.downcast_ref::<RuleError>().unwrap();
    assert_eq!(*missing, RuleError::NoOutline("plain@1".to_owned()));
}
