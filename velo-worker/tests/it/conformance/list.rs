use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

use super::support::{completed, full, graph};

/// list/all, list/newest_first: runs, the newest first.
/// list/before, list/limit, list/before_and_limit: by pages.
/// list/empty: of a database without any.
/// list/metadata_filter, list/filter_several, list/no_match: by how they stand.
#[tokio::test]
async fn runs_are_listed_newest_first_by_status_and_by_pages() {
    let empty = test_kit::engine().await;
    let none = empty.runs(&RunStatus::ALL, None, 10).await.unwrap();
    assert_eq!(none, []);

    let (engine, graph, mut runs, beside) = completed(&["t", "t", "u"]).await;
    beside.stop().await;
    runs.push(engine.start(&graph, full()).await.unwrap());
    runs.sort();
    runs.reverse();
    let ids = async |statuses: &[RunStatus], before, limit| -> Vec<RunId> {
        let found = engine.runs(statuses, before, limit).await.unwrap();
        found.into_iter().map(|run| run.id).collect()
    };
    assert_eq!(ids(&RunStatus::ALL, None, 10).await, runs);
    assert_eq!(ids(&RunStatus::ALL, None, 2).await, runs[..2]);
    assert_eq!(ids(&RunStatus::ALL, Some(runs[1]), 10).await, runs[2..]);
    assert_eq!(ids(&RunStatus::ALL, Some(runs[0]), 1).await, runs[1..2]);
    assert_eq!(ids(&[RunStatus::Active], None, 10).await, runs[..1]);
    assert_eq!(ids(&[RunStatus::Completed], None, 10).await, runs[1..]);
    let either = [RunStatus::Active, RunStatus::Completed];
    assert_eq!(ids(&either, None, 10).await, runs);
    assert_eq!(ids(&[RunStatus::Paused], None, 10).await, []);
    assert_eq!(ids(&[], None, 10).await, []);
    let live = engine.unfinished(None, 10).await.unwrap();
    assert_eq!((live.len(), live[0].id), (1, runs[0]));
}

/// list/by_thread: the steps of one run, oldest first, and none of another's.
/// list/filter_step: after a step.
#[tokio::test]
async fn the_steps_of_a_run_are_listed_oldest_first_and_no_others() {
    let (engine, _, runs, beside) = completed(&["t", "u"]).await;
    for run in runs {
        let steps = engine.steps(run, -1, 10).await.unwrap();
        let seqs: Vec<_> = steps.iter().map(|step| step.seq).collect();
        assert_eq!(seqs, [0, 1, 2, 3]);
        let later = engine.steps(run, 1, 10).await.unwrap();
        assert_eq!((later.len(), later[0].seq), (2, 2));
    }
    let nobody = engine.steps(RunId::from_i64(7), -1, 10).await.unwrap();
    assert!(nobody.is_empty());
    beside.stop().await;
}

/// list/pending_writes: a run that has not ended is listed with how far it is.
#[tokio::test]
async fn a_listed_run_tells_how_far_it_is() {
    let engine = test_kit::engine().await;
    let graph = graph();
    let run = engine.start(&graph, full()).thread("t").await.unwrap();
    let listed = engine
        .runs(&RunStatus::ALL, None, 1)
        .await
        .unwrap()
        .remove(0);
    assert_eq!((listed.id, listed.steps), (run, 0));
    assert_eq!(listed.thread.as_deref(), Some("t"));
    assert_eq!(listed, engine.run(run).await.unwrap());
}
