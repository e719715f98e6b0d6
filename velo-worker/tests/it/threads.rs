//! Threads: a state that lasts from run to run, and what becomes of what comes while one is busy.

use futures::future::join_all;
use velo_engine::prelude::*;
use velo_engine::{IfBusy, IfClosed, LINE_MAX, Run, RunStatus, Why, test_kit};

use crate::proxy::{At, Loss, Proxy};
use crate::support::{Beside, Gate, Log, heard, line, settled, steady, until, within};

const HEAR: NodeKey<Log> = NodeKey::new("hear");
const REPLY: NodeKey<Log> = NodeKey::new("reply");
const THREAD: &str = "chat/7";

/// Each run says how many lines it has heard before its own reply.
fn chat() -> Graph<Log> {
    Graph::builder("chat", 1)
        .node(HEAR, async |cx: Context<Log>| {
            Ok(line(format!("heard {}", cx.state().lines.len())).into())
        })
        .start(HEAR)
        .compile()
        .unwrap()
}

/// `hear` waits at the gate, then says so; `reply` comes after it.
fn gated(gate: &Gate) -> Graph<Log> {
    let gate = gate.clone();
    Graph::builder("gated-chat", 1)
        .node(HEAR, move |cx: Context<Log>| {
            let gate = gate.clone();
            async move {
                if cx.state().lines.last().is_some_and(|line| line == "slow") {
                    gate.pass().await;
                }
                Ok(line("heard").into())
            }
        })
        .node(REPLY, async |_: Context<Log>| Ok(line("replied").into()))
        .start(HEAR)
        .edge(HEAR, REPLY)
        .compile()
        .unwrap()
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    engine.state::<Log>(run).await.unwrap().lines
}

async fn found(engine: &Engine, run: RunId) -> Run {
    engine.run(run).await.unwrap()
}

#[tokio::test]
async fn an_input_begins_from_the_state_that_the_run_before_it_has_left() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let beside = Beside::start(steady(&engine, graph.clone()));
    let first = engine.input(&graph, THREAD, line("one")).await.unwrap();
    settled(&engine, first).await;
    let second = engine.input(&graph, THREAD, line("two")).await.unwrap();
    settled(&engine, second).await;
    assert_eq!(
        lines(&engine, second).await,
        ["one", "heard 1", "two", "heard 3"]
    );
    let history = engine.history(second, -1, 10).await.unwrap();
    assert_eq!(history[0].writes[0][1][0], "two", "{history:?}");
    // A whole state is taken as it is.
    let third = engine.start(&graph, Log::default()).thread(THREAD);
    let third = third.await.unwrap();
    settled(&engine, third).await;
    assert_eq!(lines(&engine, third).await, ["heard 0"]);
    beside.stop().await;
}

#[tokio::test]
async fn inputs_that_come_at_once_stand_in_line_and_each_sees_all_before_it() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let inputs = join_all((0..20).map(|n| {
        let input = engine.input(&graph, THREAD, line(n.to_string()));
        input.if_busy(IfBusy::Enqueue).into_future()
    }));
    let runs: Vec<RunId> = inputs.await.into_iter().map(Result::unwrap).collect();
    let thread = engine.thread(THREAD).await.unwrap().unwrap();
    assert!(thread.is_busy);
    assert_eq!(thread.waiting.len(), 19);
    let last = *thread.waiting.last().unwrap();
    let why = engine.why(last).await.unwrap();
    assert!(
        matches!(&why, Why::InThreadLine { thread: name, behind, ahead: 18 }
            if name == THREAD && *behind == Some(thread.run)),
        "{why:?}"
    );
    assert!(
        matches!(engine.state::<Log>(last).await, Err(EngineError::NotBegun(run)) if run == last)
    );
    let two = [
        Beside::start(steady(&engine, graph.clone())),
        Beside::start(steady(&engine, graph)),
    ];
    for run in &runs {
        assert_eq!(settled(&engine, *run).await.status, RunStatus::Completed);
    }
    let heard: Vec<_> = lines(&engine, last).await;
    let heard = heard.iter().filter_map(|line| line.strip_prefix("heard "));
    let expected: Vec<String> = (0..20).map(|n| (2 * n + 1).to_string()).collect();
    assert_eq!(heard.collect::<Vec<_>>(), expected);
    let free = engine.thread(THREAD).await.unwrap().unwrap();
    assert!(!free.is_busy && free.waiting.is_empty() && free.head == Some(last));
    for beside in two {
        beside.stop().await;
    }
}

