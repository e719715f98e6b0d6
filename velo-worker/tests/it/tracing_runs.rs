//! The trace that a run belongs to, wherever it goes on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use velo_engine::prelude::*;
use velo_engine::test_kit;
use velo_engine::trace::{self, TraceContext};

use crate::support::{Beside, Log, line, settled, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");

/// How many turns belonged to each trace.
static LINKED: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

fn linked(trace: &str) -> u32 {
    let linked = LINKED.lock().unwrap_or_else(PoisonError::into_inner);
    linked.get(trace).copied().unwrap_or(0)
}

#[tokio::test]
async fn a_run_its_later_turns_and_its_children_belong_to_the_trace_that_it_was_started_in() {
    trace::on_turn(|_, context| {
        let mut linked = LINKED.lock().unwrap_or_else(PoisonError::into_inner);
        *linked.entry(context.trace_id().to_owned()).or_default() += 1;
    });
    let engine = test_kit::engine().await;
    let told = async |_: Context<Log>| {
        let trace = TraceContext::current().map(|trace| trace.trace_id().to_owned());
        Ok(line(trace.unwrap_or_default()).into())
    };
    let below = Graph::builder("below", 1)
        .node(FIRST, told)
        .start(FIRST)
        .compile()
        .unwrap();
    let graph = Graph::builder("traced", 1)
        .subgraph(
            FIRST,
            &below,
            |_| Log::default(),
            |log| Log::update().lines(log.lines),
        )
        .node(SECOND, async |cx: Context<Log>| {
            let word: String = cx.signal("word").await?;
            Ok(line(word).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let id = "0af7651916cd43dd8448eb211c80319c";
    let context: TraceContext = format!("00-{id}-b7ad6b7169203331-01").parse().unwrap();
    let start = async { engine.start(&graph, Log::default()).await };
    let run = context.scope(start).await.unwrap();
    let first = Beside::start(worker(&engine, graph.clone()));
    settled(&engine, run).await;
    first.stop().await;
    // The run, its child, and the run again.
    let before = linked(id);
    assert!(before >= 3, "{before}");
    let second = Beside::start(worker(&engine, graph.clone()));
    engine.signal(run, "word", &"on", None).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert!(linked(id) > before);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, [id, "on"]);
    let untraced = engine.start(&below, Log::default()).await.unwrap();
    settled(&engine, untraced).await;
    assert_eq!(engine.state::<Log>(untraced).await.unwrap().lines, [""]);
    second.stop().await;
}
