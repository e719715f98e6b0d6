//! Updates and queries: a run is asked from outside, answers once, and only what its graph allows changes it.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{
    GraphBuilder, OPEN_UPDATES_MAX, QueryKey, Refusal, UpdateKey, Updated, test_kit,
};

use crate::proxy::{At, Late, Loss, Proxy};
use crate::support::{Beside, Gate, Log, heard, line, settled, steady, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const ADD: UpdateKey<Log, String, Added> = UpdateKey::new("add");
const GO: UpdateKey<Log, String, ()> = UpdateKey::new("go");
const TURN: UpdateKey<Log, u32, u32> = UpdateKey::new("turn");
const COUNT: QueryKey<Log, u32, usize> = QueryKey::new("count");
const LONG: Duration = Duration::from_secs(3_600);

/// What an accepted update answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Added {
    lines: usize,
}

/// Takes any line but an empty one, and counts how often it was asked.
fn with_handlers(builder: GraphBuilder<Log>, asked: &Arc<AtomicU32>) -> GraphBuilder<Log> {
    let asked = Arc::clone(asked);
    builder
        .on_update(ADD, move |log, text| {
            asked.fetch_add(1, Ordering::SeqCst);
            if text.is_empty() {
                let empty = Refusal::new("a line must not be empty");
                return Err(empty.details(json!({ "lines": log.lines.len() })));
            }
            assert_ne!(text, "panic", "as asked");
            let lines = log.lines.len() + 1;
            Ok((line(text), Added { lines }).into())
        })
        .on_update(GO, |_, word| {
            Ok(Updated::new(line("told to go"), ()).signal("go", &word))
        })
        .on_update(TURN, |log, turns| {
            let turns = log.turns + turns;
            Ok((Log::update().turns(turns), turns).into())
        })
        .on_query(COUNT, |log, more| log.lines.len() + more as usize)
}

/// Waits for a message, twice.
fn waiting(asked: &Arc<AtomicU32>) -> Graph<Log> {
    let node = async |cx: Context<Log>| {
        let word: String = cx.signal("go").await?;
        let seen = cx.state().lines.join("+");
        Ok(line(format!("{word} after {seen}")).into())
    };
    let builder = Graph::builder("waiting", 1)
        .node(FIRST, node)
        .node(SECOND, node)
        .start(FIRST)
        .edge(FIRST, SECOND);
    with_handlers(builder, asked).compile().unwrap()
}

fn single(node: impl Node<Log>) -> GraphBuilder<Log> {
    let builder = Graph::builder("single", 1).node(FIRST, node).start(FIRST);
    with_handlers(builder, &Arc::default())
}

async fn add(engine: &Engine, run: RunId, text: &str, id: &str) -> Result<usize, EngineError> {
    let asked = engine.update(run, ADD, text.to_owned()).id(id);
    let added = within(asked.within(Duration::from_secs(60)).into_future()).await;
    added.map(|added| added.lines)
}

async fn state(engine: &Engine, run: RunId) -> Log {
    engine.state(run).await.unwrap()
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    state(engine, run).await.lines
}

async fn completed(engine: &Engine, run: RunId) -> Vec<String> {
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    lines(engine, run).await
}

async fn signal(engine: &Engine, run: RunId) {
    engine.signal(run, "go", &"went", None).await.unwrap();
}

