//! Failures in groups, the node that kills its process, operations on many runs, and checks of fences.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use velo_engine::lease::{self, Neighbour};
use velo_engine::prelude::*;
use velo_engine::{
    BulkAction, BulkStatus, FailureGroup, Fence, RunFilter, RunStatus, Why, test_kit,
};
use velo_worker::WorkerBuilder;

use crate::support::{self, Beside, Log, line, settled, until, within};

const WORK: NodeKey<Log> = NodeKey::new("work");
const OTHER: NodeKey<Log> = NodeKey::new("other");

/// One whose leases also a machine that is busy elsewhere keeps.
fn worker(engine: &Engine, graph: Graph<Log>) -> WorkerBuilder {
    support::worker(engine, graph).lease(Duration::from_secs(10))
}

fn single(work: impl Node<Log>) -> Graph<Log> {
    Graph::builder("failing", 1)
        .node(WORK, work)
        .start(WORK)
        .compile()
        .unwrap()
}

fn log(turns: u32) -> Log {
    Log {
        turns,
        ..Log::default()
    }
}

/// Fails in a way that depends on the turns, until it is mended.
fn failing(is_mended: &Arc<AtomicBool>) -> Graph<Log> {
    let is_mended = Arc::clone(is_mended);
    single(move |cx: Context<Log>| {
        let is_mended = is_mended.load(Ordering::SeqCst);
        async move {
            match cx.state().turns {
                _ if is_mended => Ok(line("done").into()),
                turns @ 0..10 => Err(NodeError::permanent(format!("order {turns} was refused"))),
                turns => Err(NodeError::permanent(format!("order {turns} was lost"))),
            }
        }
    })
}

async fn all_paused(engine: &Engine, graph: &Graph<Log>, turns: &[u32]) -> Vec<RunId> {
    let mut runs = Vec::new();
    for turns in turns {
        runs.push(engine.start(graph, log(*turns)).await.unwrap());
    }
    for run in &runs {
        assert_eq!(settled(engine, *run).await.status, RunStatus::Paused);
    }
    runs
}

fn counted(groups: &[FailureGroup]) -> Vec<(i64, &str)> {
    let counted = groups.iter().map(|group| (group.runs, message(group)));
    counted.collect()
}

fn message(group: &FailureGroup) -> &str {
    let error = group.error.as_ref().unwrap();
    error["message"].as_str().unwrap()
}

#[tokio::test]
async fn failures_that_are_alike_are_one_group_and_its_runs_are_tried_again_or_given_up() {
    let engine = test_kit::engine().await;
    let is_mended = Arc::new(AtomicBool::new(false));
    let graph = failing(&is_mended);
    let beside = Beside::start(worker(&engine, graph.clone()));
    let numbers = [1, 2, 3, 10, 11];
    let runs = all_paused(&engine, &graph, &numbers).await;
    let groups = engine.failures(&RunFilter::failed(), 10).await.unwrap();
    let (refused, lost) = (
        runs[..3].iter().max().unwrap(),
        runs[3..].iter().max().unwrap(),
    );
    // A group tells of its newest run, and ids that are drawn in the same millisecond are in any order.
    let number = |run: &RunId| numbers[runs.iter().position(|other| other == run).unwrap()];
    assert_eq!(
        counted(&groups),
        [
            (3, &*format!("order {} was refused", number(refused))),
            (2, &*format!("order {} was lost", number(lost)))
        ]
    );
    assert_eq!(
        (groups[0].node.as_deref(), groups[0].kind.as_deref()),
        (Some("work"), Some("permanent"))
    );
    assert!(groups[0].last_at.is_some() && groups[0].newest == *refused);

    // The lost ones are given up.
    let lost = RunFilter {
        fingerprint: groups[1].fingerprint.clone(),
        ..RunFilter::failed()
    };
    let found = engine.failed_runs(&lost, None, 10).await.unwrap();
    let mut expected = runs[3..].to_vec();
    expected.sort_unstable();
    assert_eq!(found.iter().map(|run| run.id).collect::<Vec<_>>(), expected);
    let reason = "nobody wants them".to_owned();
    let id = engine.bulk(&BulkAction::Terminate { reason }, &lost).await;
    let done = within(engine.wait_bulk(id.unwrap())).await.unwrap();
    assert_eq!(
        (done.status, done.matched, done.changed),
        (BulkStatus::Done, 2, 2)
    );
    let ended = engine.run(runs[4]).await.unwrap();
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(ended.error.unwrap()["message"], "nobody wants them");

    // The others are mended.
    is_mended.store(true, Ordering::SeqCst);
    let node = RunFilter {
        node: Some("work".to_owned()),
        ..RunFilter::failed()
    };
    let id = engine.bulk(&BulkAction::Resume, &node).await.unwrap();
    let done = within(engine.wait_bulk(id)).await.unwrap();
    assert_eq!((done.matched, done.changed), (3, 3));
    for run in &runs[..3] {
        assert_eq!(settled(&engine, *run).await.status, RunStatus::Completed);
    }
    assert!(
        engine
            .failures(&RunFilter::failed(), 10)
            .await
            .unwrap()
            .is_empty()
    );
    beside.stop().await;
}

