use velo_engine::prelude::*;
use velo_engine::test_kit;

use super::support::{Kept, completed, full, serve, states};
use crate::support::settled;

/// delta_channel_history/oldest_first: what was written since the snapshot is applied in its order.
/// delta_channel_history/nearest_snapshot: the newest snapshot before the step is begun with.
/// delta_channel_history/seed_writes_replayed, delta_channel_history/several_channels: one snapshot has all
/// fields as they were after its step.
#[tokio::test]
async fn every_step_across_snapshots_is_read_back_from_the_nearest_of_them() {
    const AGAIN: NodeKey<Kept> = NodeKey::new("again");
    const STEPS: i64 = 60;
    let engine = test_kit::engine().await;
    let graph = Graph::builder("long", 1)
        .node(AGAIN, async |cx: Context<Kept>| {
            let number = cx.state().number + 1;
            // Long enough for a snapshot now and then.
            let text = format!("{number} {}", "x".repeat(1_000));
            let update = Kept::update().number(number).list(vec![number]).text(text);
            Ok(if number < STEPS {
                update.goto(AGAIN)
            } else {
                update.end()
            })
        })
        .start(AGAIN)
        .may_go(AGAIN, AGAIN)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Kept::default()).await.unwrap();
    let beside = serve(&engine, &graph);
    settled(&engine, run).await;
    let snapshots: i64 = sqlx::query_scalar("select count(snapshot) from velo.step where seq > 0")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert!(snapshots > 1, "there is more than one seed to begin with");
    for seq in 0..=i32::try_from(STEPS).unwrap() {
        let found: Kept = engine.state_at(run, seq).await.unwrap();
        let expected: Vec<_> = (1..=i64::from(seq)).collect();
        assert_eq!((found.number, found.list), (i64::from(seq), expected));
        assert!(seq == 0 || found.text.starts_with(&format!("{seq} ")));
    }
    beside.stop().await;
}

/// delta_channel_history/to_the_root: a run without a later snapshot is read from its start.
/// delta_channel_history/plain_value: the start is a snapshot, so that a value that was there before is a
/// seed.
#[tokio::test]
async fn a_short_run_is_read_from_its_start() {
    let (engine, _, runs, beside) = completed(&["t"]).await;
    let snapshots: Vec<i32> =
        sqlx::query_scalar("select seq from velo.step where snapshot is not null")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    assert_eq!(snapshots, [0]);
    assert_eq!(engine.state::<Kept>(runs[0]).await.unwrap(), states()[3]);
    beside.stop().await;
}

/// delta_channel_history/no_channels: a step in which nothing was written.
#[tokio::test]
async fn a_step_that_wrote_nothing_is_read_as_the_one_before_it() {
    const QUIET: NodeKey<Kept> = NodeKey::new("quiet");
    let engine = test_kit::engine().await;
    let graph = Graph::builder("quiet", 1)
        .node(QUIET, async |_: Context<Kept>| Ok(Next::none()))
        .start(QUIET)
        .compile()
        .unwrap();
    let run = engine.start(&graph, full()).await.unwrap();
    let beside = serve(&engine, &graph);
    settled(&engine, run).await;
    assert_eq!(engine.state_at::<Kept>(run, 1).await.unwrap(), full());
    beside.stop().await;
}

/// delta_channel_history/own_pending_excluded: what is written in the step that is under way is not in it.
#[tokio::test]
async fn the_state_at_a_step_has_nothing_of_the_step_after_it() {
    const DONE: NodeKey<Kept> = NodeKey::new("done");
    const ASK: NodeKey<Kept> = NodeKey::new("ask");
    let engine = test_kit::engine().await;
    let graph = Graph::builder("pending", 1)
        .node(DONE, async |_: Context<Kept>| {
            Ok(Kept::update().list(vec![4]).into())
        })
        .node(ASK, async |cx: Context<Kept>| {
            let number: i64 = cx.ask("number", &"which?").await?;
            Ok(Kept::update().number(number).into())
        })
        .start(DONE)
        .start(ASK)
        .compile()
        .unwrap();
    let run = engine.start(&graph, full()).await.unwrap();
    let beside = serve(&engine, &graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    assert_eq!(engine.export(run).await.unwrap().outcomes.len(), 1);
    assert_eq!(engine.state_at::<Kept>(run, 0).await.unwrap(), full());
    assert_eq!(engine.state::<Kept>(run).await.unwrap(), full());
    beside.stop().await;
}
