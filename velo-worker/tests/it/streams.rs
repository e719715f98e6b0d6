//! Streams: what becomes of a run, once and in order, whoever reads on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use velo_engine::prelude::*;
use velo_engine::{
    Lost, Position, RunStream, Serve, StreamBuilder, StreamItem, StreamMode, Streamed, test_kit,
};
use velo_worker::{DEFAULT_LEASE, WorkerBuilder};

use crate::support::{self, Beside, Log, PATIENCE, line, settled, until, within};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");
const LAST: NodeKey<Log> = NodeKey::new("last");

/// A worker that keeps its leases on a machine that has much else to do.
fn worker(engine: &Engine, graph: impl Serve) -> WorkerBuilder {
    support::worker(engine, graph).lease(DEFAULT_LEASE)
}

/// A graph of one node.
fn single(node: impl Node<Log>) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .start(FIRST)
        .compile()
        .unwrap()
}

/// Two nodes in a row, each of which emits an event.
fn chain() -> Graph<Log> {
    let node = |name: &'static str| {
        move |cx: Context<Log>| async move {
            cx.emit("done", &name)?;
            Ok(line(name).into())
        }
    };
    Graph::builder("chain", 1)
        .node(FIRST, node("first"))
        .node(SECOND, node("second"))
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap()
}

/// Fans out to `tasks`, every seventh of which fails once, and joins.
fn fan(tasks: u32) -> Graph<Log> {
    let each = async |cx: Context<Log, u32>| {
        let number = *cx.input();
        if number.is_multiple_of(7) && cx.attempt() == 1 {
            return Err(NodeError::transient("once"));
        }
        if number.is_multiple_of(5) {
            cx.emit("fifth", &number)?;
        }
        Ok(line(format!("each {number}")).into())
    };
    Graph::builder("fan", 1)
        .node(FIRST, move |_: Context<Log>| async move {
            Ok(Next::send_all(EACH, 0..tasks))
        })
        .node(EACH, each)
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .edge(EACH, LAST)
        .default_retry(RetryPolicy {
            first_delay: Duration::from_millis(1),
            ..RetryPolicy::default()
        })
        .compile()
        .unwrap()
}

async fn all<V>(stream: StreamBuilder<V>) -> Vec<StreamItem<V>> {
    rest(&mut stream.open().await.unwrap()).await
}

async fn rest<V>(stream: &mut RunStream<V>) -> Vec<StreamItem<V>> {
    let mut items = Vec::new();
    within(async {
        while let Some(item) = stream.next().await {
            items.push(item.unwrap());
        }
    })
    .await;
    items
}

async fn next<V>(stream: &mut RunStream<V>) -> StreamItem<V> {
    within(stream.next())
        .await
        .expect("the stream goes on")
        .unwrap()
}

/// An item in a few words.
fn told<V>(item: &StreamItem<V>) -> String {
    let what = match &item.what {
        Streamed::Values { step } | Streamed::ChildValues { step, .. } => format!("values {step}"),
        Streamed::Updates { step, nodes, .. } => format!("updates {step} {}", nodes.join("+")),
        Streamed::Asked { question } => format!("asked {}", question.name),
        Streamed::Message { text, .. } => format!("message {text}"),
        Streamed::Shown { event, .. } => format!("shown {event}"),
        Streamed::Emitted { seq, event, .. } => format!("emitted {event} {seq}"),
        Streamed::Planned {
            step, node, task, ..
        } => format!("planned {step} {node} {task}"),
        Streamed::Finished {
            step, node, task, ..
        } => format!("finished {step} {node} {task}"),
        Streamed::Failed {
            node,
            task,
            attempt,
            ..
        } => format!("failed {node} {task} {attempt}"),
        Streamed::Child { name, .. } => format!("child {name}"),
        Streamed::Checkpoint { step, .. } => format!("checkpoint {step}"),
        Streamed::Gap { of, lost } => format!("gap {of:?} {lost:?}"),
        other => format!("{other:?}"),
    };
    format!("{}{what}", "> ".repeat(item.path.len()))
}

fn list<V>(items: &[StreamItem<V>]) -> Vec<String> {
    items.iter().map(told).collect()
}

fn everything<V>(stream: StreamBuilder<V>) -> StreamBuilder<V> {
    StreamMode::ALL
        .into_iter()
        .fold(stream, StreamBuilder::mode)
}

