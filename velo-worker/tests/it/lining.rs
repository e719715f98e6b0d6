//! The line of ready runs, and what a claim reads of it.

use std::time::Duration;

use velo_engine::lease::Incarnation;
use velo_engine::prelude::*;
use velo_engine::{Happening, test_kit};

use crate::proxy::Proxy;
use crate::support::{Beside, Log, settled, steady, until};

const ONLY: NodeKey<Log> = NodeKey::new("only");

fn graph() -> Graph<Log> {
    Graph::builder("line", 1)
        .node(ONLY, async |_: Context<Log>| Ok(Next::end()))
        .start(ONLY)
        .compile()
        .unwrap()
}

async fn incarnation(engine: &Engine) -> Incarnation {
    let long = Duration::from_secs(600);
    Incarnation::register(engine.pool(), "test", "nowhere", 1, long)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_claim_behind_a_place_leaves_what_is_in_front_and_one_of_the_whole_line_finds_it() {
    let engine = test_kit::engine().await;
    let (graph, worker) = (graph(), incarnation(&engine).await);
    let codes = [graph.code().to_owned()];
    for _ in 0..3 {
        engine.start(&graph, Log::default()).await.unwrap();
    }
    let (claims, last) = worker
        .claim_after(engine.pool(), &codes, 2, None, None)
        .await
        .unwrap();
    assert_eq!(claims.len(), 2);
    assert!(last.is_some());
    let urgent = engine.start(&graph, Log::default()).priority(-5);
    let urgent = urgent.await.unwrap();
    let (behind, later) = worker
        .claim_after(engine.pool(), &codes, 9, None, last)
        .await
        .unwrap();
    assert_eq!(behind.len(), 1);
    assert_ne!(behind[0].lease.run, urgent);
    let (none, nowhere) = worker
        .claim_after(engine.pool(), &codes, 9, None, later)
        .await
        .unwrap();
    assert!(none.is_empty());
    assert_eq!(nowhere, None);
    let whole = worker.claim(engine.pool(), &codes, 9, None).await.unwrap();
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].lease.run, urgent);
}

#[tokio::test]
async fn a_claim_reads_what_it_leases_however_many_are_ready_and_whatever_the_planner_knows() {
    const READY: i64 = 3_000;
    let engine = test_kit::engine().await;
    let (graph, worker) = (graph(), incarnation(&engine).await);
    engine.start(&graph, Log::default()).await.unwrap();
    // Without an analysis of the table, which then looks as short as it was.
    sqlx::query("alter table velo.queue set (autovacuum_enabled = off)")
        .execute(engine.pool())
        .await
        .unwrap();
    sqlx::query("insert into velo.queue (run_id, code, ready_at) select g, $1, clock_timestamp() from generate_series(1, $2) g")
        .bind(graph.code())
        .bind(READY)
        .execute(engine.pool())
        .await
        .unwrap();
    let mut transaction = engine.pool().begin().await.unwrap();
    let codes = [graph.code().to_owned()];
    let claims = worker.claim(&mut *transaction, &codes, 4, None).await;
    assert_eq!(claims.unwrap().len(), 4);
    let read: i64 = sqlx::query_scalar(
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'velo.queue'::regclass",
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert!(read > 0, "the counters are on");
    assert!(read < 100, "{read} of {READY} rows were read");
}

#[tokio::test]
async fn a_run_of_a_higher_priority_is_begun_before_the_line_that_a_busy_worker_walks_along() {
    let engine = test_kit::engine().await;
    let graph = graph();
    let (observer, mut seen) = tokio::sync::broadcast::channel(10_000);
    for _ in 0..300 {
        engine.start(&graph, Log::default()).await.unwrap();
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let worker = velo_worker::Worker::builder(engine.clone())
        .serve(graph.clone())
        .concurrency(1)
        .observe(observer)
        .run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);
    seen.recv().await.unwrap();
    let urgent = engine.start(&graph, Log::default()).priority(-9);
    let urgent = urgent.await.unwrap();
    // It goes on beside the others, and not after them.
    let mut after = 0;
    let mut is_begun = false;
    for _ in 0..=300 {
        let happened = loop {
            let seen = seen.recv().await.unwrap();
            if matches!(seen.what, Happening::Finished) {
                break seen;
            }
        };
        after += usize::from(is_begun);
        is_begun |= happened.run == urgent;
        if after > 0 {
            break;
        }
    }
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert!(after > 0, "it was begun after all others");
}

#[tokio::test]
async fn a_worker_whose_database_is_away_asks_for_it_now_and_then() {
    const AWAY: Duration = Duration::from_secs(3);
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = graph();
    let beside = Beside::start(steady(&proxy.engine, graph.clone()));
    // Until it walks along the line.
    for _ in 0..3 {
        let run = engine.start(&graph, Log::default()).await.unwrap();
        settled(&engine, run).await;
    }
    proxy.close();
    until(async || proxy.refused() > 0).await;
    tokio::time::sleep(AWAY).await;
    let refused = proxy.refused();
    proxy.open();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    settled(&engine, run).await;
    beside.stop().await;
    assert!(refused < 200, "{refused} connections were tried");
}