#[tokio::test]
async fn a_run_that_waits_answers_and_goes_on_waiting_with_the_state_that_was_written() {
    let engine = test_kit::engine().await;
    let asked: Arc<AtomicU32> = Arc::default();
    let graph = waiting(&asked);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    assert_eq!(add(&engine, run, "b", "2").await.unwrap(), 2);
    // The state has it at once; no step was taken for it.
    assert_eq!(lines(&engine, run).await, ["a", "b"]);
    let value = engine.value(run).await.unwrap();
    assert_eq!(value["lines"], json!(["a", "b"]));
    assert_eq!(state_at(&engine, run, 0).await, [""; 0]);
    let waits = settled(&engine, run).await;
    assert_eq!((waits.status, waits.steps), (RunStatus::Waiting, 0));
    signal(&engine, run).await;
    until(async || engine.run(run).await.unwrap().steps == 1).await;
    // And from then on it is part of the step's writes.
    assert_eq!(
        state_at(&engine, run, 1).await,
        ["a", "b", "went after a+b"]
    );
    let history = engine.history(run, 0, 1).await.unwrap();
    assert_eq!(
        history[0].writes,
        json!([
            ["lines", ["a"]],
            ["lines", ["b"]],
            ["lines", ["went after a+b"]]
        ])
    );
    let steps = engine.updates(run, 9).await.unwrap();
    let steps: Vec<_> = steps.iter().map(|it| (it.is_accepted, it.step)).collect();
    assert_eq!(steps, [(Some(true), Some(1)); 2]);
    signal(&engine, run).await;
    let all = completed(&engine, run).await;
    assert_eq!(all[3], "went after a+b+went after a+b");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    beside.stop().await;
}

async fn state_at(engine: &Engine, run: RunId, seq: i32) -> Vec<String> {
    engine.state_at::<Log>(run, seq).await.unwrap().lines
}