#[tokio::test]
async fn several_modes_come_in_one_order_and_the_stream_ends_with_the_run() {
    let (engine, graph) = (test_kit::engine().await, chain());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // Opened before anything has run.
    let stream = engine.stream(&graph, run).values().updates().custom();
    let mut stream = stream.open().await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let items = rest(&mut stream).await;
    assert_eq!(
        list(&items),
        [
            "values 0",
            "emitted done 1",
            "updates 1 first",
            "values 1",
            "emitted done 2",
            "updates 2 second",
            "values 2",
        ]
    );
    let lines = |item: &StreamItem<Log>| item.state.as_ref().map(|state| state.lines.len());
    assert_eq!(
        items.iter().filter_map(lines).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    beside.stop().await;
}

#[tokio::test]
async fn whoever_reads_on_from_any_item_sees_all_that_came_after_it_and_nothing_twice() {
    let (engine, graph) = (test_kit::engine().await, fan(40));
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    let whole = all(everything(engine.stream(&graph, run))).await;
    assert!(whole.len() > 3 * 40, "{:?}", list(&whole));
    for (read, item) in whole.iter().enumerate() {
        // As another process does: it has the text of the position alone.
        let position: Position = item.position.to_string().parse().unwrap();
        let after = all(everything(engine.stream(&graph, run)).from(position)).await;
        assert_eq!(
            list(&after),
            list(&whole[read + 1..]),
            "after {}",
            told(item)
        );
    }
    beside.stop().await;
}

#[tokio::test]
async fn readers_that_die_while_the_run_goes_on_miss_nothing_and_see_nothing_twice() {
    let (engine, graph) = (test_kit::engine().await, fan(60));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let mut seen = Vec::new();
    let mut position = Position::START;
    'runs: for lives in 1.. {
        let stream = everything(engine.stream(&graph, run)).from(position.clone());
        let mut stream = stream.open().await.unwrap();
        // Each life is a little longer, and what was read ahead dies with it.
        for _ in 0..lives % 13 + 1 {
            let Some(item) = within(stream.next()).await else {
                break 'runs;
            };
            let item = item.unwrap();
            position = item.position.clone();
            seen.push(told(&item));
        }
    }
    let mut whole = list(&all(everything(engine.stream(&graph, run))).await);
    let steps = |items: &[String]| -> Vec<String> {
        let is_step =
            |item: &&String| item.starts_with("checkpoint") || item.starts_with("emitted");
        items.iter().filter(is_step).cloned().collect()
    };
    let of_one_kind = |items: &[String], kind: &str| -> Vec<String> {
        let items = steps(items).into_iter();
        items.filter(|item| item.starts_with(kind)).collect()
    };
    for kind in ["checkpoint", "emitted"] {
        assert_eq!(of_one_kind(&seen, kind), of_one_kind(&whole, kind));
    }
    seen.sort();
    whole.sort();
    assert_eq!(seen, whole);
    beside.stop().await;
}

