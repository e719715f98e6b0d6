use serde_json::{Map, Value, json};
use velo_engine::prelude::*;
use velo_engine::{RunExport, test_kit};

use crate::behaviours::support::{Sum, asked, line, lines, said, serve};
use crate::support::{Beside, settled};

const ASK: NodeKey<Sum> = NodeKey::new("ask");
const DONE: NodeKey<Sum> = NodeKey::new("done");
const FLAKY: NodeKey<Sum> = NodeKey::new("flaky");
const AFTER: NodeKey<Sum> = NodeKey::new("after");
const PART: NodeKey<Sum> = NodeKey::new("part");

/// Side by side: a node that asks, one that writes twice, one that fails and is tried again; then one more.
fn graph() -> Graph<Sum> {
    Graph::builder("writes", 1)
        .node(ASK, async |cx: Context<Sum>| {
            let answer: String = cx.ask("name", &"who?").await?;
            Ok(line(answer))
        })
        .node(DONE, async |_: Context<Sum>| {
            Ok(line("done").then(said("twice").value(7).into()))
        })
        .node(FLAKY, async |cx: Context<Sum>| match cx.attempt() {
            1 => Err(NodeError::transient("not yet")),
            _ => Ok(line("flaky")),
        })
        .node(AFTER, async |_: Context<Sum>| Ok(line("after")))
        .default_retry(RetryPolicy {
            first_delay: std::time::Duration::from_millis(10),
            ..RetryPolicy::default()
        })
        .start(ASK)
        .start(DONE)
        .start(FLAKY)
        .join([ASK, DONE, FLAKY], AFTER)
        .compile()
        .unwrap()
}

/// A run of [`graph`] whose question is open, and all else of its step is done.
async fn half_done() -> (Engine, RunId, Beside) {
    let engine = test_kit::engine().await;
    let graph = graph();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    (engine, run, beside)
}

fn text(row: &Map<String, Value>) -> String {
    Value::Object(row.clone()).to_string()
}

fn of(export: &RunExport, task: i32) -> Vec<&Map<String, Value>> {
    let rows = export.outcomes.iter();
    rows.filter(|row| row["task"] == json!(task)).collect()
}

/// put_writes/basic: what a finished task has written is kept before its step is committed.
/// put_writes/multiple_writes, put_writes/channel_and_value: all of it, in order.
/// put_writes/multiple_tasks, put_writes/task_id, put_writes/task_path: by its task, which is its place
/// in the step.
/// put_writes/special_channels: an error and a question are kept as what they are.
#[tokio::test]
async fn what_has_finished_failed_or_asks_in_a_step_is_kept_by_its_task() {
    let (engine, run, beside) = half_done().await;
    let export = engine.export(run).await.unwrap();
    assert_eq!(export.outcomes.len(), 2);
    // In the order of their names: ask, done, flaky.
    let (done, flaky) = (text(of(&export, 1)[0]), text(of(&export, 2)[0]));
    let at = |word: &str| done.find(word).unwrap();
    assert!(
        at("done") < at("twice") && at("twice") < at("value"),
        "{done}"
    );
    assert!(flaky.contains("flaky"), "{flaky}");
    assert!(export.outcomes.iter().all(|row| row["seq"] == json!(1)));
    assert_eq!(export.failures.len(), 1);
    assert_eq!(export.failures[0]["task"], json!(2));
    assert!(text(&export.failures[0]).contains("not yet"));
    assert_eq!(export.waits.len(), 1);
    assert_eq!(export.waits[0]["task"], json!(0));
    // And none of it is state before the step is committed.
    assert_eq!(engine.state::<Sum>(run).await.unwrap(), Sum::default());
    beside.stop().await;
}

/// put_writes/new_checkpoint: the next step begins with none of it.
#[tokio::test]
async fn a_committed_step_leaves_no_kept_outcome_behind() {
    let (engine, run, beside) = half_done().await;
    let question = asked(&engine, run).await;
    engine.answer(&question, &"Ada").await.unwrap();
    assert_eq!(
        lines(&engine, run).await,
        ["Ada", "done", "twice", "flaky", "after"]
    );
    let rows: i64 = sqlx::query_scalar("select count(*) from velo.outcome where seq > 1")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(rows, 0);
    beside.stop().await;
}

/// put_writes/isolation: a child keeps its own, and its parent has none of it.
#[tokio::test]
async fn what_a_child_has_finished_is_not_its_parents() {
    let (engine, part) = (test_kit::engine().await, graph());
    let parent = Graph::builder("parent", 1)
        .subgraph(
            PART,
            &part,
            |_| Sum::default(),
            |sum| Sum::update().lines(sum.lines),
        )
        .start(PART)
        .compile()
        .unwrap();
    let run = engine.start(&parent, Sum::default()).await.unwrap();
    let beside = serve(&engine, parent);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let child = engine.children(run, 10).await.unwrap().remove(0).run;
    settled(&engine, child).await;
    let outcomes = async |run| engine.export(run).await.unwrap().outcomes.len();
    assert_eq!((outcomes(run).await, outcomes(child).await), (0, 2));
    beside.stop().await;
}
