use serde_json::json;
use sqlx::{Executor, SqlSafeStr};
use velo_engine::prelude::*;
use velo_engine::{RunStatus, STATEMENTS, test_kit};

use crate::support::{Beside, Log, line, settled, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");

#[tokio::test]
async fn every_statement_prepares_on_the_migrated_schema() {
    let engine = test_kit::engine().await;
    for statement in STATEMENTS {
        engine
            .pool()
            .prepare((*statement).into_sql_str())
            .await
            .unwrap_or_else(|error| panic!("{statement}\n{error}"));
    }
}

#[tokio::test]
async fn a_chain_runs_to_its_end_and_every_step_is_a_row() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("chain", 1)
        .node(FIRST, async |_: Context<Log>| Ok(line("one").into()))
        .node(SECOND, async |cx: Context<Log>| {
            Ok(line(format!("two after {:?}", cx.state().lines)).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let found = settled(&engine, run).await;
    assert_eq!(
        (found.status, found.steps, found.is_leased),
        (RunStatus::Completed, 2, false)
    );
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["one", r#"two after ["one"]"#]);
    let steps = engine.steps(run, -1, 10).await.unwrap();
    assert_eq!(
        steps.iter().map(|step| step.seq).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    // One lease for the whole chain: the worker kept it.
    assert_eq!(
        steps.iter().map(|step| step.fence).collect::<Vec<_>>(),
        [0, 1, 1]
    );
    assert!(beside.stop().await.cut_off.is_empty());
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from velo.queue) + (select count(*) from velo.worker)",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn sends_run_together_and_are_merged_in_the_order_of_sending() {
    let engine = test_kit::engine().await;
    let gathered = std::sync::Arc::new(tokio::sync::Barrier::new(20));
    let graph = Graph::builder("fan", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..20))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let gathered = gathered.clone();
            async move {
                // Ends only if all are at work at once.
                gathered.wait().await;
                Ok(line(cx.input().to_string()).into())
            }
        })
        .node(SECOND, async |cx: Context<Log>| {
            Ok(Log::update().turns(cx.state().turns + 1).into())
        })
        .start(FIRST)
        .may_go(FIRST, EACH)
        .edge(EACH, SECOND)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(
        state.lines,
        (0..20).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(state.turns, 1);
    beside.stop().await;
}

#[tokio::test]
async fn a_long_history_is_read_back_from_its_newest_snapshot() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("long", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let turns = cx.state().turns + 1;
            let update = line("x".repeat(1_000)).turns(turns);
            Ok(if turns < 80 {
                update.goto(FIRST)
            } else {
                update.end()
            })
        })
        .start(FIRST)
        .may_go(FIRST, FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!((state.turns, state.lines.len()), (80, 80));
    let (deltas, snapshots): (i64, i64) = sqlx::query_as(
        "select sum(length(delta)), sum(length(snapshot)) filter (where seq > 0) from velo.step where run_id = $1",
    )
    .bind(run)
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert!(
        snapshots > 0 && snapshots < 2 * deltas,
        "{snapshots} bytes of snapshots for {deltas} of deltas"
    );
    beside.stop().await;
}

#[tokio::test]
async fn events_are_told_with_their_step_and_resources_are_found_by_type() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("telling", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let who = cx.resource::<String>()?;
            cx.emit("greeted", &json!({ "who": *who }))?;
            if cx.attempt() == 1 {
                return Err(NodeError::transient("once"));
            }
            Ok(Next::none())
        })
        .retry(
            FIRST,
            RetryPolicy {
                first_delay: std::time::Duration::ZERO,
                ..RetryPolicy::default()
            },
        )
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph).resource("Ada".to_owned()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let events = engine.events(run, 0, 10).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.seq, event.kind.as_str(), &event.body))
        .collect();
    assert_eq!(told, [(1, "greeted", &json!({ "who": "Ada" }))]);
    beside.stop().await;
}

#[tokio::test]
async fn a_worker_runs_only_what_it_has_code_for() {
    let engine = test_kit::engine().await;
    let build = |version| {
        Graph::builder("versioned", version)
            .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
            .start(FIRST)
            .compile()
            .unwrap()
    };
    let (old, new) = (build(1), build(2));
    let old_run = engine.start(&old, Log::default()).await.unwrap();
    let new_run = engine.start(&new, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, new));
    assert_eq!(settled(&engine, new_run).await.status, RunStatus::Completed);
    assert_eq!(engine.run(old_run).await.unwrap().status, RunStatus::Active);
    let both = Beside::start(worker(&engine, old));
    assert_eq!(settled(&engine, old_run).await.status, RunStatus::Completed);
    beside.stop().await;
    both.stop().await;
}

#[tokio::test]
async fn runs_that_wait_get_their_turn_while_a_long_one_goes_on() {
    let engine = test_kit::engine().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = stop.clone();
    let long = Graph::builder("long", 1)
        .node(FIRST, move |_: Context<Log>| {
            let seen = seen.clone();
            async move {
                let done = seen.load(std::sync::atomic::Ordering::SeqCst);
                Ok(if done { Next::end() } else { Next::goto(FIRST) })
            }
        })
        .start(FIRST)
        .may_go(FIRST, FIRST)
        .step_limit(u64::MAX)
        .compile()
        .unwrap();
    let short = Graph::builder("short", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::none()))
        .start(FIRST)
        .compile()
        .unwrap();
    let long_run = engine.start(&long, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, long).serve(short.clone()).concurrency(1));
    within(async {
        while !engine.run(long_run).await.unwrap().is_leased {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let short_run = engine.start(&short, Log::default()).await.unwrap();
    assert_eq!(
        settled(&engine, short_run).await.status,
        RunStatus::Completed
    );
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        settled(&engine, long_run).await.status,
        RunStatus::Completed
    );
    beside.stop().await;
}