#[tokio::test]
async fn a_reader_that_sleeps_holds_nothing_up_and_has_everything_when_it_wakes() {
    let (engine, graph) = (test_kit::engine().await, fan(300));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let mut asleep = everything(engine.stream(&graph, run)).open().await.unwrap();
    next(&mut asleep).await;
    let beside = Beside::start(worker(&engine, graph.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let woken = rest(&mut asleep).await;
    let ended = woken
        .iter()
        .filter(|item| matches!(item.what, Streamed::Finished { .. }));
    // The fan's tasks, the first and the last.
    assert_eq!(ended.count(), 302);
    beside.stop().await;
}

#[tokio::test]
async fn a_thousand_branches_are_told_page_by_page_with_positions_that_stay_short() {
    let (engine, graph) = (test_kit::engine().await, fan(1_000));
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    let items = all(engine.stream(&graph, run).updates().tasks()).await;
    let written = items
        .iter()
        .filter(|item| matches!(item.what, Streamed::Updates { .. }));
    assert_eq!(written.count(), 1_002);
    let longest = items
        .iter()
        .map(|item| item.position.to_string().len())
        .max();
    assert!(longest < Some(4_000), "{longest:?}");
    beside.stop().await;
}

#[tokio::test]
async fn tokens_come_before_the_end_of_their_step_and_live_while_it_is_at_work() {
    let (engine, door) = (test_kit::engine().await, Arc::new(Semaphore::new(0)));
    let graph = single({
        let door = Arc::clone(&door);
        move |cx: Context<Log>| {
            let door = Arc::clone(&door);
            async move {
                cx.say("draft", "one ");
                cx.say("draft", "two ");
                let _ = door.acquire().await;
                cx.say("draft", "three");
                cx.show("half", &1)?;
                Ok(line("said").into())
            }
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let mut stream = engine
        .stream(&graph, run)
        .messages()
        .updates()
        .custom()
        .open()
        .await
        .unwrap();
    let mut text = String::new();
    while text != "one two " {
        let Streamed::Message {
            text: more, start, ..
        } = next(&mut stream).await.what
        else {
            panic!("nothing else is there yet");
        };
        assert_eq!(start, i64::try_from(text.len()).unwrap());
        text += &more;
    }
    door.close();
    let after = list(&rest(&mut stream).await);
    assert_eq!(after, ["message three", "shown half", "updates 1 first"]);
    beside.stop().await;
}

#[tokio::test]
async fn what_a_dead_attempt_has_said_is_told_from_what_the_next_one_says() {
    let (engine, lives) = (test_kit::engine().await, Arc::new(AtomicU32::new(0)));
    let graph = single({
        let lives = Arc::clone(&lives);
        move |cx: Context<Log>| {
            let lives = Arc::clone(&lives);
            async move {
                let life = lives.fetch_add(1, Ordering::SeqCst);
                cx.say("draft", &format!("life {life}"));
                if life == 0 {
                    cx.cancelled().await;
                }
                Ok(line("said").into())
            }
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let mut stream = engine
        .stream(&graph, run)
        .messages()
        .updates()
        .open()
        .await
        .unwrap();
    let first = Beside::start(support::worker(&engine, graph.clone()));
    let Streamed::Message {
        text,
        fence,
        attempt,
        start,
        ..
    } = next(&mut stream).await.what
    else {
        panic!("a message comes first");
    };
    assert_eq!((text.as_str(), attempt, start), ("life 0", 1, 0));
    first.die().await;
    let second = Beside::start(worker(&engine, graph.clone()));
    let Streamed::Message {
        text,
        fence: later,
        attempt,
        start,
        ..
    } = next(&mut stream).await.what
    else {
        panic!("another message follows");
    };
    assert_eq!((text.as_str(), attempt, start), ("life 1", 1, 0));
    assert!(later > fence);
    assert_eq!(list(&rest(&mut stream).await), ["updates 1 first"]);
    second.stop().await;
}

#[tokio::test]
async fn a_reader_that_comes_too_late_for_what_was_said_is_told_how_much_it_missed() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        // Of two names in turn, so that no two are joined.
        for number in 0..1_500 {
            cx.say(if number % 2 == 0 { "even" } else { "odd" }, "x");
        }
        Ok(line("said").into())
    });
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    let items = all(engine.stream(&graph, run).messages().updates()).await;
    let of = |what: &Streamed| match what {
        Streamed::Gap {
            of: Lost::Pieces,
            lost,
        } => lost.unwrap(),
        Streamed::Message { .. } => 1,
        _ => 0,
    };
    assert_eq!(of(&items[0].what), 500, "{}", told(&items[0]));
    assert_eq!(items.iter().map(|item| of(&item.what)).sum::<i64>(), 1_500);
    // What is durable is all there, and the gap is told once to who reads on.
    assert_eq!(told(items.last().unwrap()), "updates 1 first");
    let stream = engine.stream(&graph, run).messages().updates();
    let after = all(stream.from(items[0].position.clone())).await;
    assert_eq!(list(&after), list(&items[1..]));
    assert!(engine.delete(run).await.unwrap());
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from velo.piece) + (select count(*) from velo.piece_head)",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert_eq!(left, 0);
    beside.stop().await;
}

/// B55: in each mode.
#[tokio::test]
async fn a_question_is_seen_by_who_looks_at_values_or_at_updates_alone() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let answer: String = cx.ask("name", &"who?").await?;
        Ok(line(answer).into())
    });
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let both = || engine.stream(&graph, run).values().updates();
    let stuck = all(both().until_stuck()).await;
    let modes: Vec<_> = stuck
        .iter()
        .map(|item| (told(item), item.mode.as_str()))
        .collect();
    let asked = || "asked name".to_owned();
    assert_eq!(
        modes,
        [
            ("values 0".to_owned(), "values"),
            (asked(), "updates"),
            (asked(), "values")
        ]
    );
    let mut after = both().from(stuck[1].position.clone()).open().await.unwrap();
    let Streamed::Asked { question } = next(&mut after).await.what else {
        panic!("the question comes for values too");
    };
    engine.answer(&question, &"Ada").await.unwrap();
    assert_eq!(
        list(&rest(&mut after).await),
        ["updates 1 first", "values 1"]
    );
    beside.stop().await;
}

/// The state of runs below.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    depth: u32,
    text: String,
}

const WORK: NodeKey<Part> = NodeKey::new("work");
const BELOW: NodeKey<Part> = NodeKey::new("below");

