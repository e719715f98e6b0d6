//! A state with values of every kind, and a graph of a few steps that writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;
use velo_engine::test_kit;
use velo_worker::Worker;

use crate::support::{Beside, settled};

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) text: String,
    pub(crate) number: i64,
    #[state(append)]
    pub(crate) list: Vec<i64>,
    #[state(merge)]
    pub(crate) dict: BTreeMap<String, Vec<String>>,
    pub(crate) maybe: Option<bool>,
}

pub(crate) const ONE: NodeKey<Kept> = NodeKey::new("one");
pub(crate) const TWO: NodeKey<Kept> = NodeKey::new("two");
pub(crate) const THREE: NodeKey<Kept> = NodeKey::new("three");

pub(crate) fn full() -> Kept {
    Kept {
        text: "héllo \"🐝\" \\ \n".to_owned(),
        number: i64::MIN,
        list: vec![1, 2, 3],
        dict: BTreeMap::from([("a b".to_owned(), vec!["x".to_owned(), String::new()])]),
        maybe: Some(true),
    }
}

/// Writes a number, then a text, then to the list.
pub(crate) fn graph() -> Graph<Kept> {
    Graph::builder("kept", 1)
        .node(ONE, async |_: Context<Kept>| {
            Ok(Kept::update().number(1).into())
        })
        .node(TWO, async |_: Context<Kept>| {
            Ok(Kept::update().text("two").into())
        })
        .node(THREE, async |_: Context<Kept>| {
            Ok(Kept::update().list(vec![4]).into())
        })
        .start(ONE)
        .edge(ONE, TWO)
        .edge(TWO, THREE)
        .compile()
        .unwrap()
}

/// What the state was after each step of [`graph`], begun with [`full`].
pub(crate) fn states() -> [Kept; 4] {
    let start = full();
    let one = Kept {
        number: 1,
        ..start.clone()
    };
    let two = Kept {
        text: "two".to_owned(),
        ..one.clone()
    };
    let three = Kept {
        list: vec![1, 2, 3, 4],
        ..two.clone()
    };
    [start, one, two, three]
}

pub(crate) fn serve(engine: &Engine, graph: &Graph<Kept>) -> Beside {
    Beside::start(Worker::builder(engine.clone()).serve(graph.clone()))
}

/// A worker, and runs in these threads that it has brought to their ends, one after another.
pub(crate) async fn completed(threads: &[&str]) -> (Engine, Graph<Kept>, Vec<RunId>, Beside) {
    let (engine, graph) = (test_kit::engine().await, graph());
    let beside = serve(&engine, &graph);
    let mut runs = Vec::new();
    for thread in threads {
        let run = engine.start(&graph, full()).thread(*thread).await.unwrap();
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
        runs.push(run);
    }
    (engine, graph, runs, beside)
}

/// How many rows are left of a run, in all tables that hold something of it.
pub(crate) async fn rows(engine: &Engine, run: RunId) -> i64 {
    sqlx::query_scalar(
        "select (select count(*) from velo.run where id = $1)
              + (select count(*) from velo.step where run_id = $1)
              + (select count(*) from velo.memo where run_id = $1)
              + (select count(*) from velo.outcome where run_id = $1)
              + (select count(*) from velo.failure where run_id = $1)
              + (select count(*) from velo.wait where run_id = $1)
              + (select count(*) from velo.signal where run_id = $1)
              + (select count(*) from velo.event where run_id = $1)
              + (select count(*) from velo.child where run_id = $1)",
    )
    .bind(run)
    .fetch_one(engine.pool())
    .await
    .unwrap()
}
