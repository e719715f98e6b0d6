//! Runs that nodes of other runs start: once, whatever crashes, and never left behind.

use std::sync::Arc;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use velo_engine::prelude::*;
use velo_engine::{ChildEnd, ChildRun, OnClose, Why, test_kit};

use crate::proxy::{At, Late, Loss, Proxy};
use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const PART: NodeKey<Log> = NodeKey::new("part");
const LAST: NodeKey<Log> = NodeKey::new("last");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");
const WORK: NodeKey<Part> = NodeKey::new("work");

/// The state of children.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    number: u32,
    result: String,
}

/// Holds nodes until it is opened, and lets all pass from then on.
#[derive(Debug, Clone)]
struct Door(Arc<Semaphore>);

impl Door {
    fn shut() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn open(&self) {
        self.0.close();
    }

    async fn pass(&self) {
        assert!(self.0.acquire().await.is_err(), "it has no permits");
    }
}

fn part(node: impl Node<Part>) -> Graph<Part> {
    Graph::builder("part", 1)
        .node(WORK, node)
        .start(WORK)
        .compile()
        .unwrap()
}

async fn double(cx: Context<Part>) -> NodeResult<Part> {
    let doubled = cx.state().number * 2;
    Ok(Part::update().result(doubled.to_string()).into())
}

/// Children that end when the door is open.
fn behind(door: &Door) -> Graph<Part> {
    let door = door.clone();
    part(move |cx: Context<Part>| {
        let door = door.clone();
        async move {
            door.pass().await;
            double(cx).await
        }
    })
}

/// Children that ask before they end.
fn asking() -> Graph<Part> {
    part(async |cx: Context<Part>| {
        let result: String = cx.ask("result", &"what comes out?").await?;
        Ok(Part::update().result(result).into())
    })
}

fn numbered(number: u32) -> Part {
    Part {
        number,
        ..Part::default()
    }
}

fn single(name: &str, child: &Graph<Part>, node: impl Node<Log>) -> Graph<Log> {
    Graph::builder(name, 1)
        .node(FIRST, node)
        .start(FIRST)
        .child(child)
        .compile()
        .unwrap()
}

/// A graph whose only node awaits one child.
fn awaiting(child: &Graph<Part>) -> Graph<Log> {
    let graph = child.clone();
    single("awaiting", child, move |cx: Context<Log>| {
        let graph = graph.clone();
        async move {
            let part = cx.child("part", &graph, numbered(21)).await?;
            Ok(line(part.result).into())
        }
    })
}

async fn children(engine: &Engine, run: RunId) -> Vec<ChildRun> {
    engine.children(run, 100).await.unwrap()
}

/// The run's only child, once it is there.
async fn only_child(engine: &Engine, run: RunId) -> ChildRun {
    until(async || !children(engine, run).await.is_empty()).await;
    let children = children(engine, run).await;
    assert_eq!(children.len(), 1, "{children:?}");
    children[0].clone()
}

async fn until_status(engine: &Engine, run: RunId, status: RunStatus) {
    until(async || engine.run(run).await.unwrap().status == status).await;
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    let settled = settled(engine, run).await;
    assert_eq!(settled.status, RunStatus::Completed, "{:?}", settled.error);
    engine.state::<Log>(run).await.unwrap().lines
}

#[tokio::test]
async fn a_node_waits_for_a_child_without_a_worker_and_gets_the_state_that_it_ended_with() {
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let graph = awaiting(&behind(&door));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until_status(&engine, run, RunStatus::Waiting).await;
    assert!(!engine.run(run).await.unwrap().is_leased);
    let child = only_child(&engine, run).await;
    assert_eq!(
        (
            child.node.as_str(),
            child.name.as_str(),
            child.graph.as_str()
        ),
        ("first", "part", "part@1")
    );
    let why = engine.why(run).await.unwrap();
    assert!(
        matches!(&why, Why::AwaitingChildren { children, .. } if children[0].run == child.run),
        "{why:?}"
    );
    door.open();
    assert_eq!(lines(&engine, run).await, ["42"]);
    let children = children(&engine, run).await;
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].status, RunStatus::Completed);
    beside.stop().await;
}

