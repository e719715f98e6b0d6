//! Large values, which are stored once and read wherever they are named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use velo_engine::codec::Keyring;
use velo_engine::limits::Limits;
use velo_engine::prelude::*;
use velo_engine::{Engine, test_kit};

use crate::support::{Beside, settled, steady, until, within};

/// Bytes of a document that is stored apart.
const LARGE: usize = 100_000;

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Paper {
    text: String,
    #[state(append)]
    parts: Vec<String>,
    turns: u32,
}

const FIRST: NodeKey<Paper> = NodeKey::new("first");
const EACH: NodeKey<Paper, String> = NodeKey::new("each");
const LAST: NodeKey<Paper> = NodeKey::new("last");

/// A text that does not get much shorter by being packed.
fn document(seed: u64, bytes: usize) -> String {
    let mut number = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = |_| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        char::from(b'a' + u8::try_from(number % 26).unwrap())
    };
    (0..bytes).map(letter).collect()
}

fn paper(text: &str) -> Paper {
    Paper {
        text: text.to_owned(),
        ..Paper::default()
    }
}

fn single(node: impl Node<Paper>) -> Graph<Paper> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .start(FIRST)
        .compile()
        .unwrap()
}

/// Writes its document again in every step, so often.
fn carrying(steps: u32) -> Graph<Paper> {
    let node = move |cx: Context<Paper>| async move {
        let turns = cx.state().turns + 1;
        let update = Paper::update().text(cx.state().text.clone()).turns(turns);
        Ok(match turns < steps {
            true => update.goto(FIRST),
            false => update.into(),
        })
    };
    Graph::builder("carrying", 1)
        .node(FIRST, node)
        .may_go(FIRST, FIRST)
        .start(FIRST)
        .compile()
        .unwrap()
}

/// Has the document in a kept result, in two sends, in the outcome of one of them, in an update and in a state.
fn everywhere(document: &str) -> Graph<Paper> {
    let document = document.to_owned();
    let first = move |cx: Context<Paper>| {
        let document = document.clone();
        async move {
            let made = cx.step("made", async |_| Ok::<_, NodeError>(document));
            let made: String = made.await?;
            Ok(Next::send_all(EACH, [made.clone(), made]))
        }
    };
    let each = async |cx: Context<Paper, String>| {
        Ok(Paper::update().parts(vec![cx.input().clone()]).into())
    };
    let last = async |cx: Context<Paper>| {
        let text = cx.state().parts.first().cloned().unwrap_or_default();
        let _: String = cx.signal("go").await?;
        Ok(Paper::update().text(text).into())
    };
    Graph::builder("everywhere", 1)
        .node(FIRST, first)
        .node(EACH, each)
        .node(LAST, last)
        .start(FIRST)
        .may_go(FIRST, EACH)
        .edge(EACH, LAST)
        .compile()
        .unwrap()
}

