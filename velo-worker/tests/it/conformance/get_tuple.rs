use velo_engine::prelude::*;
use velo_engine::{EngineError, test_kit};

use super::support::{Kept, completed, full, graph, states};
use crate::support::settled;

/// get_tuple/unknown_thread: a run that never was is said not to be there.
/// get_tuple/unknown_id: nor is a step that it has not committed.
#[tokio::test]
async fn what_never_was_is_an_error_that_says_so() {
    let (engine, _, runs, beside) = completed(&["t"]).await;
    let nobody = RunId::from_i64(7);
    let missing = [
        engine.state::<Kept>(nobody).await,
        engine.state_at::<Kept>(nobody, 0).await,
    ];
    for missing in missing {
        assert!(
            matches!(missing, Err(EngineError::NoRun(run)) if run == nobody),
            "{missing:?}"
        );
    }
    assert!(matches!(
        engine.run(nobody).await,
        Err(EngineError::NoRun(_))
    ));
    let beyond = engine.state_at::<Kept>(runs[0], 4).await;
    assert!(
        matches!(beyond, Err(EngineError::NoStep { seq: 4, .. })),
        "{beyond:?}"
    );
    beside.stop().await;
}

/// get_tuple/latest, get_tuple/by_id: without a step the newest, with one that step.
/// get_tuple/checkpoint_fields: the step's number, the state, and what comes next.
/// get_tuple/config, get_tuple/metadata: the run, its graph, thread and times.
#[tokio::test]
async fn a_checkpoint_has_its_number_its_state_and_what_comes_next() {
    let (engine, _, runs, beside) = completed(&["t"]).await;
    let newest = engine.checkpoint::<Kept>(runs[0]).await.unwrap();
    let third = engine.checkpoint_at::<Kept>(runs[0], 3).await.unwrap();
    assert_eq!(newest, third);
    assert_eq!((newest.step, newest.tasks.len()), (3, 0));
    let second = engine.checkpoint_at::<Kept>(runs[0], 2).await.unwrap();
    assert_eq!((second.step, &second.state), (2, &states()[2]));
    assert_eq!(second.tasks[0].node, "three");
    let run = engine.run(runs[0]).await.unwrap();
    assert_eq!(
        (run.graph.as_str(), run.version, run.thread.as_deref()),
        ("kept", 1, Some("t"))
    );
    assert!(run.created_at <= run.finished_at.unwrap());
    beside.stop().await;
}

/// get_tuple/parent: the start has nothing before it; every other step has.
#[tokio::test]
async fn the_first_step_is_the_start_and_was_made_by_no_node() {
    let engine = test_kit::engine().await;
    let run = engine.start(&graph(), full()).await.unwrap();
    let steps = engine.history(run, -1, 10).await.unwrap();
    assert_eq!((steps.len(), steps[0].seq, steps[0].fence), (1, 0, 0));
    assert!(steps[0].nodes.is_empty() && !steps[0].is_edit);
    assert_eq!(steps[0].next, ["one"]);
    assert_eq!(engine.lineage(run).await.unwrap(), []);
}

/// get_tuple/pending_writes: a paused run tells what has failed; what has finished is in its export.
/// get_tuple/namespace: a child is asked for by its own id.
#[tokio::test]
async fn a_paused_child_tells_what_has_failed_and_its_parent_tells_of_it() {
    const FAIL: NodeKey<Kept> = NodeKey::new("fail");
    const PART: NodeKey<Kept> = NodeKey::new("part");
    let engine = test_kit::engine().await;
    let part = Graph::builder("part", 1)
        .node(FAIL, async |_: Context<Kept>| {
            Err(NodeError::permanent("no"))
        })
        .start(FAIL)
        .compile()
        .unwrap();
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
    let run = engine.start(&parent, Kept::default()).await.unwrap();
    let beside = super::support::serve(&engine, &parent);
    crate::support::until(async || !engine.children(run, 1).await.unwrap().is_empty()).await;
    let child = engine.children(run, 1).await.unwrap().remove(0).run;
    let paused = settled(&engine, child).await;
    let error = paused.error.unwrap();
    assert_eq!(
        (&error["node"], &error["task"]),
        (&"fail".into(), &0.into())
    );
    assert_eq!(engine.state::<Kept>(child).await.unwrap(), full());
    assert_eq!(engine.state::<Kept>(run).await.unwrap(), Kept::default());
    assert_eq!(engine.export(child).await.unwrap().failures.len(), 1);
    beside.stop().await;
}
