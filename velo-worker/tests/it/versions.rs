use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{Misfit, RunStatus, Serve, Why, test_kit};
use velo_worker::{Worker, WorkerBuilder, WorkerError};

use crate::support::{Beside, Log, line, settled, until, within};

/// Two builds of one service: the older one has the amounts in euros.
mod old {
    use super::*;

    #[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    pub(super) struct Bill {
        #[state(append)]
        pub(super) lines: Vec<String>,
        pub(super) euros: u32,
    }

    pub(super) const FIRST: NodeKey<Bill> = NodeKey::new("first");
    pub(super) const LAST: NodeKey<Bill> = NodeKey::new("last");

    pub(super) fn graph() -> Graph<Bill> {
        let first = async |_: Context<Bill>| {
            let written = Bill::update().lines(vec!["old".to_owned()]).euros(5u32);
            Ok(written.into())
        };
        let last = async |cx: Context<Bill>| {
            cx.signal::<bool>("go").await?;
            Ok(Bill::update().lines(vec!["old end".to_owned()]).into())
        };
        Graph::builder("bill", 1)
            .node(FIRST, first)
            .node(LAST, last)
            .start(FIRST)
            .edge(FIRST, LAST)
            .compile()
            .unwrap()
    }
}

mod new {
    use super::*;

    #[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[state(version = 2, from = super::old::Bill)]
    pub(super) struct Bill {
        #[state(append)]
        pub(super) lines: Vec<String>,
        #[state(reduce = add)]
        pub(super) cents: u64,
    }

    fn add(sum: &mut u64, more: u64) {
        *sum += more;
    }

    impl From<super::old::Bill> for Bill {
        fn from(old: super::old::Bill) -> Self {
            Self {
                lines: old.lines,
                cents: u64::from(old.euros) * 100,
            }
        }
    }

    pub(super) const FIRST: NodeKey<Bill> = NodeKey::new("first");
    pub(super) const LAST: NodeKey<Bill> = NodeKey::new("last");
    pub(super) const ROUND: NodeKey<Bill> = NodeKey::new("round");

    pub(super) fn graph() -> Graph<Bill> {
        let first = async |_: Context<Bill>| Ok(Bill::update().cents(1u64).into());
        let last = async |cx: Context<Bill>| {
            cx.signal::<bool>("go").await?;
            Ok(Bill::update()
                .cents(25u64)
                .lines(vec!["new".to_owned()])
                .into())
        };
        let round = async |cx: Context<Bill>| {
            cx.signal::<bool>("round").await?;
            Ok(Bill::update().cents(5u64).into())
        };
        Graph::builder("bill", 1)
            .node(FIRST, first)
            .node(LAST, last)
            .node(ROUND, round)
            .start(FIRST)
            .edge(FIRST, LAST)
            .edge(LAST, ROUND)
            .compile()
            .unwrap()
    }
}

/// Long leases: nothing here is about losing them, and the machine may be busy.
fn worker(engine: &Engine, graph: impl Serve) -> WorkerBuilder {
    Worker::builder(engine.clone())
        .serve(graph)
        .lease(Duration::from_secs(4))
}

