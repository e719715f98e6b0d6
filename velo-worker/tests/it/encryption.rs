//! Payloads that nobody reads without a key.

use std::time::Duration;

use serde_json::json;
use sqlx::AssertSqlSafe;
use velo_engine::codec::{Keyring, SealError};
use velo_engine::prelude::*;
use velo_engine::schedule::{Spec, fire_due};
use velo_engine::{Engine, Reencrypted, RunExport, UpdateKey, Why, test_kit};

use crate::support::{Beside, Log, line, settled, until, worker};

/// What must not be found anywhere.
pub(crate) const MARKER: &str = "plain-as-day";

const OPEN: NodeKey<Log> = NodeKey::new("open");
const EACH: NodeKey<Log, String> = NodeKey::new("each");
const TALK: NodeKey<Log> = NodeKey::new("talk");
const FAIL: NodeKey<Log> = NodeKey::new("fail");
const PART: NodeKey<Log> = NodeKey::new("part");
const NOTE: UpdateKey<Log, String, String> = UpdateKey::new("note");

pub(crate) fn ring(id: &str, byte: u8) -> Keyring {
    Keyring::new(id, &[byte; 32]).unwrap()
}

pub(crate) fn marked(text: &str) -> String {
    format!("{text} {MARKER}")
}

fn single(name: &str, node: impl Node<Log>) -> Graph<Log> {
    Graph::builder(name, 1)
        .node(PART, node)
        .start(PART)
        .compile()
        .unwrap()
}

