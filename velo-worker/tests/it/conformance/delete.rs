use velo_engine::prelude::*;
use velo_engine::{EngineError, test_kit};

use super::support::{Kept, completed, full, graph, rows, serve};
use crate::behaviours::support::{Sum, asked, lines, said};
use crate::support::settled;

/// delete_thread/removes_checkpoints, delete_thread/removes_writes: nothing is left of its runs.
/// delete_thread/other_threads: others stay.
/// delete_thread/unknown_thread: of one that never was, nothing is deleted.
#[tokio::test]
async fn a_deleted_thread_leaves_nothing_behind_and_others_alone() {
    let (engine, _, runs, beside) = completed(&["t", "t", "u"]).await;
    assert_eq!(engine.delete_thread("nobody").await.unwrap(), 0);
    assert_eq!(engine.delete_thread("t").await.unwrap(), 2);
    assert_eq!(engine.delete_thread("t").await.unwrap(), 0);
    assert_eq!(
        (rows(&engine, runs[0]).await, rows(&engine, runs[1]).await),
        (0, 0)
    );
    assert_eq!(rows(&engine, runs[2]).await, 5);
    beside.stop().await;
}

/// delete_thread/all_namespaces: the runs that its runs have started are runs of their own: they are pruned.
#[tokio::test]
async fn a_child_outlives_the_thread_of_its_parent_until_it_is_pruned() {
    const PART: NodeKey<Kept> = NodeKey::new("part");
    let (engine, part) = (test_kit::engine().await, graph());
    let parent = Graph::builder("parent", 1)
        .subgraph(
            PART,
            &part,
            |_| full(),
            |kept| Kept::update().text(kept.text),
        )
        .start(PART)
        .compile()
        .unwrap();
    let start = engine.start(&parent, Kept::default());
    let run = start.thread("t").await.unwrap();
    let beside = serve(&engine, &parent);
    settled(&engine, run).await;
    let child = engine.children(run, 10).await.unwrap().remove(0).run;
    assert_eq!(engine.delete_thread("t").await.unwrap(), 1);
    assert_eq!(rows(&engine, run).await, 0);
    assert!(engine.run(child).await.is_ok());
    let none = std::time::Duration::ZERO;
    assert_eq!(engine.prune(none, 0).await.unwrap(), 1);
    assert_eq!(rows(&engine, child).await, 0);
    beside.stop().await;
}

/// delete_for_runs/one_run, delete_for_runs/several_runs, delete_for_runs/others_kept: one by one.
/// delete_for_runs/removes_writes: with all that it had.
/// delete_for_runs/unknown_run, delete_for_runs/empty_list: nothing to delete is no error.
#[tokio::test]
async fn runs_are_deleted_one_by_one_with_all_that_they_had() {
    let (engine, _, runs, beside) = completed(&["t", "t", "u"]).await;
    for run in [runs[0], runs[2]] {
        assert!(engine.delete(run).await.unwrap());
        assert_eq!(rows(&engine, run).await, 0);
    }
    assert_eq!(rows(&engine, runs[1]).await, 5);
    assert!(!engine.delete(runs[0]).await.unwrap());
    assert!(!engine.delete(RunId::from_i64(7)).await.unwrap());
    beside.stop().await;
}

/// delete_for_runs/across_namespaces: a child that its parent may still look at is not deleted, nor is a
/// run that has not ended.
#[tokio::test]
async fn a_run_that_somebody_may_still_need_is_not_deleted() {
    const ASK: NodeKey<Sum> = NodeKey::new("ask");
    const PART: NodeKey<Sum> = NodeKey::new("part");
    const DONE: NodeKey<Sum> = NodeKey::new("done");
    let engine = test_kit::engine().await;
    let part = Graph::builder("part", 1)
        .node(DONE, async |_: Context<Sum>| Ok(said("part").into()))
        .start(DONE)
        .compile()
        .unwrap();
    let parent = Graph::builder("parent", 1)
        .subgraph(
            PART,
            &part,
            |_| Sum::default(),
            |sum| Sum::update().lines(sum.lines),
        )
        .node(ASK, async |cx: Context<Sum>| {
            let answer: String = cx.ask("name", &"who?").await?;
            Ok(said(answer).into())
        })
        .start(PART)
        .edge(PART, ASK)
        .compile()
        .unwrap();
    let run = engine.start(&parent, Sum::default()).await.unwrap();
    let beside = crate::behaviours::support::serve(&engine, parent);
    let question = asked(&engine, run).await;
    let child = engine.children(run, 10).await.unwrap().remove(0).run;
    for needed in [run, child] {
        let refused = engine.delete(needed).await;
        assert!(
            matches!(refused, Ok(false) | Err(EngineError::NotEnded(_))),
            "{refused:?}"
        );
    }
    engine.answer(&question, &"Ada").await.unwrap();
    assert_eq!(lines(&engine, run).await, ["part", "Ada"]);
    assert!(engine.delete(run).await.unwrap());
    assert!(engine.delete(child).await.unwrap());
    beside.stop().await;
}