#[tokio::test]
async fn each_task_of_a_fan_out_has_its_own_child() {
    let engine = test_kit::engine().await;
    let child = part(double);
    let graph = {
        let child = child.clone();
        Graph::builder("fan", 1)
            .child(&child)
            .node(FIRST, async |_: Context<Log>| {
                Ok(Next::send_all(EACH, 0..20))
            })
            .node(EACH, move |cx: Context<Log, u32>| {
                let child = child.clone();
                async move {
                    let part = cx.child("part", &child, numbered(*cx.input())).await?;
                    Ok(line(part.result).into())
                }
            })
            .start(FIRST)
            .may_go(FIRST, EACH)
            .compile()
            .unwrap()
    };
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let both = [
        Beside::start(worker(&engine, graph.clone())),
        Beside::start(worker(&engine, graph)),
    ];
    let expected: Vec<String> = (0..20).map(|number| (number * 2).to_string()).collect();
    assert_eq!(lines(&engine, run).await, expected);
    assert_eq!(children(&engine, run).await.len(), 20);
    for one in both {
        one.stop().await;
    }
}

#[tokio::test]
async fn children_of_one_node_that_end_in_any_order_are_all_seen() {
    const RUNS: u32 = 10;
    const CHILDREN: u32 = 8;
    let engine = test_kit::engine().await;
    let child = part(double);
    let graph = single("many", &child.clone(), move |cx: Context<Log>| {
        let child = child.clone();
        async move {
            let parts = (0..CHILDREN).map(|number| {
                cx.child(format!("part {number}"), &child, numbered(number))
                    .into_future()
            });
            let parts: Result<Vec<_>, _> = join_all(parts).await.into_iter().collect();
            let parts: Vec<String> = parts?.into_iter().map(|part| part.result).collect();
            Ok(line(parts.join(" ")).into())
        }
    });
    let both = [
        Beside::start(worker(&engine, graph.clone())),
        Beside::start(worker(&engine, graph.clone())),
    ];
    let runs = (0..RUNS).map(async |_| engine.start(&graph, Log::default()).await.unwrap());
    for run in join_all(runs).await {
        assert_eq!(lines(&engine, run).await, ["0 2 4 6 8 10 12 14"]);
    }
    for one in both {
        one.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_before_its_node_was_parked_leaves_one_child_to_the_next() {
    let engine = test_kit::engine().await;
    let (door, before) = (Door::shut(), Door::shut());
    let child = behind(&door);
    let graph = single("doomed", &child.clone(), {
        let before = before.clone();
        move |cx: Context<Log>| {
            let (child, before) = (child.clone(), before.clone());
            async move {
                let part = cx.child("part", &child, numbered(21)).into_future();
                let (part, ()) = tokio::join!(part, before.pass());
                Ok(line(part?.result).into())
            }
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let doomed = Beside::start(worker(&engine, graph.clone()));
    let child = only_child(&engine, run).await;
    until(async || engine.run(child.run).await.unwrap().is_leased).await;
    doomed.die().await;
    let heir = Beside::start(worker(&engine, graph));
    before.open();
    until_status(&engine, run, RunStatus::Waiting).await;
    door.open();
    assert_eq!(lines(&engine, run).await, ["42"]);
    assert_eq!(only_child(&engine, run).await.run, child.run);
    heir.stop().await;
}

#[tokio::test]
async fn a_child_that_ends_before_its_parent_is_parked_is_not_missed() {
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let child = part(double);
    let graph = single("late", &child.clone(), {
        let door = door.clone();
        move |cx: Context<Log>| {
            let (child, door) = (child.clone(), door.clone());
            async move {
                let part = cx.child("part", &child, numbered(21)).into_future();
                let (part, ()) = tokio::join!(part, door.pass());
                Ok(line(part?.result).into())
            }
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let child = only_child(&engine, run).await;
    until_status(&engine, child.run, RunStatus::Completed).await;
    door.open();
    assert_eq!(lines(&engine, run).await, ["42"]);
    beside.stop().await;
}

#[tokio::test]
async fn an_end_whose_worker_died_before_telling_anybody_is_told_by_the_next_one() {
    let engine = test_kit::engine().await;
    let graph = awaiting(&asking());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let child = only_child(&engine, run).await.run;
    beside.stop().await;
    // All that a worker that ends a cancelled run has done when it dies.
    sqlx::query(
        "with gone as (delete from velo.queue where run_id = $1 returning run_id)
         update velo.run set status = 'cancelled', finished_at = clock_timestamp()
         from gone where id = gone.run_id",
    )
    .bind(child)
    .execute(engine.pool())
    .await
    .unwrap();
    let why = engine.why(run).await.unwrap().to_string();
    assert!(why.contains("which is cancelled"), "{why}");
    let beside = Beside::start(worker(&engine, graph));
    until_status(&engine, run, RunStatus::Paused).await;
    let left: i64 = sqlx::query_scalar("select count(*) from velo.ending")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_cancels_the_child_that_it_waits_for() {
    let engine = test_kit::engine().await;
    let graph = awaiting(&asking());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let child = only_child(&engine, run).await.run;
    assert!(engine.cancel(run).await.unwrap());
    until_status(&engine, child, RunStatus::Cancelled).await;
    assert_eq!(settled(&engine, run).await.status, RunStatus::Cancelled);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_both_are_at_work_cancels_its_child() {
    let engine = test_kit::engine().await;
    let never = Door::shut();
    let child = behind(&never);
    let graph = single("busy", &child.clone(), move |cx: Context<Log>| {
        let (child, never) = (child.clone(), never.clone());
        async move {
            let part = cx.child("part", &child, numbered(1)).into_future();
            let _ = tokio::join!(part, async {
                tokio::select! { () = never.pass() => (), () = cx.cancelled() => () }
            });
            Ok(Next::none())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let child = only_child(&engine, run).await.run;
    until(async || engine.run(child).await.unwrap().is_leased).await;
    assert!(engine.cancel(run).await.unwrap());
    until_status(&engine, run, RunStatus::Cancelled).await;
    until_status(&engine, child, RunStatus::Cancelled).await;
    beside.stop().await;
}

#[tokio::test]
async fn an_abandoned_child_lives_on_when_its_parent_is_cancelled() {
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let child = behind(&door);
    let graph = single("abandoning", &child.clone(), move |cx: Context<Log>| {
        let child = child.clone();
        async move {
            let part = cx.child("part", &child, numbered(21));
            let part = part.on_close(OnClose::Abandon).await?;
            Ok(line(part.result).into())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until_status(&engine, run, RunStatus::Waiting).await;
    let child = only_child(&engine, run).await.run;
    assert!(engine.cancel(run).await.unwrap());
    until_status(&engine, run, RunStatus::Cancelled).await;
    door.open();
    until_status(&engine, child, RunStatus::Completed).await;
    assert_eq!(engine.state::<Part>(child).await.unwrap().result, "42");
    beside.stop().await;
}

#[tokio::test]
async fn a_detached_child_outlives_its_parent_unless_it_was_to_end_with_it() {
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let child = behind(&door);
    let graph = single("detaching", &child.clone(), move |cx: Context<Log>| {
        let child = child.clone();
        async move {
            let free = cx.child("free", &child, numbered(1)).detached().await?;
            let bound = cx.child("bound", &child, numbered(2));
            bound.on_close(OnClose::Cancel).detached().await?;
            Ok(line(free.to_string()).into())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let lines = lines(&engine, run).await;
    let children = children(&engine, run).await;
    let [bound, free] = &children[..] else {
        panic!("{children:?}");
    };
    assert_eq!(lines, [free.run.to_string()]);
    until_status(&engine, bound.run, RunStatus::Cancelled).await;
    door.open();
    until_status(&engine, free.run, RunStatus::Completed).await;
    beside.stop().await;
}

#[tokio::test]
async fn a_cancelled_child_is_an_error_of_its_parents_node_or_a_value_where_that_asks_for_it() {
    let engine = test_kit::engine().await;
    let child = asking();
    let graph = awaiting(&child);
    let dealing = single("dealing", &child.clone(), move |cx: Context<Log>| {
        let child = child.clone();
        async move {
            Ok(match cx.child("part", &child, numbered(1)).end().await? {
                ChildEnd::Completed(part) => line(part.result),
                ChildEnd::Cancelled(run) => line(format!("{run} was cancelled")),
            }
            .into())
        }
    });
    let failing = engine.start(&graph, Log::default()).await.unwrap();
    let passing = engine.start(&dealing, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph).serve(dealing));
    for run in [failing, passing] {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
        let child = only_child(&engine, run).await.run;
        assert!(engine.cancel(child).await.unwrap());
    }
    until_status(&engine, failing, RunStatus::Paused).await;
    let error = engine.run(failing).await.unwrap().error.unwrap();
    assert_eq!(
        (&error["kind"], &error["node"]),
        (&"permanent".into(), &"first".into())
    );
    assert!(error["message"].to_string().contains("was cancelled"));
    let child = only_child(&engine, passing).await.run;
    assert_eq!(
        lines(&engine, passing).await,
        [format!("{child} was cancelled")]
    );
    beside.stop().await;
}

/// `depth` graphs, each of which awaits a run of the next; the last one asks.
fn nested(depth: u32) -> Graph<Part> {
    let name = format!("level{depth}");
    let builder = Graph::builder(name, 1).start(WORK);
    if depth == 0 {
        return builder
            .node(WORK, async |cx: Context<Part>| {
                let answer: String = cx.ask("word", &"which?").await?;
                Ok(Part::update().result(answer).into())
            })
            .compile()
            .unwrap();
    }
    let below = nested(depth - 1);
    builder
        .child(&below)
        .node(WORK, move |cx: Context<Part>| {
            let below = below.clone();
            async move {
                let part = cx.child("below", &below, Part::default()).await?;
                Ok(Part::update().result(format!("({})", part.result)).into())
            }
        })
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_question_four_levels_down_is_found_and_answered_from_the_top() {
    let engine = test_kit::engine().await;
    let graph = nested(4);
    let run = engine.start(&graph, Part::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let questions = engine.questions(Some(run), 10).await.unwrap();
    assert_eq!(questions.len(), 1, "{questions:?}");
    let path = engine.path(questions[0].run).await.unwrap();
    let graphs: Vec<&str> = path.iter().map(|part| part.graph.as_str()).collect();
    assert_eq!(graphs, ["level3@1", "level2@1", "level1@1", "level0@1"]);
    assert_eq!(path[0].parent, run);
    assert!(engine.path(run).await.unwrap().is_empty());
    engine.answer(&questions[0], &"deep").await.unwrap();
    until_status(&engine, run, RunStatus::Completed).await;
    assert_eq!(
        engine.state::<Part>(run).await.unwrap().result,
        "((((deep))))"
    );
    beside.stop().await;
}

#[tokio::test]
async fn cancelling_the_top_cancels_all_levels() {
    let engine = test_kit::engine().await;
    let graph = nested(4);
    let run = engine.start(&graph, Part::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let bottom = engine.questions(Some(run), 10).await.unwrap()[0].run;
    assert!(engine.cancel(run).await.unwrap());
    until_status(&engine, bottom, RunStatus::Cancelled).await;
    until(async || engine.unfinished(None, 10).await.unwrap().is_empty()).await;
    beside.stop().await;
}

#[tokio::test]
async fn a_parent_whose_child_nobody_can_run_or_that_is_paused_says_so() {
    let engine = test_kit::engine().await;
    let child = part(async |cx: Context<Part>| {
        if cx.is_resumed() {
            return Ok(Part::update().result("mended").into());
        }
        Err(NodeError::permanent("out of paper"))
    });
    let undeclared = {
        let child = child.clone();
        Graph::builder("undeclared", 1)
            .node(FIRST, move |cx: Context<Log>| {
                let child = child.clone();
                async move {
                    let part = cx.child("part", &child, numbered(1)).await?;
                    Ok(line(part.result).into())
                }
            })
            .start(FIRST)
            .compile()
            .unwrap()
    };
    let run = engine.start(&undeclared, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, undeclared));
    until_status(&engine, run, RunStatus::Waiting).await;
    let part = only_child(&engine, run).await.run;
    let why = engine.why(part).await.unwrap().to_string();
    assert!(why.contains("no live worker has part@1"), "{why}");
    let why = engine.why(run).await.unwrap().to_string();
    assert!(
        why.contains("`part`") && why.contains("which is active"),
        "{why}"
    );

    let other = Beside::start(worker(&engine, child));
    until_status(&engine, part, RunStatus::Paused).await;
    let why = engine.why(run).await.unwrap().to_string();
    assert!(why.contains("which is paused"), "{why}");
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    assert!(engine.resume(part).await.unwrap());
    assert_eq!(lines(&engine, run).await, ["mended"]);
    other.stop().await;
    beside.stop().await;
}

#[tokio::test]
async fn a_graph_that_starts_itself_without_end_is_stopped() {
    let engine = test_kit::engine().await;
    let own: Arc<std::sync::OnceLock<Graph<Part>>> = Arc::default();
    let graph = {
        let own = Arc::clone(&own);
        part(move |cx: Context<Part>| {
            let own = own.get().unwrap().clone();
            async move {
                Ok(Part::update()
                    .result(cx.child("own", &own, Part::default()).await?.result)
                    .into())
            }
        })
    };
    own.set(graph.clone()).unwrap();
    let run = engine.start(&graph, Part::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let runs = engine.unfinished(None, 100).await.unwrap();
    assert_eq!(runs.len(), 33);
    let error = runs[0].error.clone().unwrap();
    assert!(
        error["message"].to_string().contains("without end"),
        "{error}"
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_has_ended_or_changed_hands_starts_no_child() {
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let graph = behind(&door);
    let run = engine.start(&graph, Part::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until(async || engine.run(run).await.unwrap().is_leased).await;
    let (holder, fence): (i32, i64) =
        sqlx::query_as("select worker, fence from velo.queue where run_id = $1")
            .bind(run)
            .fetch_one(engine.pool())
            .await
            .unwrap();
    let start = async |fence: i64, child: i64| -> Option<i64> {
        sqlx::query_scalar(
            "select velo.start_child($1, $2, $3, 1, 0, 'late', 'work', true, 'cancel', $4, 1, 'part', 1,
                                     gen_random_uuid(), '', '', 'part@1')",
        )
        .bind(holder)
        .bind(run)
        .bind(fence)
        .bind(child)
        .fetch_one(engine.pool())
        .await
        .unwrap()
    };
    assert_eq!(start(fence - 1, 1).await, None);
    assert_eq!(start(fence, 2).await, Some(2));
    assert_eq!(start(fence, 3).await, Some(2));
    door.open();
    until_status(&engine, run, RunStatus::Completed).await;
    assert_eq!(start(fence, 4).await, None);
    until_status(&engine, RunId::from_i64(2), RunStatus::Cancelled).await;
    beside.stop().await;
}

#[tokio::test]
async fn a_child_is_started_once_and_its_end_is_heard_whatever_message_is_lost() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = awaiting(&part(double));
    let beside = Beside::start(worker(&proxy.engine, graph.clone()));
    for at in [
        At::Statement("child.start"),
        At::Statement("child.at"),
        At::Statement("child.ending"),
        At::Statement("child.poke"),
        At::Statement("child.told"),
        At::CommitAfter("wait.add"),
        At::CommitAfter("queue.park"),
    ] {
        for loss in [Loss::Answer, Loss::Request] {
            let lost = proxy.lose(at, loss.clone());
            let run = engine.start(&graph, Log::default()).await.unwrap();
            assert_eq!(lines(&engine, run).await, ["42"], "{at:?} {loss:?}");
            assert_eq!(children(&engine, run).await.len(), 1, "{at:?} {loss:?}");
            within(lost.notified()).await;
        }
    }
    let runs: i64 = sqlx::query_scalar("select count(*) from velo.run")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 2 * 14);
    beside.stop().await;
}

#[tokio::test]
async fn a_start_that_arrives_after_its_parent_was_cancelled_starts_nothing() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = awaiting(&part(double));
    let late = Late::default();
    let held = proxy.lose(At::Statement("child.start"), Loss::Late(late.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let doomed = Beside::start(worker(&proxy.engine, graph.clone()));
    within(held.notified()).await;
    doomed.die().await;
    assert!(engine.cancel(run).await.unwrap());
    let beside = Beside::start(worker(&engine, graph));
    until_status(&engine, run, RunStatus::Cancelled).await;
    late.arrive().await;
    let late: Vec<i64> = sqlx::query_scalar("select id from velo.run where parent is not null")
        .fetch_all(engine.pool())
        .await
        .unwrap();
    // The attempt may have been quick enough to ask a second time before it died.
    for child in late {
        until_status(&engine, RunId::from_i64(child), RunStatus::Cancelled).await;
    }
    beside.stop().await;
}

fn routed() -> Graph<Log> {
    let child = part(async |cx: Context<Part>| {
        let result: String = cx.ask("result", &cx.state().number).await?;
        Ok(Part::update().result(result).into())
    });
    Graph::builder("routed", 1)
        .subgraph(
            PART,
            &child,
            |cx| numbered(cx.state().turns),
            |part| match part.result.as_str() {
                "again" => line("again").goto(PART),
                _ => line(part.result).goto(LAST),
            },
        )
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .start(PART)
        .may_go(PART, PART)
        .may_go(PART, LAST)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_subgraph_decides_by_its_end_where_its_parent_goes() {
    let engine = test_kit::engine().await;
    let graph = routed();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    for answer in ["again", "done"] {
        until(async || {
            let open = engine.questions(Some(run), 10).await.unwrap();
            open.len() == 1
        })
        .await;
        let question = engine.questions(Some(run), 10).await.unwrap().remove(0);
        engine.answer(&question, &answer).await.unwrap();
        until_status(&engine, question.run, RunStatus::Completed).await;
    }
    assert_eq!(lines(&engine, run).await, ["again", "done", "last"]);
    assert_eq!(children(&engine, run).await.len(), 2);
    beside.stop().await;
}

/// B63, B64: side by side.
#[tokio::test]
async fn a_subgraph_begins_anew_and_a_stateful_one_where_it_ended() {
    const FRESH: NodeKey<Log, u32> = NodeKey::new("fresh");
    const KEEPS: NodeKey<Log> = NodeKey::new("keeps");
    let engine = test_kit::engine().await;
    let child = part(async |cx: Context<Part>| {
        let number = cx.state().number + 1;
        Ok(Part::update().number(number).into())
    });
    let back = |name: &'static str| move |part: Part| line(format!("{name} {}", part.number));
    let graph = Graph::builder("stateful", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let turns = Log::update().turns(cx.state().turns + 1);
            Ok(match cx.state().turns {
                0..3 => Next::send(FRESH, 10).and_goto(KEEPS).and_update(turns),
                _ => Next::end(),
            })
        })
        .subgraph(FRESH, &child, |cx| numbered(*cx.input()), back("fresh"))
        .stateful_subgraph(
            KEEPS,
            &child,
            |_, last| last.unwrap_or_default(),
            back("keeps"),
        )
        .start(FIRST)
        .may_go(FIRST, FRESH)
        .may_go(FIRST, KEEPS)
        .edge(FRESH, FIRST)
        .edge(KEEPS, FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let mut lines = lines(&engine, run).await;
    lines.sort();
    assert_eq!(
        lines,
        [
            "fresh 11", "fresh 11", "fresh 11", "keeps 1", "keeps 2", "keeps 3"
        ]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_state_that_a_failed_attempt_gave_its_child_counts_for_the_next_one() {
    let engine = test_kit::engine().await;
    let child = part(double);
    let graph = Graph::builder("retried", 1)
        .child(&child)
        .node(FIRST, move |cx: Context<Log>| {
            let child = child.clone();
            async move {
                let number = cx.attempt();
                let part = cx.child("part", &child, numbered(number)).await?;
                if number == 1 {
                    return Err(NodeError::transient("not yet"));
                }
                Ok(line(format!("{} of attempt {number}", part.result)).into())
            }
        })
        .default_retry(RetryPolicy {
            max_attempts: 3,
            first_delay: std::time::Duration::from_millis(10),
            ..RetryPolicy::default()
        })
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, run).await, ["2 of attempt 2"]);
    assert_eq!(children(&engine, run).await.len(), 1);
    beside.stop().await;
}

#[tokio::test]
async fn a_hundred_children_of_one_node_are_waited_for_without_a_worker() {
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let child = behind(&door);
    let graph = single("hundred", &child.clone(), move |cx: Context<Log>| {
        let child = child.clone();
        async move {
            let parts = cx.children("part", &child, (0..100).map(numbered)).await?;
            Ok(parts
                .into_iter()
                .map(|part| Next::from(line(part.result)))
                .collect())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until_status(&engine, run, RunStatus::Waiting).await;
    assert_eq!(children(&engine, run).await.len(), 100);
    door.open();
    let expected: Vec<String> = (0..100).map(|number| (number * 2).to_string()).collect();
    assert_eq!(lines(&engine, run).await, expected);
    beside.stop().await;
}

#[tokio::test]
async fn a_parent_that_is_cancelled_while_its_child_ends_leaves_nothing_behind() {
    const RUNS: usize = 20;
    let engine = test_kit::engine().await;
    let door = Door::shut();
    let graph = awaiting(&behind(&door));
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let both = [
        Beside::start(worker(&engine, graph.clone())),
        Beside::start(worker(&engine, graph)),
    ];
    for run in &runs {
        until_status(&engine, *run, RunStatus::Waiting).await;
    }
    door.open();
    join_all(runs.iter().map(|run| engine.cancel(*run))).await;
    until(async || engine.unfinished(None, 100).await.unwrap().is_empty()).await;
    let left = "select (select count(*) from velo.ending) + (select count(*) from velo.queue)";
    until(async || {
        let left: i64 = sqlx::query_scalar(left)
            .fetch_one(engine.pool())
            .await
            .unwrap();
        left == 0
    })
    .await;
    for run in runs {
        assert_eq!(children(&engine, run).await.len(), 1);
    }
    for one in both {
        one.stop().await;
    }
}
