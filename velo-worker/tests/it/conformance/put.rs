use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;
use velo_engine::{Origin, test_kit};

use super::support::{Kept, completed, full, graph, serve, states};
use crate::behaviours::support::history;
use crate::support::settled;

/// put/returns_config: a start returns the run, and each of its steps is found under its number.
/// put/roundtrip, put/preserves_channel_values: values of every kind come back as they were.
/// put/multiple_checkpoints_same_thread: after every step.
#[tokio::test]
async fn the_state_after_every_step_comes_back_as_it_was() {
    let (engine, _, runs, beside) = completed(&["t"]).await;
    for (seq, expected) in (0..).zip(states()) {
        let found: Kept = engine.state_at(runs[0], seq).await.unwrap();
        assert_eq!(found, expected, "after step {seq}");
    }
    assert_eq!(engine.state::<Kept>(runs[0]).await.unwrap(), states()[3]);
    beside.stop().await;
}

/// put/preserves_metadata, put/preserves_run_id: what was at work, what came next, when, by which lease,
/// and whether by hand.
/// put/parent_config: a step follows the one before it; a fork knows the step that it goes on from.
#[tokio::test]
async fn a_step_tells_how_it_came_about() {
    let (engine, graph, runs, beside) = completed(&["t"]).await;
    let told = history(&engine, runs[0]).await;
    let nodes: Vec<_> = told.iter().map(|step| step.nodes.join(" ")).collect();
    assert_eq!(nodes, ["", "one", "two", "three"]);
    for (before, after) in told.iter().zip(&told[1..]) {
        assert_eq!(before.seq + 1, after.seq);
        assert_eq!(before.next, after.nodes);
        assert!(before.at <= after.at);
        assert!((after.fence, after.is_edit) == (1, false));
    }
    let fork = engine.fork(&graph, runs[0], 2).await.unwrap();
    settled(&engine, fork).await;
    let origin = Origin {
        run: runs[0],
        seq: 2,
    };
    assert_eq!(engine.lineage(fork).await.unwrap(), [origin]);
    beside.stop().await;
}

/// put/multiple_threads_isolated: runs of one content in two threads do not mix.
#[tokio::test]
async fn runs_of_one_content_in_two_threads_know_nothing_of_each_other() {
    let (engine, graph, runs, beside) = completed(&["t", "u"]).await;
    beside.stop().await;
    let other = engine.start(&graph, full()).thread("t").await.unwrap();
    let edit = engine.update_state(&graph, other, Kept::update().number(9));
    edit.await.unwrap();
    for run in runs {
        assert_eq!(engine.state::<Kept>(run).await.unwrap(), states()[3]);
    }
    assert_eq!(engine.state::<Kept>(other).await.unwrap().number, 9);
}

/// put/incremental_channel_update: a step holds what was written in it, and nothing else.
#[tokio::test]
async fn a_step_stores_only_what_was_written_in_it() {
    let (engine, _, runs, beside) = completed(&["t"]).await;
    let deltas: Vec<String> = sqlx::query_scalar(
        "select convert_from(delta, 'utf8') from velo.step where run_id = $1 and seq > 0 order by seq",
    )
    .bind(runs[0])
    .fetch_all(engine.pool())
    .await
    .unwrap();
    assert_eq!(
        deltas,
        [
            r#"[["number",1]]"#,
            r#"[["text","two"]]"#,
            r#"[["list",[4]]]"#
        ]
    );
    beside.stop().await;
}

/// As [`Kept`] in a later version of the code: with a field more, and without two of those that it had.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Later {
    number: i64,
    #[state(append)]
    list: Vec<i64>,
    #[serde(default)]
    language: String,
    text: String,
}

/// put/new_channel_added: a new field has its default in old steps, and its value in new ones.
/// put/channel_removed: a field that is gone is not read.
#[tokio::test]
async fn a_state_type_may_gain_and_lose_fields_while_a_run_waits() {
    let (engine, old) = (test_kit::engine().await, graph());
    let run = engine.start(&old, full()).await.unwrap();
    const FIRST: NodeKey<Later> = NodeKey::new("one");
    let new = Graph::builder("kept", 1)
        .node(FIRST, async |cx: Context<Later>| {
            assert_eq!(cx.state().language, "");
            Ok(Later::update().language("en").number(2).into())
        })
        .start(FIRST)
        .compile()
        .unwrap();
    let worker = velo_worker::Worker::builder(engine.clone()).serve(new);
    let beside = crate::support::Beside::start(worker);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let later: Later = engine.state(run).await.unwrap();
    assert_eq!((&*later.language, later.number), ("en", 2));
    assert_eq!(later.list, [1, 2, 3]);
    let before: Later = engine.state_at(run, 0).await.unwrap();
    assert_eq!(before.language, "");
    beside.stop().await;
}

/// put/root_namespace, put/child_namespace, put/default_namespace: a child is a run of its own below its
/// parent, and a run that no node has started has none.
/// list/by_namespace, list/several_namespaces: a run's children are listed, and so are both among all.
#[tokio::test]
async fn a_child_keeps_its_steps_apart_from_its_parents() {
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
    let run = engine.start(&parent, Kept::default()).await.unwrap();
    let beside = serve(&engine, &parent);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let child = engine.children(run, 10).await.unwrap().remove(0);
    assert_eq!(engine.state::<Kept>(child.run).await.unwrap(), states()[3]);
    let only_text = Kept {
        text: "two".to_owned(),
        ..Kept::default()
    };
    assert_eq!(engine.state::<Kept>(run).await.unwrap(), only_text);
    assert_eq!(history(&engine, run).await.len(), 2);
    assert_eq!(engine.path(run).await.unwrap(), []);
    let all = engine.runs(&RunStatus::ALL, None, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    let path = engine.path(child.run).await.unwrap();
    assert_eq!((path.len(), path[0].node.as_str()), (1, "part"));
    beside.stop().await;
}