#[tokio::test]
async fn of_two_that_redrive_the_same_run_one_has_it_go_on() {
    let engine = test_kit::engine().await;
    let graph = failing(&Arc::default());
    let beside = Beside::start(worker(&engine, graph.clone()));
    let runs = all_paused(&engine, &graph, &[1]).await;
    beside.stop().await;
    let (one, other) = tokio::join!(engine.resume(runs[0]), engine.resume(runs[0]));
    // A second call is told the same as one whose answer was lost: the run goes on.
    assert!(one.unwrap() && other.unwrap());
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, runs[0]).await.status, RunStatus::Paused);
    beside.stop().await;
    let attempts: i64 = sqlx::query_scalar("select count(*) from velo.failure where run_id = $1")
        .bind(runs[0])
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(attempts, 2, "the first one, and one for both");
}

#[tokio::test]
async fn an_operation_on_many_runs_goes_on_when_its_worker_dies_and_touches_no_others() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        cx.signal::<String>("never").await?;
        Ok(line("done").into())
    });
    let other = Graph::builder("bystander", 1)
        .node(OTHER, async |_: Context<Log>| Ok(line("done").into()))
        .start(OTHER)
        .compile()
        .unwrap();
    let mut runs = Vec::new();
    for _ in 0..230 {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let bystander = engine.start(&other, Log::default()).await.unwrap();
    let filter = RunFilter {
        graph: Some("failing".to_owned()),
        ..RunFilter::default()
    };
    let id = engine.bulk(&BulkAction::Cancel, &filter).await.unwrap();
    let late = engine.start(&graph, Log::default()).await.unwrap();
    // The first batch is done; whoever begins the second dies in the middle of it.
    assert!(engine.advance_bulk().await.unwrap());
    let first = engine.get_bulk(id).await.unwrap().unwrap();
    assert_eq!((first.status, first.matched), (BulkStatus::Running, 100));
    let dies = engine.clone();
    let batch = tokio::spawn(async move { dies.advance_bulk().await });
    until(async || {
        let ended: i64 =
            sqlx::query_scalar("select count(*) from velo.run where status = 'cancelled'")
                .fetch_one(engine.pool())
                .await
                .unwrap();
        ended > 100
    })
    .await;
    batch.abort();
    let _ = batch.await;
    let beside = Beside::start(worker(&engine, graph.clone()));
    until(async || {
        let bulk = engine.get_bulk(id).await.unwrap().unwrap();
        bulk.status == BulkStatus::Done
    })
    .await;
    for run in runs {
        assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Cancelled);
    }
    let rest = engine.run(bystander).await.unwrap();
    assert_eq!(rest.status, RunStatus::Active);
    let rest = engine.run(late).await.unwrap();
    assert!(!rest.status.is_terminal(), "it was not there when it began");
    beside.stop().await;
}

#[tokio::test]
async fn an_operation_that_is_stopped_leaves_the_rest_as_it_is() {
    let engine = test_kit::engine().await;
    let graph = failing(&Arc::default());
    for _ in 0..150 {
        engine.start(&graph, Log::default()).await.unwrap();
    }
    let id = engine
        .bulk(&BulkAction::Cancel, &RunFilter::default())
        .await;
    let id = id.unwrap();
    assert!(engine.advance_bulk().await.unwrap());
    assert!(engine.cancel_bulk(id).await.unwrap());
    assert!(!engine.cancel_bulk(id).await.unwrap());
    assert!(!engine.advance_bulk().await.unwrap());
    let left = engine.unfinished(None, 1_000).await.unwrap();
    assert_eq!(left.len(), 50);
    let listed = engine.bulks(10).await.unwrap();
    assert_eq!(
        (listed[0].status, listed[0].changed),
        (BulkStatus::Cancelled, 100)
    );
}