#[tokio::test]
async fn a_refused_update_writes_nothing_and_is_refused_again() {
    let engine = test_kit::engine().await;
    let asked: Arc<AtomicU32> = Arc::default();
    let graph = waiting(&asked);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    for _ in 0..2 {
        match add(&engine, run, "", "empty").await {
            Err(EngineError::UpdateRefused { name, refusal, .. }) => {
                assert_eq!(
                    (name.as_str(), refusal.details),
                    ("add", json!({ "lines": 0 }))
                );
                assert_eq!(refusal.reason, "a line must not be empty");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let panicked = add(&engine, run, "panic", "panic").await.unwrap_err();
    assert!(panicked.to_string().contains("as asked"), "{panicked}");
    const NONE: UpdateKey<Log, u32, u32> = UpdateKey::new("none");
    let none = within(engine.update(run, NONE, 1).into_future()).await;
    assert!(none.unwrap_err().to_string().contains("no update `none`"));
    assert_eq!(state(&engine, run).await, Log::default());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let refused = engine.updates(run, 9).await.unwrap();
    assert!(
        refused
            .iter()
            .all(|it| it.is_accepted == Some(false) && it.step.is_none())
    );
    // It takes others as before.
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    beside.stop().await;
}

#[tokio::test]
async fn the_same_id_is_the_same_update_also_when_the_run_has_ended() {
    let engine = test_kit::engine().await;
    let asked: Arc<AtomicU32> = Arc::default();
    let graph = waiting(&asked);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    let at_once = join_all((0..8).map(|_| add(&engine, run, "a", "once"))).await;
    for answer in at_once {
        assert_eq!(answer.unwrap(), 1);
    }
    assert_eq!(lines(&engine, run).await, ["a"]);
    let other = add(&engine, run, "b", "once").await;
    assert!(
        matches!(other, Err(EngineError::UpdateIdTaken { .. })),
        "{other:?}"
    );
    let other = within(engine.update(run, TURN, 1).id("once").into_future()).await;
    assert!(
        matches!(other, Err(EngineError::UpdateIdTaken { .. })),
        "{other:?}"
    );
    for _ in 0..2 {
        signal(&engine, run).await;
    }
    assert_eq!(completed(&engine, run).await.len(), 3);
    assert_eq!(add(&engine, run, "a", "once").await.unwrap(), 1);
    let found = engine.update_answer(run, ADD, "once").await.unwrap();
    assert_eq!(found, Some(Added { lines: 1 }));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let never = engine.update_answer(run, ADD, "never").await;
    assert!(
        matches!(never, Err(EngineError::NoUpdate { .. })),
        "{never:?}"
    );
    let late = add(&engine, run, "late", "late").await;
    assert!(
        matches!(late, Err(EngineError::Ended(ended)) if ended == run),
        "{late:?}"
    );
    let nobody = RunId::random();
    let never = add(&engine, nobody, "x", "x").await;
    assert!(
        matches!(never, Err(EngineError::NoRun(run)) if run == nobody),
        "{never:?}"
    );
    for id in ["", "a\0b", &"x".repeat(501)] {
        let bad = add(&engine, run, "x", id).await;
        assert!(matches!(bad, Err(EngineError::BadUpdateId)), "{bad:?}");
    }
    beside.stop().await;
}

#[tokio::test]
async fn a_paused_run_refuses_and_one_that_nobody_has_answers_when_somebody_does() {
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let hasty = || {
        let asked = engine.update(run, ADD, "a".to_owned()).id("once");
        asked.within(Duration::from_millis(30)).into_future()
    };
    let open = hasty().await.unwrap_err();
    assert!(open.is_transient(), "{open:?}");
    let told = open.to_string();
    assert!(told.contains("no live worker has waiting@1"), "{told}");
    assert_eq!(engine.update_answer(run, ADD, "once").await.unwrap(), None);
    engine.pause(run, "for a look").await.unwrap();
    let paused = add(&engine, run, "b", "paused").await;
    assert!(
        matches!(paused, Err(EngineError::RunPaused(_))),
        "{paused:?}"
    );
    assert_eq!(
        engine.updates(run, 9).await.unwrap().len(),
        1,
        "it is not stored"
    );
    // What was asked for before is open until the run goes on.
    let open = hasty().await.unwrap_err().to_string();
    assert!(open.contains("for a look"), "{open}");
    engine.resume(run).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(add(&engine, run, "a", "once").await.unwrap(), 1);
    assert_eq!(lines(&engine, run).await, ["a"]);
    beside.stop().await;
}

#[tokio::test]
async fn updates_are_answered_in_the_order_in_which_they_were_asked_for_and_no_more_than_the_limit()
{
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // In the caller's transaction: nothing is asked for unless that commits.
    let mut given_up = engine.pool().begin().await.unwrap();
    let asked = engine.update(run, ADD, "never".to_owned());
    asked.in_tx(&mut given_up).await.unwrap();
    given_up.rollback().await.unwrap();
    let mut tx = engine.pool().begin().await.unwrap();
    for number in 0..OPEN_UPDATES_MAX {
        let asked = engine.update(run, ADD, number.to_string());
        let id = asked.id(number.to_string()).in_tx(&mut tx).await.unwrap();
        assert_eq!(id, number.to_string());
    }
    tx.commit().await.unwrap();
    let full = add(&engine, run, "more", "more").await;
    assert!(
        matches!(full, Err(EngineError::TooManyUpdates { .. })),
        "{full:?}"
    );
    let beside = Beside::start(steady(&engine, graph));
    for number in 0..OPEN_UPDATES_MAX {
        let id = number.to_string();
        assert_eq!(add(&engine, run, &id, &id).await.unwrap(), number + 1);
    }
    let wanted: Vec<_> = (0..OPEN_UPDATES_MAX).map(|it| it.to_string()).collect();
    assert_eq!(lines(&engine, run).await, wanted);
    assert_eq!(
        add(&engine, run, "more", "more").await.unwrap(),
        OPEN_UPDATES_MAX + 1
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_field_with_one_writer_a_step_may_be_written_by_updates_and_by_the_step() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let () = cx.signal("on").await?;
        Ok(Log::update().turns(cx.state().turns * 10).into())
    });
    let graph = graph.compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    for (more, sum) in [(1, 1), (2, 3)] {
        let turned = within(engine.update(run, TURN, more).into_future()).await;
        assert_eq!(turned.unwrap(), sum);
    }
    engine.signal(run, "on", &(), None).await.unwrap();
    completed(&engine, run).await;
    assert_eq!(state(&engine, run).await.turns, 30);
    let told = engine.value(run).await.unwrap();
    assert_eq!(told["turns"], json!(30));
    let steps = engine.history(run, 0, 1).await.unwrap();
    assert_eq!(
        steps[0].writes,
        json!([["turns", 1], ["turns", 3], ["turns", 30]])
    );
    let again = engine.fork(&graph, run, 0).await.unwrap();
    assert_eq!(state(&engine, again).await.turns, 0);
    // Who follows the run is told the same.
    let streamed = engine.stream(&graph, run).values().open().await.unwrap();
    let streamed: Vec<_> = within(streamed.collect()).await;
    let last = streamed
        .into_iter()
        .filter_map(|item| item.unwrap().state)
        .last();
    assert_eq!(last.unwrap().turns, 30);
    beside.stop().await;
}

#[tokio::test]
async fn a_message_that_goes_with_an_update_has_the_node_go_on_with_it() {
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    for (id, steps) in [("1", 1), ("1", 1), ("2", 2)] {
        let go = engine.update(run, GO, format!("word {id}")).id(id);
        within(go.into_future()).await.unwrap();
        until(async || engine.run(run).await.unwrap().steps == steps).await;
    }
    let all = completed(&engine, run).await;
    assert_eq!(all[..2], ["told to go", "word 1 after told to go"]);
    assert_eq!(all.len(), 4, "{all:?}");
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_at_work_answers_between_its_steps() {
    let engine = test_kit::engine().await;
    let gate = Gate::default();
    let gated = {
        let gate = gate.clone();
        move |cx: Context<Log>| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(line(format!("saw {}", cx.state().lines.len())).into())
            }
        }
    };
    let builder = Graph::builder("gated", 1)
        .node(FIRST, gated)
        .node(SECOND, async |cx: Context<Log>| {
            Ok(line(format!("saw {}", cx.state().lines.join("+"))).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND);
    let graph = with_handlers(builder, &Arc::default()).compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    within(gate.came.notified()).await;
    let adding = tokio::spawn({
        let engine = engine.clone();
        async move { add(&engine, run, "a", "1").await }
    });
    until(async || !engine.updates(run, 1).await.unwrap().is_empty()).await;
    // The node is not disturbed by what its worker has heard.
    heard(&engine).await;
    assert_eq!(engine.update_answer(run, ADD, "1").await.unwrap(), None);
    gate.open.notify_one();
    assert_eq!(within(adding).await.unwrap().unwrap(), 2);
    assert_eq!(completed(&engine, run).await, ["saw 0", "a", "saw saw 0+a"]);
    beside.stop().await;
}

/// When the run wakes, once it is asleep.
async fn asleep_until(engine: &Engine, run: RunId) -> chrono::DateTime<chrono::Utc> {
    within(async {
        loop {
            let asleep = "select wake_at from velo.queue where run_id = $1";
            let asleep = sqlx::query_scalar::<_, Option<_>>(asleep).bind(run);
            if let Some(until) = asleep.fetch_one(engine.pool()).await.unwrap() {
                return until;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_sleep_goes_on_to_its_time_after_an_update() {
    let engine = test_kit::engine().await;
    let slept: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&slept);
    let graph = single(move |cx: Context<Log>| {
        let slept = Arc::clone(&counted);
        async move {
            cx.sleep("nap", LONG).await?;
            slept.fetch_add(1, Ordering::SeqCst);
            Ok(line("woke").into())
        }
    });
    let graph = graph.compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    let before = asleep_until(&engine, run).await;
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    assert_eq!(asleep_until(&engine, run).await, before);
    assert_eq!(
        (
            lines(&engine, run).await.len(),
            slept.load(Ordering::SeqCst)
        ),
        (1, 0)
    );
    beside.stop().await;
}

#[tokio::test]
async fn what_is_asked_and_what_is_kept_of_the_step_under_way_stays_as_it_is() {
    let engine = test_kit::engine().await;
    let paid: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&paid);
    let graph = single(move |cx: Context<Log>| {
        let paid = Arc::clone(&counted);
        async move {
            let pay = cx.step("pay", async |_| {
                Ok::<_, NodeError>(paid.fetch_add(1, Ordering::SeqCst))
            });
            pay.await?;
            let word: String = cx.ask("word", &"?").await?;
            Ok(line(format!("{word} after {}", cx.state().lines.join("+"))).into())
        }
    });
    let graph = graph.compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    settled(&engine, run).await;
    let question = engine.questions(Some(run), 1).await.unwrap().remove(0);
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    // The question that was asked before is the one that is open.
    let open = engine.questions(Some(run), 9).await.unwrap();
    assert_eq!(open, std::slice::from_ref(&question));
    engine.answer(&question, &"answered").await.unwrap();
    assert_eq!(completed(&engine, run).await, ["a", "answered after a"]);
    assert_eq!(paid.load(Ordering::SeqCst), 1);
    beside.stop().await;
}

#[tokio::test]
async fn an_update_is_answered_while_the_run_waits_for_the_next_attempt_of_a_node() {
    let engine = test_kit::engine().await;
    let tried: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&tried);
    let graph = single(move |cx: Context<Log>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if cx.state().lines.is_empty() {
                return Err(NodeError::transient("nothing is there yet"));
            }
            Ok(line("found something").into())
        }
    });
    let late = RetryPolicy {
        first_delay: LONG,
        ..RetryPolicy::default()
    };
    let graph = graph.retry(FIRST, late).compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    let before = asleep_until(&engine, run).await;
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    // A moment is lost each time that what is left is told in seconds.
    let later = asleep_until(&engine, run).await - before;
    assert!(later.abs() < chrono::TimeDelta::minutes(1), "{later}");
    assert_eq!(tried.load(Ordering::SeqCst), 1);
    // By hand, the next attempt sees the state with the update.
    engine.retry(run).await.unwrap();
    assert_eq!(completed(&engine, run).await, ["a", "found something"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_never_rests_answers_too_and_goes_on_however_many_updates_come() {
    let engine = test_kit::engine().await;
    let builder = Graph::builder("loop", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let turns = cx.state().turns + 1;
            let update = Log::update().turns(turns);
            Ok(if turns < 60 {
                update.goto(FIRST)
            } else {
                update.end()
            })
        })
        .start(FIRST)
        .may_go(FIRST, FIRST);
    let graph = with_handlers(builder, &Arc::default()).compile().unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let asking = (0..4).map(|n| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for i in 0_usize.. {
                match add(&engine, run, "a", &format!("{n}/{i}")).await {
                    Ok(_) => (),
                    Err(EngineError::Ended(_)) => return i,
                    Err(error) => panic!("{error}"),
                }
            }
            unreachable!("the run ends")
        })
    });
    let asking: Vec<_> = asking.collect();
    let beside = Beside::start(steady(&engine, graph));
    let mut accepted = 0;
    for asking in asking {
        accepted += within(asking).await.unwrap();
    }
    // Each that was accepted is there, and nothing else is.
    let state = state(&engine, run).await;
    assert_eq!((state.turns, state.lines.len()), (60, accepted));
    beside.stop().await;
}

#[tokio::test]
async fn accepted_updates_survive_workers_that_die() {
    const UPDATES: usize = 12;
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let mut beside = Beside::start(worker(&engine, graph.clone()));
    for number in 0..UPDATES {
        let id = number.to_string();
        let adding = tokio::spawn({
            let (engine, id) = (engine.clone(), id.clone());
            async move { add(&engine, run, &id, &id).await }
        });
        if number % 3 == 0 {
            until(async || engine.updates(run, 99).await.unwrap().len() > number).await;
            beside.die().await;
            beside = Beside::start(worker(&engine, graph.clone()));
        }
        assert_eq!(within(adding).await.unwrap().unwrap(), number + 1);
        // Asked again, as by somebody who lost the first answer.
        assert_eq!(add(&engine, run, &id, &id).await.unwrap(), number + 1);
    }
    let wanted: Vec<String> = (0..UPDATES).map(|it| it.to_string()).collect();
    assert_eq!(lines(&engine, run).await, wanted);
    beside.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_not_acknowledged_or_never_sent_is_given_once() {
    for loss in [Loss::Answer, Loss::Request, Loss::Late(Late::default())] {
        let engine = test_kit::engine().await;
        let graph = waiting(&Arc::default());
        let run = engine.start(&graph, Log::default()).await.unwrap();
        let proxy = Proxy::before(&engine).await;
        let beside = Beside::start(steady(&proxy.engine, graph.clone()));
        settled(&engine, run).await;
        let sprung = proxy.lose(At::Statement("update.answer"), loss.clone());
        let go = engine.update(run, GO, "now".to_owned()).id("go");
        within(go.into_future()).await.unwrap();
        within(sprung.notified()).await;
        if let Loss::Late(late) = loss {
            within(late.arrive()).await;
        }
        until(async || engine.run(run).await.unwrap().steps == 1).await;
        assert_eq!(
            lines(&engine, run).await,
            ["told to go", "now after told to go"]
        );
        // The message that went with it was sent once: the second node still waits.
        assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
        beside.stop().await;
    }
}

#[tokio::test]
async fn the_step_that_has_an_update_has_it_once_when_its_commit_is_lost() {
    for loss in [Loss::Answer, Loss::Request, Loss::Late(Late::default())] {
        let engine = test_kit::engine().await;
        let graph = waiting(&Arc::default());
        let run = engine.start(&graph, Log::default()).await.unwrap();
        let proxy = Proxy::before(&engine).await;
        let beside = Beside::start(steady(&proxy.engine, graph.clone()));
        assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
        let sprung = proxy.lose(At::CommitAfter("update.use"), loss.clone());
        signal(&engine, run).await;
        within(sprung.notified()).await;
        if let Loss::Late(late) = loss {
            within(late.arrive()).await;
        }
        until(async || engine.run(run).await.unwrap().steps == 1).await;
        assert_eq!(add(&engine, run, "b", "2").await.unwrap(), 3);
        signal(&engine, run).await;
        let all = completed(&engine, run).await;
        assert_eq!(all[..3], ["a", "went after a", "b"]);
        assert_eq!(all.len(), 4, "{all:?}");
        beside.stop().await;
    }
}

/// A commit of before, of a step without the update, that arrives after the update was accepted: the update is not
/// lost, but comes after that step.
#[tokio::test]
async fn an_update_that_a_late_commit_overtakes_is_part_of_the_next_step() {
    let engine = test_kit::engine().await;
    let gate = Gate::default();
    let passing = gate.clone();
    let first = move |cx: Context<Log>| {
        let gate = passing.clone();
        async move {
            gate.pass().await;
            // With an event, so that the step is committed in a transaction of its own.
            cx.emit("first", &())?;
            Ok(line("first").into())
        }
    };
    let builder = Graph::builder("overtaken", 1)
        .node(FIRST, first)
        .node(SECOND, async |cx: Context<Log>| {
            let word: String = cx.signal("go").await?;
            Ok(line(word).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND);
    let graph = with_handlers(builder, &Arc::default()).compile().unwrap();
    let proxy = Proxy::before(&engine).await;
    let late = Late::default();
    let lost = proxy.lose(At::CommitAfter("step.commit"), Loss::Late(late.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&proxy.engine, graph));
    within(gate.came.notified()).await;
    let adding = tokio::spawn({
        let engine = engine.clone();
        async move { add(&engine, run, "a", "1").await }
    });
    until(async || !engine.updates(run, 1).await.unwrap().is_empty()).await;
    gate.open.notify_one();
    within(lost.notified()).await;
    assert_eq!(within(adding).await.unwrap().unwrap(), 1);
    within(gate.came.notified()).await;
    within(late.arrive()).await;
    gate.open.notify_one();
    until(async || engine.run(run).await.unwrap().steps == 1).await;
    assert_eq!(lines(&engine, run).await, ["first", "a"]);
    signal(&engine, run).await;
    assert_eq!(completed(&engine, run).await, ["first", "a", "went"]);
    beside.stop().await;
}

#[tokio::test]
async fn an_edit_keeps_what_updates_have_written() {
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    settled(&engine, run).await;
    until(async || !engine.run(run).await.unwrap().is_leased).await;
    let seq = engine.update_state(&graph, run, line("edited")).await;
    assert_eq!(seq.unwrap(), 1);
    assert_eq!(lines(&engine, run).await, ["a", "edited"]);
    assert_eq!(add(&engine, run, "b", "2").await.unwrap(), 3);
    for _ in 0..2 {
        signal(&engine, run).await;
    }
    assert_eq!(completed(&engine, run).await[..3], ["a", "edited", "b"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_query_reads_what_is_committed_and_changes_nothing_also_of_a_run_that_has_ended() {
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let count = async |more| engine.query(&graph, run, COUNT, more).await.unwrap();
    let before = engine.export(run).await.unwrap();
    assert_eq!(count(5).await, 5);
    assert_eq!(engine.export(run).await.unwrap(), before);
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(add(&engine, run, "a", "1").await.unwrap(), 1);
    assert_eq!(count(5).await, 6);
    for _ in 0..2 {
        signal(&engine, run).await;
    }
    completed(&engine, run).await;
    assert_eq!(count(0).await, 3);
    const SIZE: QueryKey<Log, (), u32> = QueryKey::new("size");
    let unknown = engine.query(&graph, run, SIZE, ()).await;
    assert!(
        matches!(unknown, Err(EngineError::NoQuery { .. })),
        "{unknown:?}"
    );
    const WRONG: QueryKey<Log, String, u32> = QueryKey::new("count");
    let wrong = engine.query(&graph, run, WRONG, "x".to_owned()).await;
    assert!(
        matches!(wrong, Err(EngineError::BadQuery { .. })),
        "{wrong:?}"
    );
    let other = Graph::builder("other", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .start(FIRST)
        .compile()
        .unwrap();
    let other = engine.query(&other, run, COUNT, 0).await;
    assert!(
        matches!(other, Err(EngineError::OtherGraph { .. })),
        "{other:?}"
    );
    beside.stop().await;
}

#[tokio::test]
async fn updates_go_with_a_copy_and_an_export_and_are_deleted_with_their_run() {
    let engine = test_kit::engine().await;
    let graph = waiting(&Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(add(&engine, run, "a", "once").await.unwrap(), 1);
    settled(&engine, run).await;
    until(async || !engine.run(run).await.unwrap().is_leased).await;
    let imported = engine.import(&engine.export(run).await.unwrap()).await;
    let copied = engine.copy(run, None).await;
    for copy in [imported.unwrap(), copied.unwrap()] {
        assert_eq!(lines(&engine, copy).await, ["a"]);
        assert_eq!(add(&engine, copy, "a", "once").await.unwrap(), 1);
    }
    engine.cancel(run).await.unwrap();
    until(async || engine.run(run).await.unwrap().status.is_terminal()).await;
    assert!(engine.delete(run).await.unwrap());
    assert!(engine.updates(run, 1).await.unwrap().is_empty());
    beside.stop().await;
}

#[test]
fn two_handlers_of_one_name_are_refused() {
    let builder = single(async |_: Context<Log>| Ok(Next::none()));
    let doubled = with_handlers(builder, &Arc::default()).compile();
    let told = doubled.unwrap_err().to_string();
    assert!(
        told.contains("two updates or two queries are called `add`"),
        "{told}"
    );
}
