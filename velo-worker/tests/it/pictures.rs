//! Pictures of runs.

use std::sync::Arc;

use tokio::sync::Notify;
use velo_engine::prelude::*;
use velo_engine::{NodeProgress, NodeState, RunProgress, test_kit};

use crate::support::{Beside, Log, line, settled, until, within, worker};

const PLAN: NodeKey<Log> = NodeKey::new("plan");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");
const ASK: NodeKey<Log> = NodeKey::new("ask");
const FAIL: NodeKey<Log> = NodeKey::new("fail");
const HOLD: NodeKey<Log> = NodeKey::new("hold");
const REST: NodeKey<Log> = NodeKey::new("rest");
const LAST: NodeKey<Log> = NodeKey::new("last");

fn graph(came: &Arc<Notify>, open: &Arc<Notify>) -> Graph<Log> {
    let (came, open) = (Arc::clone(came), Arc::clone(open));
    let hold = move |_: Context<Log>| {
        let (came, open) = (Arc::clone(&came), Arc::clone(&open));
        async move {
            came.notify_one();
            open.notified().await;
            Ok(line("held").into())
        }
    };
    let ask = async |cx: Context<Log>| {
        let said: String = cx.ask("word", &1).await?;
        Ok(line(said).into())
    };
    let fail = async |_: Context<Log>| Err(NodeError::permanent("broken"));
    Graph::builder("picture", 1)
        .node(PLAN, async |_: Context<Log>| Ok(Next::send_all(EACH, 0..3)))
        .node(EACH, async |_: Context<Log, u32>| Ok(line("each").into()))
        .node(ASK, ask)
        .node(FAIL, fail)
        .node(HOLD, hold)
        .node(REST, async |_: Context<Log>| Ok(line("rest").into()))
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .start(PLAN)
        .may_go(PLAN, EACH)
        .edge(EACH, ASK)
        .edge(EACH, FAIL)
        .edge(EACH, HOLD)
        .edge(EACH, REST)
        .join([ASK, FAIL, HOLD, REST], LAST)
        .compile()
        .unwrap()
}

fn told(progress: &RunProgress) -> Vec<String> {
    let nodes = progress.nodes.iter();
    nodes
        .map(|(node, progress)| format!("{node}: {}", progress.words()))
        .collect()
}

#[tokio::test]
async fn a_picture_of_a_run_shows_how_each_node_stands() {
    let engine = test_kit::engine().await;
    let (came, open) = (Arc::default(), Arc::default());
    let graph = graph(&came, &open);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let progress = engine.progress(run).await.unwrap();
    assert_eq!(told(&progress), ["plan: next"]);
    let beside = Beside::start(worker(&engine, graph.clone()));
    within(came.notified()).await;
    // The question and the failure are noted while the other task is held.
    until(async || {
        let progress = engine.progress(run).await.unwrap();
        told(&progress)
            == [
                "ask: waiting",
                "each: done ×3",
                "fail: failed",
                "hold: running",
                "plan: done",
                "rest: done",
            ]
    })
    .await;
    open.notify_one();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    let progress = engine.progress(run).await.unwrap();
    let states =
        ["ask", "each", "fail", "hold", "plan", "rest", "last"].map(|node| progress.state(node));
    use NodeState::{Done, Failed, NotReached, Waiting};
    assert_eq!(
        states,
        [Waiting, Done, Failed, Done, Done, Done, NotReached]
    );
    assert_eq!(
        progress.nodes["each"],
        NodeProgress {
            done: 3,
            ..NodeProgress::default()
        }
    );
    beside.stop().await;

    let outline = engine.outline(&progress.code).await.unwrap().unwrap();
    let mermaid = outline.mermaid_of(&progress);
    for wanted in [
        "each[\"each<br/>done ×3\"]",
        "class fail failed",
        "class last notReached",
        "class each,hold,plan,rest done",
        "classDef waiting fill:",
    ] {
        assert!(mermaid.contains(wanted), "{wanted}\n{mermaid}");
    }
    let layout = outline.layout_of(&progress);
    assert_eq!(layout.node("fail").unwrap().state, Some(NodeState::Failed));
    let svg = layout.to_svg();
    assert!(
        svg.contains("done ×3") && svg.contains("<title>last: not reached</title>"),
        "{svg}"
    );
}

#[tokio::test]
async fn a_run_that_was_cancelled_has_no_node_at_work_and_an_edit_counts_for_no_node() {
    let engine = test_kit::engine().await;
    let graph = graph(&Arc::default(), &Arc::default());
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let edit = engine.update_state(&graph, run, line("edited"));
    edit.as_node(EACH).await.unwrap();
    let progress = engine.progress(run).await.unwrap();
    assert_eq!(
        told(&progress),
        ["ask: next", "fail: next", "hold: next", "rest: next"]
    );
    engine.cancel(run).await.unwrap();
    let progress = engine.progress(run).await.unwrap();
    assert_eq!(progress.state("ask"), NodeState::NotReached);
    let missing = engine.progress(RunId::from_i64(7)).await;
    assert!(matches!(missing, Err(EngineError::NoRun(_))));
}
