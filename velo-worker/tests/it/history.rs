use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use velo_engine::prelude::*;
use velo_engine::{EngineError, Origin, Payload, RunExport, RunStatus, test_kit};

use crate::support::{Beside, Log, line, settled, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const THIRD: NodeKey<Log> = NodeKey::new("third");

/// Three nodes in a row, the second of which has a side effect that is counted.
fn graph(effects: &Arc<AtomicU32>) -> Graph<Log> {
    let effects = Arc::clone(effects);
    let second = move |cx: Context<Log>| {
        let effects = Arc::clone(&effects);
        async move {
            let number = cx
                .step("effect", async |_| {
                    Ok::<_, NodeError>(effects.fetch_add(1, Ordering::SeqCst))
                })
                .await?;
            Ok(line(format!("second {number}")).into())
        }
    };
    Graph::builder("history", 1)
        .node(FIRST, async |_: Context<Log>| Ok(line("first").into()))
        .node(SECOND, second)
        .node(THIRD, async |cx: Context<Log>| {
            let turns = u32::try_from(cx.state().lines.len()).unwrap_or(0);
            Ok(line("third").turns(turns).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .edge(SECOND, THIRD)
        .compile()
        .unwrap()
}

/// An engine, a graph, and a run of it that a worker has brought to its end.
async fn completed() -> (Engine, Graph<Log>, RunId, Beside) {
    let (engine, graph) = (test_kit::engine().await, graph(&Arc::default()));
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    (engine, graph, run, beside)
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    engine.state::<Log>(run).await.unwrap().lines
}

#[tokio::test]
async fn the_state_and_what_came_next_can_be_read_at_every_step() {
    let (engine, _, run, beside) = completed().await;
    let expected: [(&[&str], &[&str]); 4] = [
        (&[], &["first"]),
        (&["first"], &["second"]),
        (&["first", "second 0"], &["third"]),
        (&["first", "second 0", "third"], &[]),
    ];
    for (seq, (lines, next)) in (0..).zip(expected) {
        let found = engine.checkpoint_at::<Log>(run, seq).await.unwrap();
        assert_eq!(found.state.lines, lines, "after step {seq}");
        let tasks: Vec<_> = found.tasks.iter().map(|task| task.node.as_str()).collect();
        assert_eq!(tasks, next, "after step {seq}");
    }
    for seq in [-1, 4, i32::MAX] {
        let missing = engine.state_at::<Log>(run, seq).await;
        assert!(
            matches!(missing, Err(EngineError::NoStep { seq: asked, .. }) if asked == seq),
            "{missing:?}"
        );
    }
    let nobody = engine.state_at::<Log>(RunId::from_i64(7), 0).await;
    assert!(matches!(nobody, Err(EngineError::NoRun(_))), "{nobody:?}");
    beside.stop().await;
}

/// B69: side effects included.
#[tokio::test]
async fn a_fork_runs_what_came_after_the_step_again_and_leaves_the_original_alone() {
    let (engine, graph, run, beside) = completed().await;
    let before = engine.history(run, -1, 100).await.unwrap();
    let fork = engine.fork(&graph, run, 1).await.unwrap();
    assert_eq!(settled(&engine, fork).await.status, RunStatus::Completed);
    // The kept result of the side effect was not taken over.
    assert_eq!(lines(&engine, fork).await, ["first", "second 1", "third"]);
    assert_eq!(engine.history(run, -1, 100).await.unwrap(), before);
    assert_eq!(lines(&engine, run).await, ["first", "second 0", "third"]);
    beside.stop().await;
}

#[tokio::test]
async fn forks_tell_where_they_come_from() {
    let (engine, graph, run, beside) = completed().await;
    let child = engine.fork(&graph, run, 1).await.unwrap();
    settled(&engine, child).await;
    let grandchild = engine.fork(&graph, child, 1).await.unwrap();
    assert_eq!(
        engine.lineage(grandchild).await.unwrap(),
        [Origin { run: child, seq: 1 }, Origin { run, seq: 1 }]
    );
    assert_eq!(engine.lineage(run).await.unwrap(), []);
    assert_eq!(engine.forks(run, 10).await.unwrap(), [child]);
    beside.stop().await;
}

#[tokio::test]
async fn an_edit_changes_the_state_and_not_what_comes_next() {
    let (engine, graph, run, beside) = completed().await;
    let fork = engine
        .fork(&graph, run, 1)
        .update(line("edited"))
        .await
        .unwrap();
    settled(&engine, fork).await;
    assert_eq!(
        lines(&engine, fork).await,
        ["first", "edited", "second 1", "third"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn an_edit_as_a_node_goes_on_with_what_follows_the_node() {
    let (engine, graph, run, beside) = completed().await;
    let fork = engine
        .fork(&graph, run, 1)
        .update(line("instead of the second"))
        .as_node(SECOND)
        .await
        .unwrap();
    settled(&engine, fork).await;
    assert_eq!(
        lines(&engine, fork).await,
        ["first", "instead of the second", "third"]
    );
    // Also from the last step, after which nothing comes by itself.
    let again = engine
        .fork(&graph, run, 3)
        .update(line("again"))
        .as_node(FIRST)
        .await
        .unwrap();
    settled(&engine, again).await;
    assert_eq!(lines(&engine, again).await.len(), 6);
    beside.stop().await;
}

/// B70: the last step.
#[tokio::test]
async fn a_fork_that_could_do_nothing_is_refused() {
    let (engine, graph, run, beside) = completed().await;
    let ended = engine.fork(&graph, run, 3).await;
    assert!(
        matches!(ended, Err(EngineError::NothingToDo { seq: 3, .. })),
        "{ended:?}"
    );
    let twice = engine
        .fork(&graph, run, 1)
        .update(Log::update().turns(1))
        .update(Log::update().turns(2))
        .await;
    assert!(
        matches!(twice, Err(EngineError::Refused { .. })),
        "{twice:?}"
    );
    let missing = engine.fork(&graph, run, 9).await;
    assert!(
        matches!(missing, Err(EngineError::NoStep { seq: 9, .. })),
        "{missing:?}"
    );
    let other = Graph::builder("other", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .start(FIRST)
        .compile()
        .unwrap();
    let other = engine.fork(&other, run, 1).await;
    assert!(
        matches!(other, Err(EngineError::OtherGraph { .. })),
        "{other:?}"
    );
    let changed = Graph::builder("history", 2)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .start(FIRST)
        .compile()
        .unwrap();
    let renamed = engine.fork(&changed, run, 1).await;
    assert!(
        matches!(renamed, Err(EngineError::Refused { .. })),
        "{renamed:?}"
    );
    assert_eq!(engine.forks(run, 10).await.unwrap(), []);
    beside.stop().await;
}

#[tokio::test]
async fn a_fork_keeps_the_rules_of_threads_ids_and_transactions() {
    let (engine, graph, run, beside) = completed().await;
    beside.stop().await;
    let forks = (0..8).map(|_| engine.fork(&graph, run, 1).thread("t").into_future());
    let forks = join_all(forks).await;
    assert_eq!(forks.iter().filter(|fork| fork.is_ok()).count(), 1);
    let id = RunId::random();
    let forks = (0..8).map(|_| engine.fork(&graph, run, 1).id(id).into_future());
    let forks = join_all(forks).await;
    assert_eq!(forks.iter().filter(|fork| fork.is_ok()).count(), 1);
    let mut tx = engine.pool().begin().await.unwrap();
    let lost = engine.fork(&graph, run, 1).in_tx(&mut tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(matches!(engine.run(lost).await, Err(EngineError::NoRun(_))));
    assert_eq!(engine.forks(run, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_run_tells_what_two_of_its_steps_differ_in() {
    let (engine, _, run, beside) = completed().await;
    let diff = engine.diff::<Log>(run, 1, 3).await.unwrap();
    let told = serde_json::to_value(&diff).unwrap();
    assert_eq!(
        told,
        serde_json::json!([
            { "kind": "added", "at": "/lines/1", "value": "second 0" },
            { "kind": "added", "at": "/lines/2", "value": "third" },
            { "kind": "changed", "at": "/turns", "from": 0, "to": 2 },
        ])
    );
    beside.stop().await;
}

/// A graph that asks, and a run of it that waits for the answer.
async fn asking() -> (Engine, Graph<Log>, RunId, Beside) {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("asking", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let answer: String = cx.ask("name", &"who?").await?;
            Ok(line(answer).into())
        })
        .node(SECOND, async |_: Context<Log>| Ok(line("second").into()))
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    (engine, graph, run, beside)
}

#[tokio::test]
async fn an_edit_as_a_node_of_a_run_that_waits_has_it_go_on() {
    let (engine, graph, run, beside) = asking().await;
    let asked = engine.questions(Some(run), 10).await.unwrap();
    let seq = engine
        .update_state(&graph, run, line("by hand"))
        .as_node(FIRST)
        .after(0)
        .await
        .unwrap();
    assert_eq!(seq, 1);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(lines(&engine, run).await, ["by hand", "second"]);
    let late = engine.answer(&asked[0], &"Ada").await;
    assert!(matches!(late, Err(EngineError::NotOpen { .. })), "{late:?}");
    let history = engine.history(run, 0, 10).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|step| (step.is_edit, step.nodes.join(",")))
        .collect();
    assert_eq!(
        told,
        [(true, "first".to_owned()), (false, "second".to_owned())]
    );
    beside.stop().await;
}

#[tokio::test]
async fn an_edit_is_refused_when_it_comes_late_or_the_run_is_at_work_or_has_ended() {
    let (engine, graph, run, beside) = asking().await;
    let late = engine.update_state(&graph, run, line("x")).after(7).await;
    assert!(
        matches!(late, Err(EngineError::MovedOn { newest: 0, .. })),
        "{late:?}"
    );
    sqlx::query(
        "update velo.queue set worker = 1, ready_at = null, wake_at = null where run_id = $1",
    )
    .bind(run)
    .execute(engine.pool())
    .await
    .unwrap();
    let busy = engine.update_state(&graph, run, line("x")).await;
    assert!(matches!(busy, Err(EngineError::AtWork(_))), "{busy:?}");
    sqlx::query("update velo.queue set worker = null where run_id = $1")
        .bind(run)
        .execute(engine.pool())
        .await
        .unwrap();
    assert!(engine.cancel(run).await.unwrap());
    let ended = engine.update_state(&graph, run, line("x")).await;
    assert!(matches!(ended, Err(EngineError::Ended(_))), "{ended:?}");
    beside.stop().await;
}

/// E1, beyond/two_writers: edits.
#[tokio::test]
async fn of_edits_of_the_same_step_at_once_one_is_committed() {
    let (engine, graph, run, beside) = asking().await;
    beside.stop().await;
    let edits = (0..8).map(|number| {
        let update = line(format!("edit {number}"));
        engine
            .update_state(&graph, run, update)
            .as_node(FIRST)
            .after(0)
            .into_future()
    });
    let edits = join_all(edits).await;
    assert_eq!(
        edits.iter().filter(|edit| edit.is_ok()).count(),
        1,
        "{edits:?}"
    );
    assert_eq!(lines(&engine, run).await.len(), 1);
    // What nothing follows ends the run.
    let end = engine
        .update_state(&graph, run, line("end"))
        .as_node(SECOND)
        .await
        .unwrap();
    assert_eq!(end, 2);
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Completed);
}

/// How many rows of the run are left, in all tables.
async fn rows(engine: &Engine, run: RunId) -> i64 {
    sqlx::query_scalar(
        "select (select count(*) from velo.run where id = $1)
              + (select count(*) from velo.step where run_id = $1)
              + (select count(*) from velo.memo where run_id = $1)
              + (select count(*) from velo.outcome where run_id = $1)
              + (select count(*) from velo.failure where run_id = $1)
              + (select count(*) from velo.wait where run_id = $1)
              + (select count(*) from velo.signal where run_id = $1)
              + (select count(*) from velo.queue where run_id = $1)
              + (select count(*) from velo.event where run_id = $1)
              + (select count(*) from velo.thread where run_id = $1)",
    )
    .bind(run)
    .fetch_one(engine.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_run_that_has_ended_can_be_deleted_and_its_fork_stays() {
    let (engine, graph, run, beside) = completed().await;
    let fork = engine.fork(&graph, run, 1).await.unwrap();
    assert!(engine.delete(run).await.unwrap());
    assert_eq!(rows(&engine, run).await, 0);
    assert!(!engine.delete(run).await.unwrap());
    assert_eq!(settled(&engine, fork).await.status, RunStatus::Completed);
    assert_eq!(
        engine.lineage(fork).await.unwrap(),
        [Origin { run, seq: 1 }]
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_has_not_ended_is_never_deleted() {
    let (engine, _, run, beside) = asking().await;
    let refused = engine.delete(run).await;
    assert!(
        matches!(refused, Err(EngineError::NotEnded(_))),
        "{refused:?}"
    );
    assert_eq!(engine.prune(std::time::Duration::ZERO, 0).await.unwrap(), 0);
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Waiting);
    assert!(engine.cancel(run).await.unwrap());
    assert!(engine.delete(run).await.unwrap());
    assert_eq!(rows(&engine, run).await, 0);
    beside.stop().await;
}

#[tokio::test]
async fn a_prune_keeps_the_newest_runs_of_each_thread() {
    let (engine, graph, alone, beside) = completed().await;
    let mut threaded = Vec::new();
    for _ in 0..3 {
        let run = engine
            .start(&graph, Log::default())
            .thread("t")
            .await
            .unwrap();
        settled(&engine, run).await;
        threaded.push(run);
    }
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(engine.prune(hour, 0).await.unwrap(), 0);
    assert_eq!(engine.prune(std::time::Duration::ZERO, 2).await.unwrap(), 2);
    assert!(engine.run(alone).await.is_err() && engine.run(threaded[0]).await.is_err());
    assert!(engine.run(threaded[1]).await.is_ok());
    let live = engine
        .fork(&graph, threaded[1], 1)
        .thread("t")
        .await
        .unwrap();
    settled(&engine, live).await;
    assert_eq!(engine.delete_thread("t").await.unwrap(), 3);
    assert_eq!(rows(&engine, live).await, 0);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_taken_to_another_database_comes_to_the_same_end() {
    let (engine, graph, run, beside) = asking().await;
    engine.signal(run, "hello", &1, Some("k")).await.unwrap();
    engine.signal(run, "nothing", &(), None).await.unwrap();
    settled(&engine, run).await;
    beside.stop().await;
    let export = engine.export(run).await.unwrap();
    let text = serde_json::to_string(&export).unwrap();
    let read: RunExport = serde_json::from_str(&text).unwrap();
    assert_eq!(read, export);

    let other = test_kit::engine().await;
    let imported = other.import(&read).await.unwrap();
    assert_ne!(imported, run);
    assert_eq!(other.run(imported).await.unwrap().status, RunStatus::Paused);
    let again = other.export(imported).await.unwrap();
    assert_eq!(again.steps, export.steps);
    assert_eq!(again.waits, export.waits);
    assert_eq!(again.signals.len(), 2);

    let beside = Beside::start(worker(&other, graph.clone()));
    assert!(other.resume(imported).await.unwrap());
    assert_eq!(settled(&other, imported).await.status, RunStatus::Waiting);
    let asked = other.questions(Some(imported), 10).await.unwrap();
    other.answer(&asked[0], &"Ada").await.unwrap();
    assert_eq!(settled(&other, imported).await.status, RunStatus::Completed);
    assert_eq!(lines(&other, imported).await, ["Ada", "second"]);
    beside.stop().await;
}

/// B79: a history from elsewhere.
#[tokio::test]
async fn a_run_that_has_ended_is_imported_with_its_whole_history() {
    let (engine, _, run, beside) = completed().await;
    let export = engine.export(run).await.unwrap();
    let other = test_kit::engine().await;
    let imported = other.import(&export).await.unwrap();
    assert_eq!(
        other.history(imported, -1, 100).await.unwrap(),
        engine.history(run, -1, 100).await.unwrap()
    );
    assert_eq!(
        other.state_at::<Log>(imported, 2).await.unwrap(),
        engine.state_at::<Log>(run, 2).await.unwrap()
    );
    beside.stop().await;
}

/// B79: what is refused.
#[tokio::test]
async fn what_is_no_export_is_not_imported() {
    let (engine, _, run, beside) = completed().await;
    let export = engine.export(run).await.unwrap();
    let spoil: [fn(&mut RunExport); 5] = [
        |export| export.version = 2,
        |export| drop(export.steps.remove(1)),
        |export| export.steps[0].snapshot = None,
        |export| export.steps[1].control = Payload::Hex("zz".to_owned()),
        |export| export.failures.push(serde_json::Map::new()),
    ];
    let before = engine.runs(&RunStatus::ALL, None, 10).await.unwrap();
    for spoil in spoil {
        let mut spoilt = export.clone();
        spoil(&mut spoilt);
        let refused = engine.import(&spoilt).await;
        assert!(
            matches!(refused, Err(EngineError::BadExport(_))),
            "{refused:?}"
        );
    }
    assert_eq!(
        engine.runs(&RunStatus::ALL, None, 10).await.unwrap(),
        before
    );
    beside.stop().await;
}