/// Three levels below a run; the lowest has two nodes, the second of which waits at the door.
fn nested(door: &Arc<Semaphore>) -> Graph<Log> {
    let door = Arc::clone(door);
    let lowest = Graph::builder("lowest", 1)
        .node(WORK, async |cx: Context<Part>| {
            cx.say("text", "deep");
            cx.emit("deep", &1)?;
            Ok(Part::update().text("begun").into())
        })
        .node(BELOW, move |_: Context<Part>| {
            let door = Arc::clone(&door);
            async move {
                let _ = door.acquire().await;
                Ok(Part::update().text("deep").into())
            }
        })
        .start(WORK)
        .edge(WORK, BELOW)
        .compile()
        .unwrap();
    let level = |name: &str, below: &Graph<Part>| {
        Graph::builder(name, 1)
            .subgraph(
                BELOW,
                below,
                |cx| Part {
                    depth: cx.state().depth + 1,
                    ..Part::default()
                },
                |part| Part::update().text(part.text),
            )
            .start(BELOW)
            .compile()
            .unwrap()
    };
    let upper = level("upper", &level("middle", &lowest));
    Graph::builder("top", 1)
        .subgraph(FIRST, &upper, |_| Part::default(), |part| line(part.text))
        .start(FIRST)
        .compile()
        .unwrap()
}

/// B68: and three levels down.
#[tokio::test]
async fn runs_three_levels_below_are_told_with_their_path_before_they_end() {
    let (engine, door) = (test_kit::engine().await, Arc::new(Semaphore::new(0)));
    let graph = nested(&door);
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let chosen = || {
        engine
            .stream(&graph, run)
            .updates()
            .values()
            .messages()
            .custom()
            .subgraphs()
    };
    let mut stream = chosen().open().await.unwrap();
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("> > > values 1") {
        seen.push(told(&next(&mut stream).await));
    }
    assert!(!engine.run(run).await.unwrap().status.is_terminal());
    door.close();
    let mut last = rest(&mut stream).await;
    seen.extend(list(&last));
    assert_eq!(
        seen,
        [
            "values 0",
            "> values 0",
            "> > values 0",
            "> > > values 0",
            "> > > message deep",
            "> > > emitted deep 1",
            "> > > updates 1 work",
            "> > > values 1",
            "> > > updates 2 below",
            "> > > values 2",
            "> > updates 1 below",
            "> > values 1",
            "> updates 1 below",
            "> values 1",
            "updates 1 first",
            "values 1",
        ]
    );
    let deepest = last.remove(0);
    let path: Vec<_> = deepest
        .path
        .iter()
        .map(|level| level.node.as_str())
        .collect();
    assert_eq!(path, ["first", "below", "below"]);
    // Read once more from each place, by someone who was not there.
    let whole = all(chosen()).await;
    assert_eq!(list(&whole), seen);
    for (read, item) in whole.iter().enumerate() {
        let after = all(chosen().from(item.position.clone())).await;
        assert_eq!(list(&after), seen[read + 1..], "after {}", told(item));
    }
    let json = serde_json::to_value(&whole[7]).unwrap();
    assert_eq!(json["kind"], "child_values", "{json}");
    assert_eq!(json["state"]["text"], "begun", "{json}");
    beside.stop().await;
}

#[tokio::test]
async fn an_untyped_reader_goes_on_from_the_number_of_a_step() {
    let (engine, graph) = (test_kit::engine().await, chain());
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    let stream = || engine.stream_json(run).updates().custom();
    let after = all(stream().from("1".parse().unwrap())).await;
    assert_eq!(list(&after), ["emitted done 2", "updates 2 second"]);
    let refused = stream().values().open().await;
    assert!(refused.is_err(), "its graph is not known");
    let known = all(stream()
        .values()
        .knows(graph.clone())
        .from(Position::after_step(1)))
    .await;
    assert_eq!(
        known.last().unwrap().state.as_ref().unwrap()["lines"][1],
        "second"
    );
    assert!(stream().from(Position::after_step(9)).open().await.is_err());
    assert!(engine.stream_json(RunId::from_i64(7)).open().await.is_err());
    beside.stop().await;
}

#[tokio::test]
async fn a_stream_outlives_an_outage_of_the_readers_connections() {
    let (engine, graph) = (test_kit::engine().await, chain());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let mut stream = engine.stream(&graph, run).updates().open().await.unwrap();
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        .execute(engine.pool())
        .await
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    assert_eq!(
        list(&rest(&mut stream).await),
        ["updates 1 first", "updates 2 second"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_stream_of_a_run_that_waits_stays_open() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let word: String = cx.signal("word").await?;
        Ok(line(word).into())
    });
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let mut stream = engine.stream(&graph, run).updates().open().await.unwrap();
    settled(&engine, run).await;
    until(async || engine.run(run).await.unwrap().status == RunStatus::Waiting).await;
    let nothing = tokio::time::timeout(Duration::from_millis(700), stream.next()).await;
    assert!(nothing.is_err() && PATIENCE > Duration::from_millis(700));
    engine.signal(run, "word", &"said", None).await.unwrap();
    assert_eq!(list(&rest(&mut stream).await), ["updates 1 first"]);
    beside.stop().await;
}