/// A graph whose run leaves a payload in every column that has any.
pub(crate) fn everything() -> Graph<Log> {
    let child = single("child", async |cx: Context<Log>| {
        Ok(line(cx.state().lines.concat()).into())
    });
    let open = async |cx: Context<Log>| {
        let kept = cx.step("kept", async |_| Ok::<_, NodeError>(marked("kept")));
        let kept: String = kept.await?;
        cx.say("said", &marked("said"));
        cx.show("shown", &marked("shown"))?;
        cx.emit("told", &json!({ "what": marked("told") }))?;
        Ok(Next::send_all(EACH, [marked("one"), marked("two")]).and_update(line(kept)))
    };
    let each = async |cx: Context<Log, String>| {
        if cx.attempt() == 1 {
            return Err(NodeError::transient(marked("failed once")));
        }
        Ok(line(cx.input().clone()).into())
    };
    let begun = child.clone();
    let talk = move |cx: Context<Log>| {
        let begun = begun.clone();
        async move {
            let question = json!({ "text": marked("question") });
            let answer = cx.ask::<String>("answer", &question);
            let answer = answer.schema(json!({ "title": marked("schema") })).await?;
            let word: String = cx.signal("word").await?;
            let state = Log {
                lines: vec![marked("begun")],
                turns: 0,
            };
            let ended = cx.child("child", &begun, state).await?;
            Ok(line([answer, word, ended.lines.concat()].concat()).into())
        }
    };
    let fail = async |_: Context<Log>| Err::<Next<Log>, _>(NodeError::permanent(marked("failed")));
    let again = RetryPolicy {
        first_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Graph::builder("everything", 1)
        .node(OPEN, open)
        .node(EACH, each)
        .node(TALK, talk)
        .node(FAIL, fail)
        .retry(EACH, again)
        .start(OPEN)
        .may_go(OPEN, EACH)
        .edge(EACH, TALK)
        .edge(TALK, FAIL)
        .child(&child)
        .on_update(NOTE, |_, text| {
            if text == marked("bad") {
                return Err(marked("refused").into());
            }
            Ok((line(text.clone()), text).into())
        })
        .compile()
        .unwrap()
}

pub(crate) fn begun() -> Log {
    Log {
        lines: vec![marked("input")],
        turns: 0,
    }
}

/// Runs it to its failure, with all that may come for it from outside on the way.
pub(crate) async fn lived(engine: &Engine) -> RunId {
    let graph = everything();
    let run = engine.start(&graph, begun()).await.unwrap();
    let word = marked("word");
    engine.signal(run, "word", &word, None).await.unwrap();
    let beside = Beside::start(worker(engine, graph.clone()));
    assert_eq!(settled(engine, run).await.status, RunStatus::Waiting);
    let open = async || engine.questions(Some(run), 10).await.unwrap();
    let [wrong] = &open().await[..] else {
        panic!("one question is open")
    };
    assert_eq!(wrong.question["text"], marked("question"));
    engine
        .answer(wrong, &json!([marked("wrong")]))
        .await
        .unwrap();
    until(async || open().await.iter().any(|found| found.refusal.is_some())).await;
    for _ in 0..2 {
        let noted = engine.update(run, NOTE, marked("noted")).id("once").await;
        assert_eq!(noted.unwrap(), marked("noted"));
    }
    let bad = engine.update(run, NOTE, marked("bad")).await.unwrap_err();
    assert!(bad.to_string().contains(&marked("refused")), "{bad}");
    let question = open().await.remove(0);
    assert_eq!(question.schema, Some(json!({ "title": marked("schema") })));
    engine.answer(&question, &marked("answer")).await.unwrap();
    let paused = settled(engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(paused.error.unwrap()["message"], marked("failed"));
    let update = line(marked("edited"));
    engine.update_state(&graph, run, update).await.unwrap();
    beside.stop().await;
    run
}

/// The columns in which the marker is found, as text or as bytes.
pub(crate) async fn found(engine: &Engine) -> Vec<String> {
    let columns = "select c.table_name::text, c.column_name::text
         from information_schema.columns c
         join information_schema.tables t using (table_schema, table_name)
         where c.table_schema = 'velo' and t.table_type = 'BASE TABLE'
         order by 1, 2";
    let columns: Vec<(String, String)> = sqlx::query_as(columns)
        .fetch_all(engine.pool())
        .await
        .unwrap();
    assert!(columns.len() > 80, "{columns:?}");
    let hex: String = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for (table, column) in columns {
        let sql = format!(
            "select exists (select from velo.\"{table}\" t
             where t.\"{column}\"::text like '%{MARKER}%' or t.\"{column}\"::text like '%{hex}%')"
        );
        let is_there: bool = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(engine.pool())
            .await
            .unwrap();
        if is_there {
            found.push(format!("{table}.{column}"));
        }
    }
    // Partitions and their parents show the same rows.
    found.retain(|column| !column.contains("_rest."));
    found
}

/// All that a run may leave; returns what a reader of the tables sees of it.
async fn left_by(engine: &Engine) -> Vec<String> {
    let run = lived(engine).await;
    let graph = everything();
    engine.fork(&graph, run, 1).await.unwrap();
    let other = engine.start(&graph, begun()).await.unwrap();
    engine.terminate(other, &marked("reason")).await.unwrap();
    let every = Spec::every(Duration::from_secs(3600)).unwrap();
    engine
        .schedule(&graph, "hourly", every, begun())
        .create()
        .await
        .unwrap();
    engine.trigger_schedule("hourly").await.unwrap();
    found(engine).await
}

#[tokio::test]
async fn with_a_codec_no_table_shows_what_is_in_any_payload() {
    let engine = test_kit::engine().await;
    let clear = left_by(&engine).await;
    assert_eq!(
        clear,
        [
            "event.body",
            "failure.error",
            "memo.value",
            "outcome.outcome",
            "piece.body",
            "run.error",
            "run_update.answer",
            "run_update.request",
            "run_update.writes",
            "schedule.state",
            "signal.payload",
            "step.control",
            "step.delta",
            "step.snapshot",
            "wait.answer",
            "wait.question",
            "wait.schema"
        ],
        "this test looks where there is nothing to be found"
    );

    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    assert_eq!(left_by(&engine).await, [""; 0]);
    // The very same bytes, read with the key.
    let run = engine
        .runs(&[RunStatus::Paused], None, 10)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(run.error.unwrap()["message"], marked("failed"));
    let history = engine.history(run.id, -1, 100).await.unwrap();
    assert!(history[1].writes.to_string().contains(&marked("kept")));
    let log: Log = engine.state(run.id).await.unwrap();
    assert_eq!(
        log.lines,
        [
            marked("input"),
            marked("kept"),
            marked("one"),
            marked("two"),
            marked("noted"),
            [
                marked("answer"),
                marked("word"),
                marked("begun"),
                marked("begun")
            ]
            .concat(),
            marked("edited"),
        ]
    );
    let events = engine.events(run.id, 0, 10).await.unwrap();
    assert_eq!(events[0].body["what"], marked("told"));
    let why = engine.why(run.id).await.unwrap().to_string();
    assert!(why.contains(&marked("failed")), "{why}");
}

#[tokio::test]
async fn a_schedule_starts_runs_that_read_what_was_sealed_for_it() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let graph = single("scheduled", async |cx: Context<Log>| {
        Ok(line(cx.state().lines.concat()).into())
    });
    let every = Spec::every(Duration::from_secs(3600)).unwrap();
    let setup = engine.schedule(&graph, "hourly", every, begun());
    setup.create().await.unwrap();
    let fire = engine.trigger_schedule("hourly").await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let run = fire.run_id.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert!(fire_due(&engine).await.unwrap().runs.is_empty());
    beside.stop().await;
}

/// One step, then a message, then one more.
pub(crate) fn two_steps() -> Graph<Log> {
    let first = async |_: Context<Log>| Ok(line("first").into());
    let second = async |cx: Context<Log>| {
        let word: String = cx.signal("word").await?;
        Ok(line(word).into())
    };
    Graph::builder("two steps", 1)
        .node(OPEN, first)
        .node(TALK, second)
        .start(OPEN)
        .edge(OPEN, TALK)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_worker_without_the_key_parks_the_run_with_the_reason_and_one_with_it_goes_on() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let graph = two_steps();
    let run = engine.start(&graph, begun()).await.unwrap();
    let strangers = [
        (Engine::connect(engine.pool().clone()), "no codec"),
        (
            Engine::connect(engine.pool().clone()).with_codec(ring("b", 2)),
            "key `a`, which this process does not have",
        ),
        (
            Engine::connect(engine.pool().clone()).with_codec(ring("a", 3)),
            "does not open with the key `a`",
        ),
    ];
    for (stranger, reason) in strangers {
        let beside = Beside::start(worker(&stranger, graph.clone()));
        let paused = settled(&stranger, run).await;
        assert_eq!(paused.status, RunStatus::Paused);
        assert_eq!(paused.error.unwrap()["kind"], "unreadable");
        // Told to everybody, whatever keys they have.
        for teller in [&stranger, &engine] {
            let why = teller.why(run).await.unwrap();
            assert!(matches!(why, Why::Paused { .. }), "{why:?}");
            assert!(why.to_string().contains(reason), "{why}");
        }
        let refused = stranger.state::<Log>(run).await.unwrap_err();
        assert!(matches!(refused, EngineError::Sealed { .. }), "{refused:?}");
        assert!(!refused.is_transient());
        beside.stop().await;
        engine.resume(run).await.unwrap();
    }
    let beside = Beside::start(worker(&engine, graph));
    engine.signal(run, "word", &"word", None).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let log: Log = engine.state(run).await.unwrap();
    assert_eq!(log.lines, [&marked("input"), "first", "word"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_goes_on_while_its_key_is_rotated() {
    let before = test_kit::engine().await.with_codec(ring("old", 1));
    let graph = two_steps();
    let run = before.start(&graph, begun()).await.unwrap();
    let beside = Beside::start(worker(&before, graph.clone()));
    assert_eq!(settled(&before, run).await.status, RunStatus::Waiting);
    before.signal(run, "word", &"word", None).await.unwrap();
    assert_eq!(settled(&before, run).await.status, RunStatus::Completed);
    let fork = before.fork(&graph, run, 1).await.unwrap();
    until(async || before.run(fork).await.unwrap().status == RunStatus::Waiting).await;
    beside.stop().await;

    let both = ring("new", 2).with_old("old", &[1; 32]).unwrap();
    let after = Engine::connect(before.pool().clone()).with_codec(both);
    after.signal(fork, "word", &"later", None).await.unwrap();
    let beside = Beside::start(worker(&after, graph));
    assert_eq!(settled(&after, fork).await.status, RunStatus::Completed);
    let log: Log = after.state(fork).await.unwrap();
    assert_eq!(log.lines, [&marked("input"), "first", "later"]);
    let refused = before.state::<Log>(fork).await.unwrap_err();
    assert!(
        matches!(&refused, EngineError::Sealed { source: SealError::UnknownKey { key }, .. } if key == "new"),
        "{refused:?}"
    );
    beside.stop().await;
}

/// A whole pass, in small calls that go on from the position as text.
pub(crate) async fn pass(engine: &Engine) -> Reencrypted {
    let mut whole = Reencrypted::default();
    loop {
        let next = whole.next.take().map(|next| next.to_string());
        let next = next.map(|next| next.parse().unwrap());
        let part = engine.reencrypt(next, 7).await.unwrap();
        whole.sealed += part.sealed;
        whole.unreadable += part.unreadable;
        whole.changed += part.changed;
        whole.next = part.next;
        if whole.next.is_none() {
            return whole;
        }
    }
}

#[tokio::test]
async fn after_a_pass_nothing_needs_the_old_key_any_more_while_runs_are_at_work() {
    let before = test_kit::engine().await.with_codec(ring("old", 1));
    left_by(&before).await;
    let graph = two_steps();
    let run = before.start(&graph, begun()).await.unwrap();
    let both = ring("new", 2).with_old("old", &[1; 32]).unwrap();
    let rotating = Engine::connect(before.pool().clone()).with_codec(both);
    let beside = Beside::start(worker(&rotating, graph.clone()));
    assert_eq!(settled(&rotating, run).await.status, RunStatus::Waiting);

    let first = pass(&rotating).await;
    assert!(first.sealed > 20 && first.unreadable == 0, "{first:?}");
    assert_eq!(pass(&rotating).await, Reencrypted::default());
    rotating.signal(run, "word", &"word", None).await.unwrap();
    assert_eq!(settled(&rotating, run).await.status, RunStatus::Completed);
    beside.stop().await;

    let after = Engine::connect(before.pool().clone()).with_codec(ring("new", 2));
    for run in after.runs(&RunStatus::ALL, None, 100).await.unwrap() {
        after.state::<Log>(run.id).await.unwrap();
        after.history(run.id, -1, 100).await.unwrap();
        after.events(run.id, 0, 100).await.unwrap();
        let shown = serde_json::to_string(&run).unwrap();
        assert!(!shown.contains("sealed with"), "{shown}");
    }
    after.questions(None, 100).await.unwrap();
    after.trigger_schedule("hourly").await.unwrap();
    // Whoever still has the old key alone can read nothing, and is told so.
    assert!(before.state::<Log>(run).await.is_err());
    let blind = pass(&before).await;
    assert!(blind.sealed == 0 && blind.unreadable > 20, "{blind:?}");
}

#[tokio::test]
async fn what_was_in_the_clear_is_sealed_by_a_pass() {
    let clear = test_kit::engine().await;
    let run = lived(&clear).await;
    let sealing = Engine::connect(clear.pool().clone()).with_codec(ring("a", 1));
    pass(&sealing).await;
    // What nodes say is gone within an hour.
    assert_eq!(found(&sealing).await, ["piece.body"]);
    let log: Log = sealing.state(run).await.unwrap();
    assert_eq!(log.lines[0], marked("input"));
    let refused = clear.reencrypt(None, 10).await.unwrap_err();
    assert!(matches!(refused, EngineError::Sealed { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_pass_that_is_cut_off_in_the_middle_leaves_every_payload_readable() {
    let before = test_kit::engine().await.with_codec(ring("old", 1));
    let run = lived(&before).await;
    let both = ring("new", 2).with_old("old", &[1; 32]).unwrap();
    let rotating = Engine::connect(before.pool().clone()).with_codec(both);
    let mut position = None;
    for _ in 0..3 {
        position = rotating.reencrypt(position, 1).await.unwrap().next;
        // A call whose future is dropped half-way.
        let call = rotating.reencrypt(position.clone(), 100);
        let dropped = tokio::time::timeout(Duration::from_millis(1), call);
        drop(dropped.await);
        let log: Log = rotating.state(run).await.unwrap();
        assert_eq!(log.lines.len(), 7);
    }
    assert_eq!(pass(&rotating).await.unreadable, 0);
    assert_eq!(pass(&rotating).await, Reencrypted::default());
}

#[tokio::test]
async fn a_row_that_was_changed_or_moved_to_another_run_does_not_open() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let graph = two_steps();
    let run = engine.start(&graph, begun()).await.unwrap();
    let other = engine.start(&graph, Log::default()).await.unwrap();
    let spoil = [
        "update velo.step s set snapshot = o.snapshot from velo.step o where s.run_id = $1 and o.run_id = $2",
        "update velo.step s set snapshot = s.control where s.run_id = $1 and $2 <> 0",
        "update velo.step s set snapshot = set_byte(snapshot, 40, get_byte(snapshot, 40) # 1)
         where s.run_id = $1 and $2 <> 0",
    ];
    for sql in spoil {
        let mut tx = engine.pool().begin().await.unwrap();
        let kept: Vec<u8> = sqlx::query_scalar("select snapshot from velo.step where run_id = $1")
            .bind(run)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let changed = sqlx::query(sql).bind(run).bind(other).execute(&mut *tx);
        assert_eq!(changed.await.unwrap().rows_affected(), 1);
        tx.commit().await.unwrap();
        let refused = engine.state::<Log>(run).await.unwrap_err();
        assert!(
            matches!(
                refused,
                EngineError::Sealed {
                    source: SealError::Broken { .. },
                    ..
                }
            ),
            "{refused:?}"
        );
        sqlx::query("update velo.step set snapshot = $2 where run_id = $1")
            .bind(run)
            .bind(kept)
            .execute(engine.pool())
            .await
            .unwrap();
    }
    assert_eq!(engine.state::<Log>(run).await.unwrap(), begun());
}

#[tokio::test]
async fn an_export_stays_sealed_until_it_is_opened_and_is_imported_under_another_key() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let run = lived(&engine).await;
    let export = engine.export(run).await.unwrap();
    let text = serde_json::to_string(&export).unwrap();
    assert!(!text.contains(MARKER));
    let opened = engine.open_export(&export).unwrap();
    assert!(serde_json::to_string(&opened).unwrap().contains(MARKER));

    let both = ring("b", 2).with_old("a", &[1; 32]).unwrap();
    let other = test_kit::engine().await.with_codec(both);
    let imported = other.import(&export).await.unwrap();
    assert_eq!(found(&other).await, [""; 0]);
    let only_new = Engine::connect(other.pool().clone()).with_codec(ring("b", 2));
    assert_eq!(
        only_new.state::<Log>(imported).await.unwrap(),
        engine.state::<Log>(run).await.unwrap()
    );
    assert_eq!(
        only_new.history(imported, -1, 100).await.unwrap(),
        engine.history(run, -1, 100).await.unwrap()
    );
    let again = only_new.open_export(&only_new.export(imported).await.unwrap());
    // Children stay those of the original.
    let asked = |export: &RunExport| -> Vec<_> {
        let waits = export.waits.iter();
        waits
            .filter(|wait| wait["kind"] == "ask")
            .cloned()
            .collect()
    };
    assert_eq!(asked(&again.unwrap()), asked(&opened));

    let stranger = test_kit::engine().await;
    let refused = stranger.import(&export).await.unwrap_err();
    assert!(matches!(refused, EngineError::Sealed { .. }), "{refused:?}");
    assert!(
        stranger
            .runs(&RunStatus::ALL, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_codec_is_given_to_a_database_in_use() {
    let clear = test_kit::engine().await;
    let graph = two_steps();
    let run = clear.start(&graph, begun()).await.unwrap();
    let sealing = Engine::connect(clear.pool().clone()).with_codec(ring("a", 1));
    let beside = Beside::start(worker(&sealing, graph));
    settled(&sealing, run).await;
    sealing.signal(run, "word", &"word", None).await.unwrap();
    assert_eq!(settled(&sealing, run).await.status, RunStatus::Completed);
    let log: Log = sealing.state(run).await.unwrap();
    assert_eq!(log.lines, [&marked("input"), "first", "word"]);
    beside.stop().await;
}
