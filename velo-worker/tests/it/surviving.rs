use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

use crate::support::{Beside, Gate, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");

fn gated(gate: &Gate) -> Graph<Log> {
    let gate = gate.clone();
    Graph::builder("gated", 1)
        .node(FIRST, async |_: Context<Log>| Ok(line("first").into()))
        .node(SECOND, move |cx: Context<Log>| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(line(format!("second under fence {}", cx.fence())).into())
            }
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_run_of_a_dead_worker_goes_on_elsewhere_from_its_last_step() {
    let engine = test_kit::engine().await;
    let gate = Gate::default();
    let graph = gated(&gate);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let doomed = Beside::start(worker(&engine, graph.clone()));
    within(gate.came.notified()).await;
    doomed.die().await;
    let heir = Beside::start(worker(&engine, graph));
    within(gate.came.notified()).await;
    gate.open.notify_one();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(
        engine.state::<Log>(run).await.unwrap().lines,
        ["first", "second under fence 2"]
    );
    heir.stop().await;
}

#[tokio::test]
async fn a_stopping_worker_lets_its_nodes_finish_and_hands_the_runs_on() {
    let engine = test_kit::engine().await;
    let gate = Gate::default();
    let graph = Graph::builder("stop", 1)
        .node(FIRST, {
            let gate = gate.clone();
            move |_: Context<Log>| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    Ok(line("first").into())
                }
            }
        })
        .node(SECOND, async |_: Context<Log>| Ok(line("second").into()))
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let stopping = Beside::start(worker(&engine, graph.clone()));
    within(gate.came.notified()).await;
    stopping.ask_to_stop();
    gate.open.notify_one();
    assert!(stopping.stop().await.cut_off.is_empty());
    let between = engine.run(run).await.unwrap();
    assert_eq!((between.steps, between.is_leased), (1, false));
    let next = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(
        engine.state::<Log>(run).await.unwrap().lines,
        ["first", "second"]
    );
    next.stop().await;
}

#[tokio::test]
async fn nodes_that_do_not_end_in_time_are_dropped_and_named() {
    let engine = test_kit::engine().await;
    let gate = Gate::default();
    let graph = gated(&gate);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let stopping = Beside::start(worker(&engine, graph).grace(Duration::from_millis(50)));
    within(gate.came.notified()).await;
    assert_eq!(stopping.stop().await.cut_off, [run]);
    assert!(!engine.run(run).await.unwrap().is_leased);
}

#[tokio::test]
async fn a_node_that_blocks_its_thread_loses_no_lease() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("blocking", 1)
        .node(FIRST, async |cx: Context<Log>| {
            // Three times the lease, on the only thread that the worker has.
            std::thread::sleep(Duration::from_secs(3));
            Ok(line(format!("fence {}", cx.fence())).into())
        })
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["fence 1"]);
    beside.stop().await;
}

#[tokio::test]
async fn two_workers_share_the_load_and_one_alone_finishes_what_the_other_left() {
    const RUNS: usize = 40;
    let engine = test_kit::engine().await;
    let seen: Arc<Mutex<BTreeSet<&str>>> = Arc::default();
    let graph = |name: &'static str| {
        let seen = seen.clone();
        Graph::builder("shared", 1)
            .node(FIRST, async |_: Context<Log>| Ok(line("first").into()))
            .node(SECOND, move |_: Context<Log>| {
                seen.lock().unwrap().insert(name);
                async { Ok(line("second").into()) }
            })
            .start(FIRST)
            .edge(FIRST, SECOND)
            .compile()
            .unwrap()
    };
    let both = [
        Beside::start(worker(&engine, graph("one")).concurrency(2)),
        Beside::start(worker(&engine, graph("two")).concurrency(2)),
    ];
    let definition = graph("client");
    let mut runs = Vec::new();
    // As many as it takes: one worker alone may be through with a few before the other has looked.
    within(async {
        while runs.len() < RUNS || seen.lock().unwrap().len() < 2 {
            runs.push(engine.start(&definition, Log::default()).await.unwrap());
        }
    })
    .await;
    let [one, two] = both;
    one.die().await;
    for run in runs {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
        assert_eq!(
            engine.state::<Log>(run).await.unwrap().lines,
            ["first", "second"]
        );
    }
    two.stop().await;
}

#[tokio::test]
async fn connections_that_break_under_load_lose_and_repeat_nothing() {
    const RUNS: usize = 30;
    const STEPS: u32 = 20;
    let engine = test_kit::engine().await;
    sqlx::query("create table effect (run bigint, turn int)")
        .execute(engine.pool())
        .await
        .unwrap();
    let graph = Graph::builder("effects", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let turn = cx.state().turns + 1;
            // Every other step in a transaction of its own, so that both ways to commit are hit.
            if turn.is_multiple_of(2) {
                sqlx::query("insert into effect values ($1, $2)")
                    .bind(cx.run())
                    .bind(turn.cast_signed())
                    .execute(&mut *cx.tx().await?)
                    .await?;
            }
            let update = Log::update().turns(turn);
            Ok(if turn < STEPS {
                update.goto(FIRST)
            } else {
                update.end()
            })
        })
        .retry(
            FIRST,
            RetryPolicy {
                max_attempts: 1_000,
                first_delay: Duration::from_millis(5),
                factor: 1.0,
                ..RetryPolicy::default()
            },
        )
        .start(FIRST)
        .may_go(FIRST, FIRST)
        .compile()
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let killing = tokio::spawn({
        let engine = engine.clone();
        async move {
            for _ in 0..25 {
                // Its own connection dies too, now and then.
                let _ = sqlx::query(
                    "select pg_terminate_backend(pid) from pg_stat_activity \
                     where datname = current_database() and pid <> pg_backend_pid()",
                )
                .execute(engine.pool())
                .await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    within(killing).await.unwrap();
    for run in &runs {
        until(async || {
            engine
                .run(*run)
                .await
                .is_ok_and(|run| run.status != RunStatus::Active)
        })
        .await;
        assert_eq!(engine.run(*run).await.unwrap().status, RunStatus::Completed);
        assert_eq!(engine.state::<Log>(*run).await.unwrap().turns, STEPS);
    }
    let (effects, distinct): (i64, i64) =
        sqlx::query_as("select count(*), count(distinct (run, turn)) from effect")
            .fetch_one(engine.pool())
            .await
            .unwrap();
    let expected = i64::try_from(RUNS).unwrap() * i64::from(STEPS) / 2;
    assert_eq!((effects, distinct), (expected, expected));
    beside.stop().await;
}
