use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use velo_engine::prelude::*;
use velo_engine::test_kit;

use super::support::{completed, serve, serve_briefly};
use crate::support::within;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Notes {
    #[state(append)]
    lines: Vec<String>,
    #[state(any)]
    language: String,
    #[state(ephemeral)]
    hint: Option<String>,
    #[state(untracked)]
    #[serde(skip)]
    cache: Option<String>,
}

fn line(text: impl Into<String>) -> NotesUpdate {
    Notes::update().lines(vec![text.into()])
}

const QUICK: NodeKey<Notes> = NodeKey::new("quick");
const SLOW: NodeKey<Notes> = NodeKey::new("slow");
const FIRST: NodeKey<Notes> = NodeKey::new("first");
const BETWEEN: NodeKey<Notes> = NodeKey::new("between");
const LATE: NodeKey<Notes> = NodeKey::new("late");
const LAST: NodeKey<Notes> = NodeKey::new("last");

/// Two branches, a join of any before `first`, and a deferred end. `between` says that it is at work, and
/// waits for leave to go on.
fn graph(at_work: &Arc<Semaphore>, leave: &Arc<Semaphore>) -> Graph<Notes> {
    let (at_work, leave) = (Arc::clone(at_work), Arc::clone(leave));
    let write = |name: &'static str| {
        move |_: Context<Notes>| async move { Ok(Next::from(line(name).language("en".to_owned()))) }
    };
    Graph::builder("handed-over", 1)
        .node(QUICK, async |_| {
            let seen = line("quick").hint(Some("left".to_owned()));
            Ok(seen.cache(Some("warm".to_owned())).into())
        })
        .node(SLOW, write("slow"))
        .node(BETWEEN, move |cx: Context<Notes>| {
            let (at_work, leave) = (Arc::clone(&at_work), Arc::clone(&leave));
            async move {
                at_work.add_permits(1);
                // Kept by nobody: an attempt that is given up takes no leave away from the next.
                drop(leave.acquire().await?);
                let state = cx.state();
                Ok(line(format!("between {:?} {:?}", state.hint, state.cache)).into())
            }
        })
        .node(LATE, write("late"))
        .node(FIRST, async |_| Ok(line("first").into()))
        .node(LAST, async |cx: Context<Notes>| {
            Ok(line(format!(
                "last {:?} {}",
                cx.state().hint,
                cx.state().language
            ))
            .into())
        })
        .start(QUICK)
        .start(SLOW)
        .edge(SLOW, BETWEEN)
        .edge(BETWEEN, LATE)
        .join_any([QUICK, LATE], FIRST)
        .edge(QUICK, LAST)
        .deferred(LAST)
        .compile()
        .unwrap()
}

const EXPECTED: [&str; 6] = [
    "quick",
    "slow",
    "between Some(\"left\") Some(\"warm\")",
    "first",
    "late",
    "last None en",
];

#[tokio::test]
async fn a_run_that_stays_with_its_worker_sees_its_untracked_fields() {
    let engine = test_kit::engine().await;
    let (at_work, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
    let graph = graph(&at_work, &leave);
    let run = engine.start(&graph, Notes::default()).await.unwrap();
    let beside = serve(&engine, graph);
    completed(&engine, run).await;
    assert_eq!(engine.state::<Notes>(run).await.unwrap().lines, EXPECTED);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_whose_worker_dies_goes_on_the_same_but_for_what_is_untracked() {
    let engine = test_kit::engine().await;
    let (at_work, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let graph = graph(&at_work, &leave);
    let run = engine.start(&graph, Notes::default()).await.unwrap();
    let dying = serve_briefly(&engine, graph.clone());
    drop(within(at_work.acquire()).await.unwrap());
    dying.die().await;
    let at = engine.checkpoint::<Notes>(run).await.unwrap();
    assert_eq!((at.deferred.len(), at.joins.len()), (1, 1));

    leave.add_permits(1);
    let other = serve(&engine, graph);
    completed(&engine, run).await;
    let lines = engine.state::<Notes>(run).await.unwrap().lines;
    let mut expected = EXPECTED.map(str::to_owned);
    expected[2] = "between Some(\"left\") None".to_owned();
    assert_eq!(lines, expected);
    other.stop().await;
}