async fn number(engine: &Engine, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

const BLOBS: &str = "select count(*) from velo.blob";
const USES: &str = "select count(*) from velo.blob_use";
/// Bytes of all payloads of runs as they are stored.
const PAYLOADS: &str = "\
select (select coalesce(sum(length(delta) + length(control) + coalesce(length(snapshot), 0)), 0) from velo.step)
     + (select coalesce(sum(length(value)), 0) from velo.memo)
     + (select coalesce(sum(length(outcome)), 0) from velo.outcome)";

/// Runs it until it waits for its signal, and then to its end.
async fn lived(engine: &Engine, graph: &Graph<Paper>) -> RunId {
    let run = engine.start(graph, Paper::default()).await.unwrap();
    let beside = Beside::start(steady(engine, graph.clone()));
    assert_eq!(settled(engine, run).await.status, RunStatus::Waiting);
    engine.signal(run, "go", &"go", None).await.unwrap();
    assert_eq!(settled(engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
    run
}

#[tokio::test]
async fn a_megabyte_that_is_written_in_each_of_many_steps_costs_a_megabyte() {
    let engine = test_kit::engine().await;
    let text = document(1, 1024 * 1024);
    let graph = carrying(24);
    let run = engine.start(&graph, paper(&text)).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
    let state: Paper = engine.state(run).await.unwrap();
    assert!(state.text == text && state.turns == 24);
    assert_eq!(number(&engine, BLOBS).await, 1);
    let payloads = number(&engine, PAYLOADS).await;
    assert!(payloads < 64 * 1024, "{payloads}");
    let disk = number(
        &engine,
        "select sum(pg_total_relation_size(c.oid))::bigint from pg_class c
         where c.relnamespace = 'velo'::regnamespace and c.relkind = 'r'
           and c.relname in ('blob', 'blob_use', 'step_rest')",
    )
    .await;
    assert!(disk < 2 * 1024 * 1024, "{disk}");
}

#[tokio::test]
async fn a_large_value_is_read_wherever_it_is_named_and_stored_once() {
    let engine = test_kit::engine().await;
    let text = document(2, LARGE);
    let graph = everywhere(&text);
    let run = lived(&engine, &graph).await;
    assert_eq!(number(&engine, BLOBS).await, 1);
    assert_eq!(number(&engine, USES).await, 1);
    let payloads = number(&engine, PAYLOADS).await;
    assert!(payloads < 4_000, "{payloads}");

    let state: Paper = engine.state(run).await.unwrap();
    assert!(state.text == text && state.parts == [text.clone(), text.clone()]);
    let before: Paper = engine.state_at(run, 2).await.unwrap();
    assert!(before.text.is_empty() && before.parts.len() == 2);
    assert_eq!(engine.value(run).await.unwrap(), json!(state));
    let history = engine.history(run, -1, 100).await.unwrap();
    assert!(history[3].writes.to_string().contains(&text));
    let diff = engine.diff_values(run, 2, 3).await.unwrap();
    assert!(serde_json::to_string(&diff).unwrap().contains(&text));
    let told = serde_json::to_string(&streamed(&engine, &graph, run).await).unwrap();
    assert!(told.matches(&text).count() >= 3, "{}", told.len());

    let fork = engine.fork(&graph, run, 2).await.unwrap();
    let untyped = engine.fork_untyped(run, 2, None).await.unwrap();
    let copy = engine.copy(run, None).await.unwrap();
    for other in [fork, untyped, copy] {
        let state: Paper = engine.state(other).await.unwrap();
        assert_eq!(state.parts.len(), 2);
    }
    assert_eq!(
        (number(&engine, BLOBS).await, number(&engine, USES).await),
        (1, 4)
    );
    // What another run has named needs nothing of the first.
    assert!(engine.delete(run).await.unwrap());
    let state: Paper = engine.state(copy).await.unwrap();
    assert!(state.text == text);
    assert_eq!(
        (number(&engine, BLOBS).await, number(&engine, USES).await),
        (1, 3)
    );
}

async fn streamed(engine: &Engine, graph: &Graph<Paper>, run: RunId) -> Vec<Value> {
    let stream = engine.stream(graph, run).values().updates().tasks();
    let mut stream = within(stream.open()).await.unwrap();
    let mut items = Vec::new();
    while let Some(item) = within(stream.next()).await {
        items.push(json!(item.unwrap()));
    }
    items
}

#[tokio::test]
async fn a_task_that_runs_again_finds_its_large_result() {
    let engine = test_kit::engine().await;
    let text = document(3, LARGE);
    let kept = text.clone();
    let has_failed = Arc::new(AtomicBool::new(false));
    let first = move |cx: Context<Paper>| {
        let (kept, has_failed) = (kept.clone(), has_failed.clone());
        async move {
            let is_again = has_failed.swap(true, Ordering::SeqCst);
            let made = cx.step("made", async |_| match is_again {
                false => Ok(kept),
                true => Err(NodeError::permanent("it was kept")),
            });
            let made: String = made.await?;
            match is_again {
                false => Err(NodeError::permanent("once")),
                true => Ok(Paper::update().text(made).into()),
            }
        }
    };
    let graph = single(first);
    let run = engine.start(&graph, Paper::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    beside.stop().await;
    // By another worker, which has nothing in memory.
    engine.resume(run).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
    assert!(engine.state::<Paper>(run).await.unwrap().text == text);
}

#[tokio::test]
async fn a_value_goes_with_the_last_run_that_has_named_it() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Paper>| Ok(Next::none()));
    let shared = document(4, LARGE);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = engine.start(&graph, paper(&shared)).await.unwrap();
        engine.terminate(run, "enough").await.unwrap();
        runs.push(run);
    }
    let own = engine
        .start(&graph, paper(&document(5, LARGE)))
        .await
        .unwrap();
    assert_eq!(number(&engine, BLOBS).await, 2);
    for run in &runs[..2] {
        assert!(engine.delete(*run).await.unwrap());
        assert_eq!(number(&engine, BLOBS).await, 2);
    }
    engine.delete(runs[2]).await.unwrap();
    assert_eq!(
        (number(&engine, BLOBS).await, number(&engine, USES).await),
        (1, 1)
    );
    let state: Paper = engine.state(own).await.unwrap();
    assert_eq!(state.text.len(), LARGE);
}

/// A run that has ended and is the only one with the document.
async fn only_owner(engine: &Engine, text: &str) -> (Graph<Paper>, RunId) {
    let graph = single(async |_: Context<Paper>| Ok(Next::none()));
    let run = engine.start(&graph, paper(text)).await.unwrap();
    engine.terminate(run, "enough").await.unwrap();
    (graph, run)
}

/// Waits until somebody waits for a lock.
async fn one_waits(engine: &Engine) {
    until(async || number(engine, "select count(*) from pg_locks where not granted").await > 0)
        .await;
}

#[tokio::test]
async fn a_value_that_is_named_while_its_last_run_is_deleted_stays() {
    let engine = test_kit::engine().await;
    let text = document(6, LARGE);
    let (graph, owner) = only_owner(&engine, &text).await;
    let mut tx = engine.pool().begin().await.unwrap();
    let start = engine.start(&graph, paper(&text));
    let second = start.in_tx(&mut tx).await.unwrap();
    let deleting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.delete(owner).await.unwrap() }
    });
    one_waits(&engine).await;
    tx.commit().await.unwrap();
    assert!(deleting.await.unwrap());
    assert_eq!(number(&engine, BLOBS).await, 1);
    assert!(engine.state::<Paper>(second).await.unwrap().text == text);
}