#[tokio::test]
async fn whole_states_stand_in_line_too_and_one_that_is_cancelled_there_lets_the_next_one_pass() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let start = async |text: &str| {
        let state = line(text).into_state().unwrap();
        let start = engine.start(&graph, state).thread(THREAD);
        start.if_busy(IfBusy::Enqueue).await.unwrap()
    };
    let (first, second, third) = (start("1").await, start("2").await, start("3").await);
    assert_eq!(lines(&engine, third).await, ["3"], "its state is known");
    assert!(engine.cancel(second).await.unwrap());
    let thread = engine.thread(THREAD).await.unwrap().unwrap();
    assert_eq!(thread.waiting, [third]);
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, first).await.status, RunStatus::Completed);
    assert_eq!(settled(&engine, third).await.status, RunStatus::Completed);
    assert_eq!(found(&engine, second).await.status, RunStatus::Cancelled);
    beside.stop().await;
}

#[tokio::test]
async fn nothing_that_comes_for_a_run_in_line_has_it_begin_before_its_turn() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let first = engine.input(&graph, THREAD, line("1")).await.unwrap();
    let second = engine.input(&graph, THREAD, line("2"));
    let second = second.if_busy(IfBusy::Enqueue).await.unwrap();
    engine.signal(second, "hello", &1, None).await.unwrap();
    assert!(engine.resume(second).await.unwrap());
    engine.pause(second, "not yet").await.unwrap();
    assert!(engine.resume(second).await.unwrap());
    let edited = engine.update_state(&graph, second, line("edit")).await;
    assert!(
        matches!(edited, Err(EngineError::NotBegun(_))),
        "{edited:?}"
    );
    assert!(matches!(
        engine.why(second).await.unwrap(),
        Why::InThreadLine { .. }
    ));
    engine.pause(second, "not even then").await.unwrap();
    assert!(engine.cancel(first).await.unwrap());
    // Its turn has come, and it is paused.
    assert!(matches!(
        engine.why(second).await.unwrap(),
        Why::Paused { .. }
    ));
    assert_eq!(engine.thread(THREAD).await.unwrap().unwrap().run, second);
    assert!(engine.resume(second).await.unwrap());
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, second).await.status, RunStatus::Completed);
    // The first one never began, and left the thread no state.
    assert_eq!(lines(&engine, second).await, ["1", "2", "heard 2"]);
    beside.stop().await;
}

