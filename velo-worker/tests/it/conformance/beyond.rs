use velo_engine::prelude::*;
use velo_engine::{EngineError, test_kit};

use super::support::{Kept, full, graph, serve};
use crate::behaviours::support::asked;
use crate::support::settled;

/// beyond/large_values: a megabyte of text is kept as it is, and is not written again by steps that leave
/// it alone.
#[tokio::test]
async fn a_megabyte_is_kept_and_not_written_again_by_each_step() {
    const MEGABYTE: usize = 1 << 20;
    let (engine, graph) = (test_kit::engine().await, graph());
    let large = Kept {
        dict: [("text".to_owned(), vec!["é".repeat(MEGABYTE / 2)])].into(),
        ..full()
    };
    let run = engine.start(&graph, large.clone()).await.unwrap();
    let beside = serve(&engine, &graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let kept: Kept = engine.state(run).await.unwrap();
    assert_eq!(kept.dict, large.dict);
    let stored: i64 = sqlx::query_scalar(
        "select sum(length(delta) + coalesce(length(snapshot), 0)) from velo.step where seq > 0",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert!(stored < 1_000, "{stored} bytes after the start");
    beside.stop().await;
}

#[derive(State, Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Measured {
    value: f64,
}

/// beyond/not_a_number: what cannot be read back is refused when it is given, and not found out by a
/// worker.
#[tokio::test]
async fn a_value_that_cannot_be_read_back_is_refused_at_the_start() {
    const ONE: NodeKey<Measured> = NodeKey::new("one");
    let engine = test_kit::engine().await;
    let graph = Graph::builder("measured", 1)
        .node(ONE, async |_: Context<Measured>| Ok(Next::none()))
        .start(ONE)
        .compile()
        .unwrap();
    for value in [f64::NAN, f64::INFINITY] {
        let refused = engine.start(&graph, Measured { value }).await;
        assert!(
            matches!(refused, Err(EngineError::BadValue(_))),
            "{refused:?}"
        );
    }
    assert_eq!(engine.unfinished(None, 10).await.unwrap(), []);
}

/// beyond/nul: text with a NUL is refused where it is given, or comes back as it was; it never spoils a
/// run.
#[tokio::test]
async fn a_nul_is_refused_where_it_is_given_or_comes_back_as_it_was() {
    const NUL: &str = "before\0after";
    let engine = test_kit::engine().await;
    const ASK: NodeKey<Kept> = NodeKey::new("ask");
    let graph = Graph::builder("nul", 1)
        .node(ASK, async |cx: Context<Kept>| {
            let text: String = cx.ask("text", &"which?").await?;
            Ok(Kept::update().text(text).into())
        })
        .start(ASK)
        .compile()
        .unwrap();
    let state = Kept {
        text: NUL.to_owned(),
        ..Kept::default()
    };
    match engine.start(&graph, state).await {
        Ok(run) => assert_eq!(engine.state::<Kept>(run).await.unwrap().text, NUL),
        Err(refused) => assert!(matches!(refused, EngineError::BadValue(_)), "{refused:?}"),
    }

    let run = engine.start(&graph, full()).await.unwrap();
    let beside = serve(&engine, &graph);
    let question = asked(&engine, run).await;
    let refused = [
        engine.answer(&question, &NUL).await,
        engine.signal(run, "text", &NUL, None).await,
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(EngineError::BadValue(_))),
            "{refused:?}"
        );
    }
    engine.answer(&question, &"without").await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Kept>(run).await.unwrap().text, "without");
    beside.stop().await;
}