async fn code_of(engine: &Engine, run: RunId) -> String {
    sqlx::query_scalar("select code from velo.queue where run_id = $1")
        .bind(run)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn newer_code_goes_on_with_a_run_of_older_state_and_the_older_worker_leaves_it_from_then_on()
{
    let engine = test_kit::engine().await;
    let (old, new) = (old::graph(), new::graph());
    let run = engine.start(&old, old::Bill::default()).await.unwrap();
    let older = Beside::start(worker(&engine, old.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    older.stop().await;
    assert_eq!(code_of(&engine, run).await, "bill@1");

    let newer = Beside::start(worker(&engine, new.clone()));
    engine.signal(run, "go", &true, None).await.unwrap();
    until(async || engine.run(run).await.unwrap().steps == 2).await;
    let waiting = settled(&engine, run).await;
    assert_eq!(waiting.status, RunStatus::Waiting);
    newer.stop().await;
    assert_eq!(code_of(&engine, run).await, "bill@1+state2");
    let unreadable = engine.state::<old::Bill>(run).await;
    assert!(matches!(unreadable, Err(EngineError::Unreadable { .. })));

    // The older build is rolled out again: it takes its own runs and not this one.
    let older = Beside::start(worker(&engine, old.clone()));
    engine.signal(run, "round", &true, None).await.unwrap();
    let own = engine.start(&old, old::Bill::default()).await.unwrap();
    assert_eq!(settled(&engine, own).await.status, RunStatus::Waiting);
    let why = engine.why(run).await.unwrap();
    assert!(
        matches!(&why, Why::NoCapableWorker { code, .. } if code == "bill@1+state2"),
        "{why}"
    );
    older.stop().await;

    let newer = Beside::start(worker(&engine, new.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: new::Bill = engine.state(run).await.unwrap();
    assert_eq!(
        state.cents, 530,
        "five euros, and then what the newer code added"
    );
    assert_eq!(state.lines, ["old", "new"]);
    // Each look at the past is with the code of that time, or later code.
    let before: old::Bill = engine.state_at(run, 1).await.unwrap();
    assert_eq!(before.euros, 5);
    let before: new::Bill = engine.state_at(run, 1).await.unwrap();
    assert_eq!(before.cents, 500);
    let history = engine.history(run, 1, 10).await.unwrap();
    assert_eq!(
        history[0].writes,
        json!([["cents", 25], ["lines", ["new"]]])
    );
    // The first step of the newer code has the whole state: the upcast has been of use for the last time.
    let is_whole: bool = sqlx::query_scalar(
        "select snapshot is not null from velo.step where run_id = $1 and seq = 2",
    )
    .bind(run)
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert!(is_whole);
    newer.stop().await;
}

#[tokio::test]
async fn a_fork_an_export_and_a_new_run_have_the_version_of_the_state_that_they_were_written_in() {
    let engine = test_kit::engine().await;
    let (old, new) = (old::graph(), new::graph());
    let run = engine.start(&old, old::Bill::default()).await.unwrap();
    let older = Beside::start(worker(&engine, old.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    older.stop().await;

    let fork = engine.fork(&new, run, 1).await.unwrap();
    assert_eq!(code_of(&engine, fork).await, "bill@1+state2");
    let fresh = engine.start(&new, new::Bill::default()).await.unwrap();
    let export = engine.export(fresh).await.unwrap();
    let copy = engine.import(&export).await.unwrap();
    engine.resume(copy).await.unwrap();
    engine
        .update_state(&new, run, new::Bill::update().cents(7u64))
        .await
        .unwrap();
    assert_eq!(code_of(&engine, run).await, "bill@1+state2");
    assert_eq!(engine.state::<new::Bill>(run).await.unwrap().cents, 507);

    let newer = Beside::start(worker(&engine, new.clone()));
    for run in [run, fork, fresh, copy] {
        engine.signal(run, "go", &true, None).await.unwrap();
        engine.signal(run, "round", &true, None).await.unwrap();
    }
    for (run, cents) in [(run, 537), (fork, 530), (fresh, 31), (copy, 31)] {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
        let state: new::Bill = engine.state(run).await.unwrap();
        assert_eq!(state.cents, cents);
    }
    newer.stop().await;
}

#[tokio::test]
async fn a_step_that_older_code_has_half_done_is_left_for_older_code_to_end() {
    const LEFT: NodeKey<old::Bill> = NodeKey::new("left");
    const RIGHT: NodeKey<old::Bill> = NodeKey::new("right");
    const NEW_LEFT: NodeKey<new::Bill> = NodeKey::new("left");
    const NEW_RIGHT: NodeKey<new::Bill> = NodeKey::new("right");
    const END: NodeKey<old::Bill> = NodeKey::new("end");
    const NEW_END: NodeKey<new::Bill> = NodeKey::new("end");

    let engine = test_kit::engine().await;
    let quick = async |_: Context<old::Bill>| Ok(old::Bill::update().euros(3u32).into());
    let slow = async |cx: Context<old::Bill>| {
        cx.signal::<bool>("go").await?;
        Ok(old::Bill::update().lines(vec!["right".to_owned()]).into())
    };
    let end = async |_: Context<old::Bill>| Ok(Next::none());
    let old = Graph::builder("pair", 1)
        .node(LEFT, quick)
        .node(RIGHT, slow)
        .node(END, end)
        .start(LEFT)
        .start(RIGHT)
        .join([LEFT, RIGHT], END)
        .compile()
        .unwrap();
    let new = Graph::builder("pair", 1)
        .node(NEW_LEFT, async |_: Context<new::Bill>| {
            Ok(new::Bill::update().cents(3u64).into())
        })
        .node(NEW_RIGHT, async |_: Context<new::Bill>| Ok(Next::none()))
        .node(NEW_END, async |_: Context<new::Bill>| {
            Ok(new::Bill::update().cents(1u64).into())
        })
        .start(NEW_LEFT)
        .start(NEW_RIGHT)
        .join([NEW_LEFT, NEW_RIGHT], NEW_END)
        .compile()
        .unwrap();
    let run = engine.start(&old, old::Bill::default()).await.unwrap();
    let older = Beside::start(worker(&engine, old.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    older.stop().await;

    let newer = Beside::start(worker(&engine, new.clone()));
    engine.signal(run, "go", &true, None).await.unwrap();
    until(async || matches!(engine.why(run).await.unwrap(), Why::LacksCode { .. })).await;
    let why = engine.why(run).await.unwrap().to_string();
    assert!(why.contains("version 1 of the state"), "{why}");

    // Both are there: what was done is kept, and the rest of the run goes to either.
    let older = Beside::start(worker(&engine, old.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: new::Bill = engine.state(run).await.unwrap();
    assert!(state.cents == 300 || state.cents == 301, "{state:?}");
    assert_eq!(state.lines, ["right"]);
    older.stop().await;
    newer.stop().await;
}

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const OTHER: NodeKey<Log> = NodeKey::new("other");
const THIRD: NodeKey<Log> = NodeKey::new("third");

/// A line of two nodes, the second of which waits for a signal and is called so.
fn pair(version: u32, second: NodeKey<Log>) -> velo_engine::GraphBuilder<Log> {
    Graph::builder("pair", version)
        .node(FIRST, async |_: Context<Log>| Ok(line("first").into()))
        .node(second, move |cx: Context<Log>| async move {
            cx.signal::<bool>("go").await?;
            Ok(line(format!("{} of {version}", second.name())).into())
        })
        .start(FIRST)
        .edge(FIRST, second)
}

async fn parked(engine: &Engine, graph: &Graph<Log>) -> RunId {
    let run = engine.start(graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(engine, graph.clone()));
    assert_eq!(settled(engine, run).await.status, RunStatus::Waiting);
    beside.stop().await;
    run
}

#[tokio::test]
async fn a_run_whose_node_is_gone_waits_with_the_reason_and_goes_on_by_itself_when_it_is_deployed()
{
    let engine = test_kit::engine().await;
    let had = pair(1, SECOND).compile().unwrap();
    let run = parked(&engine, &had).await;

    let without = pair(1, OTHER).compile().unwrap();
    let beside = Beside::start(worker(&engine, without.clone()));
    engine.signal(run, "go", &true, None).await.unwrap();
    until(async || matches!(engine.why(run).await.unwrap(), Why::LacksCode { .. })).await;
    let why = engine.why(run).await.unwrap();
    assert!(why.to_string().contains("has the node `second`"), "{why}");
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Active);
    assert!(!engine.run(run).await.unwrap().is_leased);

    // Not what it had: the node, in other company. Beside the worker that lacks it, without a restart of that.
    let again = pair(1, SECOND)
        .node(OTHER, async |_: Context<Log>| Ok(Next::none()))
        .may_go(FIRST, OTHER)
        .compile()
        .unwrap();
    assert_ne!(again.fingerprint(), had.fingerprint());
    let deployed = Beside::start(worker(&engine, again));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["first", "second of 1"]);
    beside.stop().await;
    deployed.stop().await;
}

#[tokio::test]
async fn a_run_that_was_left_can_be_edited_to_go_on_or_cancelled() {
    let engine = test_kit::engine().await;
    let had = pair(1, SECOND).compile().unwrap();
    let (edited, cancelled) = (parked(&engine, &had).await, parked(&engine, &had).await);
    let without = pair(1, OTHER).compile().unwrap();
    let beside = Beside::start(worker(&engine, without.clone()));
    for run in [edited, cancelled] {
        engine.signal(run, "go", &true, None).await.unwrap();
        until(async || matches!(engine.why(run).await.unwrap(), Why::LacksCode { .. })).await;
    }
    let edit = engine.update_state(&without, edited, line("by hand"));
    edit.as_node(FIRST).await.unwrap();
    engine.signal(edited, "go", &true, None).await.unwrap();
    assert_eq!(settled(&engine, edited).await.status, RunStatus::Completed);
    let state: Log = engine.state(edited).await.unwrap();
    assert_eq!(state.lines, ["first", "by hand", "other of 1"]);

    assert!(engine.cancel(cancelled).await.unwrap());
    assert_eq!(
        settled(&engine, cancelled).await.status,
        RunStatus::Cancelled
    );
    beside.stop().await;
}

#[tokio::test]
async fn runs_stay_with_their_version_while_it_is_served_and_go_on_with_one_that_continues_it() {
    let engine = test_kit::engine().await;
    let one = pair(1, SECOND).compile().unwrap();
    let two = pair(2, SECOND).continues([1]).compile().unwrap();
    let (pinned, moved) = (parked(&engine, &one).await, parked(&engine, &one).await);

    let both = worker(&engine, two.clone()).serve(one.clone());
    let both = Beside::start(both);
    engine.signal(pinned, "go", &true, None).await.unwrap();
    assert_eq!(settled(&engine, pinned).await.version, 1);
    let state: Log = engine.state(pinned).await.unwrap();
    assert_eq!(state.lines, ["first", "second of 1"]);
    both.stop().await;

    // A version that does not continue it never takes it.
    let three = Beside::start(worker(&engine, pair(3, SECOND).compile().unwrap()));
    engine.signal(moved, "go", &true, None).await.unwrap();
    let own = engine
        .start(&pair(3, SECOND).compile().unwrap(), Log::default())
        .await
        .unwrap();
    assert_eq!(settled(&engine, own).await.status, RunStatus::Waiting);
    let why = engine.why(moved).await.unwrap();
    assert!(
        matches!(&why, Why::NoCapableWorker { code, .. } if code == "pair@1"),
        "{why}"
    );
    three.stop().await;

    let second = Beside::start(worker(&engine, two.clone()));
    let run = settled(&engine, moved).await;
    assert_eq!((run.status, run.version), (RunStatus::Completed, 2));
    let state: Log = engine.state(moved).await.unwrap();
    assert_eq!(state.lines, ["first", "second of 2"]);
    second.stop().await;
}

#[tokio::test]
async fn a_run_with_a_waiting_join_is_left_to_code_with_the_same_join() {
    let engine = test_kit::engine().await;
    let build = |any: bool| {
        let node = |name: &'static str| {
            move |cx: Context<Log>| async move {
                if name == "other" {
                    cx.signal::<bool>("go").await?;
                }
                Ok(line(name).into())
            }
        };
        let end = async |_: Context<Log>| Ok(line("end").into());
        // The first source comes a step before the other one, so that a join waits between two steps.
        let graph = Graph::builder("joined", 1)
            .node(FIRST, node("first"))
            .node(SECOND, node("second"))
            .node(OTHER, node("other"))
            .node(THIRD, end)
            .start(FIRST)
            .start(SECOND)
            .edge(SECOND, OTHER);
        let graph = if any {
            graph.join_any([FIRST, OTHER], THIRD)
        } else {
            graph.join([FIRST, OTHER], THIRD)
        };
        graph.compile().unwrap()
    };
    let run = parked(&engine, &build(false)).await;
    let other = Beside::start(worker(&engine, build(true)));
    engine.signal(run, "go", &true, None).await.unwrap();
    until(async || matches!(engine.why(run).await.unwrap(), Why::LacksCode { .. })).await;
    let why = engine.why(run).await.unwrap().to_string();
    assert!(why.contains("joins"), "{why}");
    let same = Beside::start(worker(&engine, build(false)));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines.last().unwrap(), "end");
    same.stop().await;
    other.stop().await;
}

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
#[state(version = 3, oldest)]
struct Late {
    lines: Vec<String>,
}

#[tokio::test]
async fn a_worker_does_not_start_while_a_live_run_has_a_state_that_it_cannot_read() {
    let engine = test_kit::engine().await;
    let run = engine
        .start(&new::graph(), new::Bill::default())
        .await
        .unwrap();
    let late = Graph::builder("bill", 1)
        .node(NodeKey::<Late>::new("first"), async |_: Context<Late>| {
            Ok(Next::none())
        })
        .start(NodeKey::new("first"))
        .compile()
        .unwrap();
    let start = || {
        Worker::builder(engine.clone())
            .serve(late.clone())
            .run(std::future::ready(()))
    };
    let refused = within(start()).await.unwrap_err();
    assert!(
        matches!(&refused, WorkerError::Outdated { code, runs: 1 } if code == "bill@1+state2"),
        "{refused}"
    );
    engine.cancel(run).await.unwrap();
    within(start()).await.unwrap();
}

#[tokio::test]
async fn a_run_changes_hands_between_builds_again_and_again_and_loses_nothing() {
    const EACH: NodeKey<Log> = NodeKey::new("each");
    const TURNS: u32 = 8;
    let engine = test_kit::engine().await;
    let build = |version: u32, continues: u32| {
        let each = async |cx: Context<Log>| {
            cx.sleep("a while", Duration::from_millis(5)).await?;
            let turns = cx.state().turns + 1;
            let update = line(turns.to_string()).turns(turns);
            Ok(if turns < TURNS {
                update.goto(EACH)
            } else {
                update.into()
            })
        };
        Graph::builder("hands", version)
            .continues([continues])
            .node(EACH, each)
            .start(EACH)
            .may_go(EACH, EACH)
            .compile()
            .unwrap()
    };
    let (one, two) = (build(1, 2), build(2, 1));
    let run = engine.start(&one, Log::default()).await.unwrap();
    for (graph, steps) in [(&one, 2), (&two, 4), (&one, 6), (&two, 8)] {
        let beside = Beside::start(worker(&engine, graph.clone()));
        until(async || engine.run(run).await.unwrap().steps >= steps).await;
        // One build stops in order and the other one dies.
        if steps % 4 == 0 {
            beside.die().await;
        } else {
            beside.stop().await;
        }
    }
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    let all: Vec<String> = (1..=TURNS).map(|turn| turn.to_string()).collect();
    assert_eq!(state.lines, all);
}

/// The reasons that a check gives, in one list.
async fn misfits<S: State>(engine: &Engine, graph: &Graph<S>) -> Vec<Misfit> {
    let check = engine.check(graph).await.unwrap();
    assert_eq!(check.broken_runs, check.broken.len() as u64);
    let misfits = check.broken.into_iter().flat_map(|broken| broken.misfits);
    misfits.collect()
}

#[tokio::test]
async fn a_check_says_which_live_runs_new_code_would_break_and_why() {
    const PAID: NodeKey<Log, u32> = NodeKey::new("second");
    let engine = test_kit::engine().await;
    let had = pair(1, SECOND).compile().unwrap();
    let run = parked(&engine, &had).await;
    let ended = engine.start(&had, Log::default()).await.unwrap();
    engine.cancel(ended).await.unwrap();
    assert_eq!(misfits(&engine, &had).await, []);

    let gone = misfits(&engine, &pair(1, OTHER).compile().unwrap()).await;
    assert_eq!(
        gone,
        [Misfit::NodeGone {
            node: "second".to_owned()
        }]
    );
    let renamed = pair(1, OTHER).renamed("second", OTHER).compile().unwrap();
    assert_eq!(misfits(&engine, &renamed).await, []);

    let newer = pair(2, SECOND);
    let unserved = [Misfit::NoVersion {
        code: "pair@1".to_owned(),
    }];
    let check = engine.check(&newer.compile().unwrap()).await.unwrap();
    assert_eq!(check.broken[0].misfits, unserved);
    assert_eq!((check.broken[0].run, check.runs), (run, 1));
    let both = engine.check(&pair(2, SECOND).compile().unwrap()).and(&had);
    assert!(both.await.unwrap().is_fine());
    let continued = pair(2, SECOND).continues([1]).compile().unwrap();
    assert_eq!(misfits(&engine, &continued).await, []);

    let takes_more = Graph::builder("pair", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .node(PAID, async |_: Context<Log, u32>| Ok(Next::none()))
        .start(FIRST)
        .may_go(FIRST, PAID)
        .compile()
        .unwrap();
    let found = misfits(&engine, &takes_more).await;
    assert!(
        matches!(&found[..], [Misfit::InputChanged { node, .. }] if node == "second"),
        "{found:?}"
    );

    let unreadable = Graph::builder("pair", 1)
        .node(
            NodeKey::<Numbers>::new("second"),
            async |_: Context<Numbers>| Ok(Next::none()),
        )
        .start(NodeKey::new("second"))
        .compile()
        .unwrap();
    let found = misfits(&engine, &unreadable).await;
    assert!(
        matches!(&found[..], [Misfit::Unreadable { .. }]),
        "{found:?}"
    );
    let oldest = Graph::builder("pair", 1)
        .node(NodeKey::<Late>::new("second"), async |_: Context<Late>| {
            Ok(Next::none())
        })
        .start(NodeKey::new("second"))
        .compile()
        .unwrap();
    assert_eq!(
        misfits(&engine, &oldest).await,
        [Misfit::NoUpcast {
            stored: 1,
            oldest: 3
        }]
    );
}

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Numbers {
    lines: u32,
}

#[tokio::test]
async fn a_check_finds_open_questions_whose_answers_have_another_form_now() {
    let engine = test_kit::engine().await;
    let build = || {
        Graph::builder("asking", 1)
            .node(FIRST, async |cx: Context<Log>| {
                let ask = cx
                    .ask::<bool>("approve/1", &"well?")
                    .schema(json!({ "type": "boolean" }));
                Ok(line(ask.await?.to_string()).into())
            })
            .start(FIRST)
    };
    parked(&engine, &build().compile().unwrap()).await;
    let same = build().answer(FIRST, "approve", json!({ "type": "boolean" }));
    assert_eq!(misfits(&engine, &same.compile().unwrap()).await, []);
    let other = build().answer(FIRST, "approve", json!({ "type": "string" }));
    let (node, question) = ("first".to_owned(), "approve/1".to_owned());
    let changed = [Misfit::AnswerChanged { node, question }];
    assert_eq!(misfits(&engine, &other.compile().unwrap()).await, changed);
}

#[tokio::test]
async fn a_run_is_moved_to_another_version_by_hand_when_that_can_go_on_with_it() {
    let engine = test_kit::engine().await;
    let one = pair(1, SECOND).compile().unwrap();
    let run = parked(&engine, &one).await;
    let unfit = engine
        .move_run(&pair(2, OTHER).compile().unwrap(), run)
        .await;
    assert!(
        matches!(&unfit, Err(EngineError::Unfit { .. })),
        "{unfit:?}"
    );
    assert_eq!(engine.run(run).await.unwrap().version, 1);

    let two = pair(2, OTHER).renamed("second", OTHER).compile().unwrap();
    engine.move_run(&two, run).await.unwrap();
    engine.move_run(&two, run).await.unwrap();
    let moved = engine.run(run).await.unwrap();
    assert_eq!((moved.version, moved.status), (2, RunStatus::Waiting));
    let beside = Beside::start(worker(&engine, two.clone()));
    engine.signal(run, "go", &true, None).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(
        state.lines,
        ["first", "other of 2"],
        "the signal that was waited for came to the new node"
    );
    let late = engine.move_run(&two, run).await;
    assert!(matches!(late, Err(EngineError::Ended(_))));
    beside.stop().await;
}