#[tokio::test]
async fn a_value_that_is_named_after_its_last_run_was_deleted_is_stored_again() {
    let engine = test_kit::engine().await;
    let text = document(7, LARGE);
    let (graph, owner) = only_owner(&engine, &text).await;
    let mut tx = engine.pool().begin().await.unwrap();
    // What a delete does, not committed yet.
    sqlx::query("delete from velo.blob_use where run_id = $1")
        .bind(owner)
        .execute(&mut *tx)
        .await
        .unwrap();
    let starting = tokio::spawn({
        let (engine, graph, text) = (engine.clone(), graph.clone(), text.clone());
        async move { engine.start(&graph, paper(&text)).await.unwrap() }
    });
    one_waits(&engine).await;
    tx.commit().await.unwrap();
    let second = starting.await.unwrap();
    assert!(engine.state::<Paper>(second).await.unwrap().text == text);
    // Unless the start has waited for so long that it took its own with it.
    assert_eq!(number(&engine, BLOBS).await, number(&engine, USES).await);
}

#[tokio::test]
async fn who_writes_a_value_does_not_wait_for_a_transaction_that_stores_the_same() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let text = document(15, LARGE);
    let graph = everywhere(&text);
    let mut tx = engine.pool().begin().await.unwrap();
    let start = engine.start(&graph, paper(&text));
    let waiting = start.in_tx(&mut tx).await.unwrap();
    let run = lived(&engine, &graph).await;
    assert!(engine.state::<Paper>(run).await.unwrap().text == text);
    tx.commit().await.unwrap();
    assert!(engine.state::<Paper>(waiting).await.unwrap().text == text);
    let again = lived(&engine, &graph).await;
    assert!(engine.state::<Paper>(again).await.unwrap().text == text);
    // What was stored with its values is copied and sealed anew as all else.
    let copy = engine.copy(run, None).await.unwrap();
    let both = ring("b", 2).with_old("a", &[1; 32]).unwrap();
    let rotating = Engine::connect(engine.pool().clone()).with_codec(both);
    assert!(pass(&rotating).await > 10);
    assert_eq!(pass(&rotating).await, 0);
    let after = Engine::connect(engine.pool().clone()).with_codec(ring("b", 2));
    for run in [run, waiting, again, copy] {
        after.state::<Paper>(run).await.unwrap();
        after.history(run, -1, 100).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_that_delete_the_last_runs_of_a_value_at_once_the_second_deletes_it() {
    let engine = test_kit::engine().await;
    let text = document(8, LARGE);
    let (graph, one) = only_owner(&engine, &text).await;
    let other = engine.start(&graph, paper(&text)).await.unwrap();
    engine.terminate(other, "enough").await.unwrap();
    let mut tx = engine.pool().begin().await.unwrap();
    sqlx::query("delete from velo.blob_use where run_id = $1")
        .bind(one)
        .execute(&mut *tx)
        .await
        .unwrap();
    let deleting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.delete(other).await.unwrap() }
    });
    one_waits(&engine).await;
    tx.commit().await.unwrap();
    assert!(deleting.await.unwrap());
    assert_eq!(
        (number(&engine, BLOBS).await, number(&engine, USES).await),
        (0, 0)
    );
}

#[tokio::test]
async fn a_start_that_is_rolled_back_leaves_no_value() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Paper>| Ok(Next::none()));
    let mut tx = engine.pool().begin().await.unwrap();
    let start = engine.start(&graph, paper(&document(9, LARGE)));
    start.in_tx(&mut tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(
        (number(&engine, BLOBS).await, number(&engine, USES).await),
        (0, 0)
    );
}