#[tokio::test]
async fn an_interrupted_run_stops_at_its_step_boundary_and_the_next_one_goes_on_from_there() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let old = engine.input(&graph, THREAD, line("slow")).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    within(gate.came.notified()).await;
    let waiting = engine.input(&graph, THREAD, line("in line"));
    let waiting = waiting.if_busy(IfBusy::Enqueue).await.unwrap();
    let new = engine.input(&graph, THREAD, line("stop"));
    let new = new.if_busy(IfBusy::Interrupt).await.unwrap();
    let why = engine.why(old).await.unwrap();
    assert!(matches!(why, Why::Stopping { is_end: true, .. }), "{why:?}");
    assert_eq!(found(&engine, waiting).await.status, RunStatus::Cancelled);
    heard(&engine).await;
    gate.open.notify_one();
    assert_eq!(settled(&engine, new).await.status, RunStatus::Completed);
    let ended = found(&engine, old).await;
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(ended.error.unwrap()["kind"], "interrupted");
    assert_eq!(lines(&engine, old).await, ["slow", "heard"]);
    assert_eq!(
        lines(&engine, new).await,
        ["slow", "heard", "stop", "heard", "replied"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn an_interrupted_run_whose_worker_dies_is_ended_by_the_next_one() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let old = engine.input(&graph, THREAD, line("slow")).await.unwrap();
    let dying = Beside::start(steady(&engine, graph.clone()));
    within(gate.came.notified()).await;
    let new = engine.input(&graph, THREAD, line("stop"));
    let new = new.if_busy(IfBusy::Interrupt).await.unwrap();
    dying.die().await;
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, new).await.status, RunStatus::Completed);
    assert_eq!(found(&engine, old).await.status, RunStatus::Cancelled);
    assert_eq!(
        lines(&engine, new).await,
        ["slow", "stop", "heard", "replied"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_is_interrupted_at_once() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("asking", 1)
        .node(HEAR, async |cx: Context<Log>| {
            if cx.state().lines.last().is_some_and(|line| line == "ask") {
                let _: String = cx.ask("name", &"who?").await?;
            }
            Ok(line("heard").into())
        })
        .start(HEAR)
        .compile()
        .unwrap();
    let old = engine.input(&graph, THREAD, line("ask")).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, old).await.status, RunStatus::Waiting);
    let new = engine.input(&graph, THREAD, line("never mind"));
    let new = new.if_busy(IfBusy::Interrupt).await.unwrap();
    assert_eq!(found(&engine, old).await.status, RunStatus::Cancelled);
    assert!(engine.questions(None, 10).await.unwrap().is_empty());
    assert_eq!(settled(&engine, new).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, new).await, ["ask", "never mind", "heard"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_rolled_back_leaves_the_thread_as_it_was_before_it() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let beside = Beside::start(steady(&engine, graph.clone()));
    let first = engine.input(&graph, THREAD, line("one")).await.unwrap();
    settled(&engine, first).await;
    let undone = engine.input(&graph, THREAD, line("slow")).await.unwrap();
    within(gate.came.notified()).await;
    let new = engine.input(&graph, THREAD, line("two"));
    let new = new.if_busy(IfBusy::Rollback).await.unwrap();
    assert_eq!(settled(&engine, new).await.status, RunStatus::Completed);
    let ended = found(&engine, undone).await;
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(ended.error.unwrap()["kind"], "rolled_back");
    assert_eq!(
        lines(&engine, new).await,
        ["one", "heard", "replied", "two", "heard", "replied"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn the_first_run_of_a_thread_that_is_rolled_back_leaves_a_new_thread() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let undone = engine.input(&graph, THREAD, line("one")).await.unwrap();
    let new = engine.input(&graph, THREAD, line("two"));
    let new = new.if_busy(IfBusy::Rollback).await.unwrap();
    assert_eq!(found(&engine, undone).await.status, RunStatus::Cancelled);
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, new).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, new).await, ["two", "heard 1"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_terminated_for_another_ends_in_the_middle_of_its_step() {
    let (engine, gate) = (test_kit::engine().await, Gate::default());
    let graph = gated(&gate);
    let old = engine.input(&graph, THREAD, line("slow")).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    within(gate.came.notified()).await;
    let new = engine.input(&graph, THREAD, line("instead"));
    let new = new.if_busy(IfBusy::Terminate).await.unwrap();
    // The gate stays shut.
    assert_eq!(settled(&engine, new).await.status, RunStatus::Completed);
    assert_eq!(found(&engine, old).await.status, RunStatus::Cancelled);
    assert_eq!(
        lines(&engine, new).await,
        ["slow", "instead", "heard", "replied"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_start_that_may_use_what_is_there_starts_one_run_however_many_ask() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let start = || {
        let start = engine.start(&graph, Log::default()).thread("order/42");
        start
            .if_busy(IfBusy::UseExisting)
            .if_closed(IfClosed::UseExisting)
            .into_future()
    };
    let started = join_all((0..20).map(|_| start())).await;
    let runs: std::collections::BTreeSet<RunId> = started.into_iter().map(Result::unwrap).collect();
    assert_eq!(runs.len(), 1);
    let beside = Beside::start(steady(&engine, graph.clone()));
    let run = *runs.first().unwrap();
    settled(&engine, run).await;
    assert_eq!(start().await.unwrap(), run, "also when it has ended");
    beside.stop().await;
}

#[tokio::test]
async fn a_closed_thread_takes_another_run_only_as_declared() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let start = |policy| {
        let start = engine.start(&graph, Log::default()).thread("order/42");
        start.if_closed(policy).into_future()
    };
    let cancelled = start(IfClosed::Reject).await.unwrap();
    assert!(engine.cancel(cancelled).await.unwrap());
    let refused = start(IfClosed::Reject).await;
    assert!(
        matches!(&refused, Err(EngineError::ThreadClosed { run, status: RunStatus::Cancelled, .. })
            if *run == cancelled),
        "{refused:?}"
    );
    let again = start(IfClosed::AllowIfCancelled).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    settled(&engine, again).await;
    let refused = start(IfClosed::AllowIfCancelled).await;
    assert!(
        matches!(&refused, Err(EngineError::ThreadClosed { run, status: RunStatus::Completed, .. })
            if *run == again),
        "{refused:?}"
    );
    assert_ne!(start(IfClosed::Allow).await.unwrap(), again);
    beside.stop().await;
}

#[tokio::test]
async fn what_is_asked_of_a_thread_in_a_transaction_happens_when_that_commits() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let first = engine.input(&graph, THREAD, line("1")).await.unwrap();
    for (commits, status) in [(false, RunStatus::Active), (true, RunStatus::Cancelled)] {
        let mut tx = engine.pool().begin().await.unwrap();
        let input = engine.input(&graph, THREAD, line("2"));
        let input = input.if_busy(IfBusy::Rollback).in_tx(&mut tx).await;
        let second = input.unwrap();
        if commits {
            tx.commit().await.unwrap();
            assert_eq!(engine.thread(THREAD).await.unwrap().unwrap().run, second);
        } else {
            tx.rollback().await.unwrap();
            assert!(matches!(
                engine.run(second).await,
                Err(EngineError::NoRun(_))
            ));
        }
        assert_eq!(found(&engine, first).await.status, status);
    }
}

#[tokio::test]
async fn a_line_has_an_end_and_a_full_one_spoils_no_transaction() {
    let (engine, graph) = (test_kit::engine().await, chat());
    engine.input(&graph, THREAD, line("1")).await.unwrap();
    sqlx::query(
        "insert into velo.input (run_id, thread) select n, $1 from generate_series(1, $2) n",
    )
    .bind(THREAD)
    .bind(i64::try_from(LINE_MAX).unwrap())
    .execute(engine.pool())
    .await
    .unwrap();
    let mut tx = engine.pool().begin().await.unwrap();
    let input = engine.input(&graph, THREAD, line("2"));
    let full = input.if_busy(IfBusy::Enqueue).in_tx(&mut tx).await;
    assert!(
        matches!(
            full,
            Err(EngineError::LineFull {
                waiting: LINE_MAX,
                ..
            })
        ),
        "{full:?}"
    );
    let other = engine.input(&graph, "chat/8", line("2")).in_tx(&mut tx);
    let other = other.await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(found(&engine, other).await.status, RunStatus::Active);
}

#[tokio::test]
async fn an_input_whose_answer_is_lost_is_given_once() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = chat();
    engine.input(&graph, THREAD, line("1")).await.unwrap();
    for (policy, in_line) in [
        (IfBusy::Enqueue, 1),
        (IfBusy::Enqueue, 2),
        (IfBusy::Interrupt, 0),
    ] {
        proxy.lose(At::CommitAfter("input.add"), Loss::Answer);
        proxy.lose(At::Statement("run.nonce"), Loss::Request);
        let input = proxy.engine.input(&graph, THREAD, line("2"));
        let run = within(input.if_busy(policy).into_future()).await.unwrap();
        let thread = engine.thread(THREAD).await.unwrap().unwrap();
        assert_eq!(thread.waiting.len(), in_line);
        assert!(thread.run == run || thread.waiting.last() == Some(&run));
    }
}

#[tokio::test]
async fn runs_that_end_while_others_join_leave_nobody_in_line_for_ever() {
    let (engine, graph) = (test_kit::engine().await, chat());
    let two = [
        Beside::start(steady(&engine, graph.clone())),
        Beside::start(steady(&engine, graph.clone())),
    ];
    let ask = |n: usize| {
        let (engine, graph) = (engine.clone(), graph.clone());
        async move {
            let mut runs = Vec::new();
            for turn in 0..6 {
                let policy = match (n + turn) % 4 {
                    0 => IfBusy::Interrupt,
                    1 => IfBusy::Rollback,
                    _ => IfBusy::Enqueue,
                };
                let input = engine.input(&graph, THREAD, line("x"));
                runs.push(input.if_busy(policy).await.unwrap());
            }
            runs
        }
    };
    let runs = within(join_all((0..6).map(ask))).await;
    for run in runs.into_iter().flatten() {
        let ended = settled(&engine, run).await;
        assert!(ended.status.is_terminal(), "{ended:?}");
    }
    until(async || !engine.thread(THREAD).await.unwrap().unwrap().is_busy).await;
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from velo.input) + (select count(*) from velo.queue)",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert_eq!(left, 0);
    for beside in two {
        beside.stop().await;
    }
}
