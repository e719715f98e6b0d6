//! A fleet in the test's own process: time that passes in a moment, workers that die or are cut off.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod random;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use velo_engine::Why;
use velo_engine::prelude::*;
use velo_engine::schedule::Spec;
use velo_engine::test_kit::Script;
use velo_worker::test_kit::Fleet;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Log {
    #[state(append)]
    lines: Vec<String>,
}

fn line(text: impl Into<String>) -> LogUpdate {
    Log::update().lines(vec![text.into()])
}

const FIRST: NodeKey<Log> = NodeKey::new("first");

fn single(node: impl Node<Log>) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .retry(
            FIRST,
            RetryPolicy {
                max_attempts: 5,
                first_delay: DAY,
                factor: 2.0,
                max_delay: 30 * DAY,
            },
        )
        .start(FIRST)
        .compile()
        .unwrap()
}

async fn fleet(workers: usize, graph: &Graph<Log>) -> Fleet {
    let graph = graph.clone();
    Fleet::start(workers, move |worker| worker.serve(graph.clone())).await
}

#[tokio::test]
async fn a_run_that_sleeps_for_months_ends_in_a_moment_and_sees_the_later_time() {
    let graph = single(async |cx: Context<Log>| {
        cx.sleep("a while", 90 * DAY).await?;
        Ok(line("awake").into())
    });
    let fleet = fleet(2, &graph).await;
    let before = fleet.clock().now().await;
    let run = fleet.engine().start(&graph, Log::default()).await.unwrap();
    assert_eq!(fleet.settled(run).await.status, RunStatus::Completed);
    let run = fleet.engine().run(run).await.unwrap();
    let slept = run.finished_at.unwrap() - before;
    assert_eq!(
        slept.num_days(),
        90,
        "all times in the database are of the later day"
    );
    fleet.stop().await;
}

#[tokio::test]
async fn attempts_fail_as_the_script_says_and_days_between_them_are_not_waited_for() {
    let graph = single(async |_: Context<Log>| Ok(line("done").into()));
    let script = Script::new()
        .fail(FIRST, 1, NodeError::transient("offline"))
        .panic(FIRST, 2, "a bug")
        .fail_after(FIRST, 3, NodeError::transient("the answer was lost"));
    let graph = script.on(&graph);
    let fleet = fleet(2, &graph).await;
    let before = fleet.clock().now().await;
    let run = fleet.engine().start(&graph, Log::default()).await.unwrap();
    assert_eq!(fleet.settled(run).await.status, RunStatus::Completed);
    assert_eq!(script.begun(FIRST), 4);
    let days = (fleet.clock().now().await - before).num_days();
    assert_eq!(days, 7, "one day, two and four");

    let gives_up = Script::new().fail(FIRST, 1, NodeError::permanent("no such card"));
    let graph = gives_up.on(&graph);
    let other = self::fleet(1, &graph).await;
    let run = other.engine().start(&graph, Log::default()).await.unwrap();
    assert_eq!(other.settled(run).await.status, RunStatus::Paused);
    let reasons = other.no_unexplained().await;
    assert!(
        matches!(&reasons[..], [(found, Why::Paused { .. })] if *found == run),
        "{reasons:?}"
    );
    other.stop().await;
    fleet.stop().await;
}

/// A node that waits in its first attempt for a word of the test, and in later ones for nothing.
fn held(begun: &Arc<Notify>, go: &Arc<Notify>) -> Graph<Log> {
    let attempts = Arc::new(AtomicU32::new(0));
    let (begun, go) = (Arc::clone(begun), Arc::clone(go));
    single(move |_: Context<Log>| {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        async move {
            begun.notify_one();
            if attempt == 0 {
                go.notified().await;
            }
            Ok(line(format!("attempt {attempt}")).into())
        }
    })
}

/// The number of the worker that has the run.
async fn at_work(fleet: &Fleet, run: RunId) -> usize {
    match fleet.engine().why(run).await.unwrap() {
        Why::Running { name, .. } => name.rsplit(' ').next().unwrap().parse().unwrap(),
        why => panic!("nobody has it: {why}"),
    }
}

#[tokio::test]
async fn what_a_killed_worker_had_is_done_by_another_one_without_waiting_for_its_lease() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let graph = held(&begun, &go);
    let mut fleet = fleet(2, &graph).await;
    let run = fleet.engine().start(&graph, Log::default()).await.unwrap();
    begun.notified().await;
    let worker = at_work(&fleet, run).await;
    fleet.kill(worker).await;
    assert_eq!(fleet.settled(run).await.status, RunStatus::Completed);
    let state: Log = fleet.engine().state(run).await.unwrap();
    assert_eq!(state.lines, ["attempt 1"]);
    fleet.stop().await;
}

#[tokio::test]
async fn a_worker_that_was_cut_off_comes_back_too_late_to_change_anything() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let graph = held(&begun, &go);
    let fleet = fleet(2, &graph).await;
    let run = fleet.engine().start(&graph, Log::default()).await.unwrap();
    begun.notified().await;
    let worker = at_work(&fleet, run).await;
    fleet.pause_past_lease(worker).await;
    // It finishes, and says so to nobody.
    go.notify_one();
    assert_eq!(fleet.settled(run).await.status, RunStatus::Completed);
    fleet.resume(worker);
    let state: Log = fleet.engine().state(run).await.unwrap();
    assert_eq!(state.lines, ["attempt 1"]);
    fleet.stop().await;
}

#[tokio::test]
async fn schedules_fire_and_questions_expire_while_time_is_skipped() {
    let graph = single(async |cx: Context<Log>| {
        let answer: String = cx
            .ask("well", &"?")
            .or_after(10 * DAY, "nobody".to_owned())
            .await?;
        Ok(line(answer).into())
    });
    let fleet = fleet(1, &graph).await;
    let engine = fleet.engine();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // Somebody may still answer, so that is not skipped unasked.
    assert!(!fleet.settled(run).await.status.is_terminal());
    assert_eq!(engine.questions(Some(run), 10).await.unwrap().len(), 1);

    let every_day = Spec::every(DAY).unwrap();
    engine
        .schedule(&graph, "daily", every_day, Log::default())
        .create()
        .await
        .unwrap();
    fleet.skip(4 * DAY + DAY / 2).await;
    let fires = engine.unfinished(None, 100).await.unwrap().len() - 1;
    assert!(
        (1..=5).contains(&fires),
        "overlapping ones are skipped: {fires}"
    );
    fleet.skip(8 * DAY).await;
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["nobody"]);
    fleet.no_unexplained().await;
    fleet.stop().await;
}