#[tokio::test]
async fn an_export_has_the_large_values_with_it_and_an_import_puts_them_back() {
    let engine = test_kit::engine().await;
    let text = document(10, LARGE);
    let run = lived(&engine, &everywhere(&text)).await;
    let export = engine.export(run).await.unwrap();
    let shown = serde_json::to_value(&export).unwrap();
    assert_eq!(
        shown["steps"][3]["snapshot"].is_null(),
        export.steps[3].snapshot.is_none()
    );
    assert!(
        shown["steps"][3]["delta"]["json"]
            .to_string()
            .contains(&text)
    );

    let other = test_kit::engine().await;
    let imported = other.import(&export).await.unwrap();
    assert_eq!(
        (number(&other, BLOBS).await, number(&other, USES).await),
        (1, 1)
    );
    assert_eq!(
        other.history(imported, -1, 100).await.unwrap(),
        engine.history(run, -1, 100).await.unwrap()
    );
    let again = other.export(imported).await.unwrap();
    assert_eq!(again.steps, export.steps);
}

#[tokio::test]
async fn where_values_are_stored_apart_is_for_the_engine_to_say() {
    let limits = Limits {
        inline: 2_000,
        ..Limits::default()
    };
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Paper>| Ok(Next::none()));
    let text = document(11, 1_998);
    engine.start(&graph, paper(&text)).await.unwrap();
    assert_eq!(number(&engine, BLOBS).await, 0);
    let thrifty = Engine::connect(engine.pool().clone()).with_limits(limits);
    let run = thrifty.start(&graph, paper(&text)).await.unwrap();
    assert_eq!(number(&engine, BLOBS).await, 1);
    // Read by whoever stores otherwise.
    assert!(engine.state::<Paper>(run).await.unwrap().text == text);
    thrifty.start(&graph, paper(&text[1..])).await.unwrap();
    assert_eq!(number(&engine, BLOBS).await, 1);
}

fn ring(id: &str, byte: u8) -> Keyring {
    Keyring::new(id, &[byte; 32]).unwrap()
}

async fn pass(engine: &Engine) -> u64 {
    let (mut position, mut sealed) = (None, 0);
    loop {
        let done = engine.reencrypt(position, 7).await.unwrap();
        assert_eq!((done.unreadable, done.changed), (0, 0));
        sealed += done.sealed;
        position = done.next;
        if position.is_none() {
            return sealed;
        }
    }
}

#[tokio::test]
async fn a_sealed_value_is_stored_once_and_read_with_another_key_after_a_pass() {
    let before = test_kit::engine().await.with_codec(ring("old", 1));
    let text = document(12, LARGE);
    let graph = everywhere(&text);
    let run = lived(&before, &graph).await;
    assert_eq!(
        (number(&before, BLOBS).await, number(&before, USES).await),
        (1, 1)
    );
    let content: Vec<u8> = sqlx::query_scalar("select content from velo.blob")
        .fetch_one(before.pool())
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&content);
    assert!(!shown.contains(&text[..32]) && content.len() > LARGE);

    let both = ring("new", 2).with_old("old", &[1; 32]).unwrap();
    let rotating = Engine::connect(before.pool().clone()).with_codec(both);
    assert!(pass(&rotating).await > 10);
    assert_eq!(pass(&rotating).await, 0);
    let after = Engine::connect(before.pool().clone()).with_codec(ring("new", 2));
    assert!(after.state::<Paper>(run).await.unwrap().text == text);
    assert_eq!(after.history(run, -1, 100).await.unwrap().len(), 4);
    assert!(before.state::<Paper>(run).await.is_err());
    // Under the new key it has another address.
    after.start(&graph, paper(&text)).await.unwrap();
    assert_eq!(number(&after, BLOBS).await, 2);
}

#[tokio::test]
async fn a_value_in_the_place_of_another_does_not_open() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let graph = single(async |_: Context<Paper>| Ok(Next::none()));
    let run = engine
        .start(&graph, paper(&document(13, LARGE)))
        .await
        .unwrap();
    engine
        .start(&graph, paper(&document(14, LARGE)))
        .await
        .unwrap();
    let swap = [
        // The content of another.
        "update velo.blob b set content = (select o.content from velo.blob o where o.address <> b.address)",
        // Naming another.
        "update velo.step s
         set snapshot = overlay(s.snapshot placing substring(o.snapshot from 6 for 32) from 6 for 32)
         from velo.step o where o.run_id <> s.run_id",
    ];
    for sql in swap {
        let mut tx = engine.pool().begin().await.unwrap();
        assert_eq!(
            sqlx::query(sql)
                .execute(&mut *tx)
                .await
                .unwrap()
                .rows_affected(),
            2
        );
        tx.commit().await.unwrap();
        let refused = engine.state::<Paper>(run).await.unwrap_err();
        assert!(matches!(refused, EngineError::Sealed { .. }), "{refused:?}");
        // Twice is as it was.
        sqlx::query(sql).execute(engine.pool()).await.unwrap();
        engine.state::<Paper>(run).await.unwrap();
    }
}
