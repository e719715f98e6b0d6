use std::time::Duration;

use super::support::{Kept, completed, full, rows, states};
use crate::support::settled;

/// prune/keep_latest_one_thread, prune/keep_latest_several_threads: the newest of each thread stays.
/// prune/keeps_latest_writes: whole.
/// prune/unknown_thread, prune/empty_list: a second time there is nothing to do.
#[tokio::test]
async fn a_prune_keeps_the_newest_of_each_thread_whole() {
    let (engine, _, runs, beside) = completed(&["t", "u", "t", "u", "t"]).await;
    assert_eq!(engine.prune(Duration::ZERO, 1).await.unwrap(), 3);
    for gone in &runs[..3] {
        assert_eq!(rows(&engine, *gone).await, 0);
    }
    for kept in &runs[3..] {
        assert_eq!(engine.state::<Kept>(*kept).await.unwrap(), states()[3]);
        assert_eq!(engine.history(*kept, -1, 10).await.unwrap().len(), 4);
    }
    assert_eq!(engine.prune(Duration::ZERO, 1).await.unwrap(), 0);
    beside.stop().await;
}

/// prune/delete_all: with nothing to keep, all that has ended goes.
/// prune/others_untouched: what has not ended, or not long ago, stays.
#[tokio::test]
async fn a_prune_of_everything_leaves_what_has_not_ended() {
    let (engine, graph, runs, beside) = completed(&["t", "u"]).await;
    beside.stop().await;
    let live = engine.start(&graph, full()).thread("t").await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(engine.prune(hour, 0).await.unwrap(), 0);
    // The live run may still be rolled back to what its thread was before it.
    assert_eq!(engine.prune(Duration::ZERO, 0).await.unwrap(), 1);
    assert_eq!(rows(&engine, runs[1]).await, 0);
    let beside = super::support::serve(&engine, &graph);
    settled(&engine, live).await;
    assert_eq!(engine.state::<Kept>(live).await.unwrap(), states()[3]);
    assert_eq!(engine.prune(Duration::ZERO, 0).await.unwrap(), 2);
    assert_eq!(rows(&engine, runs[0]).await, 0);
    beside.stop().await;
}