/// As if the process of the worker had died, and somebody had found it dead.
async fn kill(engine: &Engine, beside: Beside) {
    beside.die().await;
    for worker in engine.workers(10).await.unwrap() {
        let dead = Neighbour {
            id: worker.id,
            pid: worker.pid,
        };
        lease::bury(engine.pool(), dead).await.unwrap();
    }
}

#[tokio::test]
async fn the_node_that_kills_its_process_is_found_and_the_runs_beside_it_are_not_blamed() {
    let engine = test_kit::engine().await;
    let (poison, way_out) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (deadly, slow) = (Arc::clone(&poison), Arc::clone(&way_out));
    let begin = move |cx: Context<Log>| {
        let slow = Arc::clone(&slow);
        async move {
            if cx.state().turns == 1 {
                return Ok(Next::goto(OTHER));
            }
            slow.acquire().await?.forget();
            Ok(line("survived").into())
        }
    };
    let kill_me = move |_: Context<Log>| {
        let deadly = Arc::clone(&deadly);
        async move {
            deadly.notify_one();
            std::future::pending::<NodeResult<Log>>().await
        }
    };
    let graph = Graph::builder("failing", 1)
        .node(WORK, begin)
        .node(OTHER, kill_me)
        .start(WORK)
        .may_go(WORK, OTHER)
        .compile()
        .unwrap();
    let guilty = engine.start(&graph, log(1)).await.unwrap();
    let mut beside = Vec::new();
    for _ in 0..3 {
        beside.push(engine.start(&graph, log(0)).await.unwrap());
    }
    let mut deaths = 0;
    while engine.run(guilty).await.unwrap().status != RunStatus::Paused {
        let doomed = Beside::start(worker(&engine, graph.clone()));
        within(poison.notified()).await;
        kill(&engine, doomed).await;
        deaths += 1;
        if deaths == 2 {
            // From now on they would finish, if they were alone for a moment.
            way_out.add_permits(3);
        }
        assert!(deaths <= 6);
    }
    let why = engine.why(guilty).await.unwrap();
    assert_eq!(
        why,
        Why::Quarantined {
            node: Some("other".to_owned()),
            crashes: 5
        }
    );
    let groups = engine.failures(&RunFilter::failed(), 10).await.unwrap();
    assert_eq!(
        (groups.len(), groups[0].kind.as_deref()),
        (1, Some("crashed"))
    );
    let survivor = Beside::start(worker(&engine, graph));
    for run in beside {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    }
    survivor.stop().await;
}

#[tokio::test]
async fn a_third_party_in_the_same_database_can_check_and_keep_a_fence() {
    let engine = test_kit::engine().await;
    let (came, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (here, on) = (Arc::clone(&came), Arc::clone(&go_on));
    let graph = single(move |cx: Context<Log>| {
        let (here, on) = (Arc::clone(&here), Arc::clone(&on));
        async move {
            let (name, value) = cx.fence_header();
            assert_eq!(name, Fence::HEADER);
            here.notify_one();
            on.notified().await;
            Ok(line(value).into())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    within(came.notified()).await;
    let check = "select velo.check_fence($1, $2)";
    let mut transaction = engine.pool().begin().await.unwrap();
    let mut holds = Vec::new();
    for number in [0_i64, 1, 2] {
        let held: bool = sqlx::query_scalar(check)
            .bind(run)
            .bind(number)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        holds.push(held);
    }
    assert_eq!(holds, [false, true, false]);
    // Nobody takes the lease away before the transaction has ended.
    let worker = engine.workers(1).await.unwrap().remove(0);
    let dead = Neighbour {
        id: worker.id,
        pid: worker.pid,
    };
    let pool = engine.pool().clone();
    let taking = tokio::spawn(async move { lease::bury(&pool, dead).await });
    until(async || {
        let waits: bool = sqlx::query_scalar(
            "select exists (select from pg_locks where locktype = 'advisory' and not granted)",
        )
        .fetch_one(engine.pool())
        .await
        .unwrap();
        waits
    })
    .await;
    assert!(!taking.is_finished());
    transaction.commit().await.unwrap();
    assert_eq!(within(taking).await.unwrap().unwrap(), 1);
    let held: bool = sqlx::query_scalar(check)
        .bind(run)
        .bind(1_i64)
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert!(!held, "it was taken away");
    go_on.notify_waiters();
    within(came.notified()).await;
    go_on.notify_one();
    settled(&engine, run).await;
    let value = engine.state::<Log>(run).await.unwrap().lines.remove(0);
    let fence: Fence = value.parse().unwrap();
    assert_eq!((fence.run, fence.number), (run, 2));
    beside.stop().await;
}
