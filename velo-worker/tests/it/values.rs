//! Values that cannot be stored, and those that are too large.

use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::limits::Limits;
use velo_engine::prelude::*;
use velo_engine::{Engine, Unstored, test_kit};

use crate::support::{Beside, settled, worker};

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Report {
    text: String,
    mean: f64,
    #[state(append)]
    notes: Vec<String>,
}

const FIRST: NodeKey<Report> = NodeKey::new("first");
const EACH: NodeKey<Report, f64> = NodeKey::new("each");
const READ: NodeKey<Report, String> = NodeKey::new("read");

fn single(node: impl Node<Report>) -> Graph<Report> {
    let each = async |_: Context<Report, f64>| Ok(Next::none());
    let read = async |_: Context<Report, String>| Ok(Next::none());
    Graph::builder("report", 1)
        .node(FIRST, node)
        .node(EACH, each)
        .node(READ, read)
        .start(FIRST)
        .may_go(FIRST, EACH)
        .may_go(FIRST, READ)
        .compile()
        .unwrap()
}

/// Runs it until it is paused; returns the reason.
async fn paused(engine: &Engine, graph: Graph<Report>) -> (RunId, String) {
    let run = engine.start(&graph, Report::default()).await.unwrap();
    let beside = Beside::start(worker(engine, graph));
    let settled = settled(engine, run).await;
    assert_eq!(settled.status, RunStatus::Paused);
    beside.stop().await;
    (run, engine.why(run).await.unwrap().to_string())
}

#[tokio::test]
async fn what_could_not_be_read_back_is_refused_where_it_comes_in_and_named() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Report>| {
        let _: String = cx.ask("question", &"?").await?;
        Ok(Next::none())
    });
    let refused = |error: EngineError| match error {
        EngineError::BadValue(bad) => (bad.at, bad.holds),
        other => panic!("{other:?}"),
    };
    let not_finite = Report {
        mean: f64::NAN,
        ..Report::default()
    };
    let error = engine.start(&graph, not_finite).await.unwrap_err();
    assert_eq!(
        refused(error),
        ("state.mean".to_owned(), Unstored::NotFinite)
    );
    let nul = Report {
        notes: vec![String::new(), "\0".to_owned()],
        ..Report::default()
    };
    let error = engine.start(&graph, nul).await.unwrap_err();
    assert_eq!(refused(error), ("state.notes[1]".to_owned(), Unstored::Nul));

    let run = engine.start(&graph, Report::default()).await.unwrap();
    let error = engine
        .signal(run, "word", &json!({ "a": "\0" }), None)
        .await;
    assert_eq!(refused(error.unwrap_err()).0, "message.a");
    let update = Report::update().mean(f64::INFINITY);
    let error = engine.update_state(&graph, run, update).await.unwrap_err();
    assert_eq!(
        refused(error),
        ("state.mean".to_owned(), Unstored::NotFinite)
    );
    let beside = Beside::start(worker(&engine, graph));
    settled(&engine, run).await;
    let question = engine.questions(Some(run), 1).await.unwrap().remove(0);
    let error = engine.answer(&question, &[f32::NAN]).await.unwrap_err();
    assert_eq!(
        refused(error),
        ("answer[0]".to_owned(), Unstored::NotFinite)
    );
    assert_eq!(engine.questions(Some(run), 1).await.unwrap().len(), 1);
    beside.stop().await;
}

#[tokio::test]
async fn a_node_that_leaves_what_could_not_be_read_back_pauses_its_run_with_the_place() {
    let engine = test_kit::engine().await;
    let written = single(async |_: Context<Report>| Ok(Report::update().mean(f64::NAN).into()));
    let (run, why) = paused(&engine, written).await;
    assert!(why.contains("`mean` holds a number that is NaN"), "{why}");
    assert_eq!(engine.run(run).await.unwrap().steps, 0);
    let sent = single(async |_: Context<Report>| Ok(Next::send(EACH, f64::NAN)));
    let (_, why) = paused(&engine, sent).await;
    assert!(
        why.contains("`payload` holds a number that is NaN"),
        "{why}"
    );
    let kept = single(async |cx: Context<Report>| {
        let mean: f64 = cx
            .step("mean", async |_| Ok::<_, NodeError>(f64::NAN))
            .await?;
        Ok(Report::update().mean(mean).into())
    });
    let (_, why) = paused(&engine, kept).await;
    assert!(why.contains("`result` holds a number that is NaN"), "{why}");
}

fn small() -> Limits {
    Limits {
        value: 100,
        state: 200,
        step: 150,
        ..Limits::default()
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_name_its_size_and_the_limit() {
    let engine = test_kit::engine().await.with_limits(small());
    let graph = single(async |_: Context<Report>| Ok(Next::none()));
    let large = |bytes: usize| Report {
        text: "x".repeat(bytes - 2),
        ..Report::default()
    };
    let run = engine.start(&graph, large(100)).await.unwrap();
    let error = engine.start(&graph, large(101)).await.unwrap_err();
    let EngineError::TooLarge(refused) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (refused.field.as_str(), refused.size, refused.limit),
        ("text", 101, 100)
    );
    let error = engine.signal(run, "word", &"x".repeat(99), None).await;
    assert!(matches!(error, Err(EngineError::TooLarge(_))), "{error:?}");
    let update = Report::update().text("x".repeat(99));
    let error = engine.update_state(&graph, run, update).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLarge(_)), "{error:?}");
}

#[tokio::test]
async fn a_run_whose_node_leaves_too_much_pauses_and_goes_on_under_a_higher_limit() {
    let engine = test_kit::engine().await.with_limits(small());
    let value =
        single(async |_: Context<Report>| Ok(Report::update().text("x".repeat(200)).into()));
    let (run, why) = paused(&engine, value.clone()).await;
    assert!(
        why.contains("`text` of node `first` has 202 bytes, and 100 are allowed"),
        "{why}"
    );
    let sent = single(async |_: Context<Report>| Ok(Next::send(READ, "x".repeat(200))));
    let (_, why) = paused(&engine, sent).await;
    assert!(
        why.contains("`the payload for read` of node `first` has 202 bytes"),
        "{why}"
    );
    let step = single(async |_: Context<Report>| {
        let notes = ["x".repeat(80), "x".repeat(80)];
        Ok(Report::update()
            .notes(vec![notes[0].clone()])
            .notes(vec![notes[1].clone()])
            .into())
    });
    let (_, why) = paused(&engine, step).await;
    assert!(why.contains("what the step writes and sends"), "{why}");

    engine.resume(run).await.unwrap();
    let roomy = Engine::connect(engine.pool().clone());
    let beside = Beside::start(worker(&roomy, value));
    assert_eq!(settled(&roomy, run).await.status, RunStatus::Completed);
    assert_eq!(roomy.state::<Report>(run).await.unwrap().text.len(), 200);
    beside.stop().await;
}

#[tokio::test]
async fn a_state_that_grows_over_its_limit_pauses_its_run_with_all_that_it_had() {
    let limits = Limits {
        state: 2_000,
        ..Limits::default()
    };
    let engine = test_kit::engine().await.with_limits(limits);
    let graph = Graph::builder("growing", 1)
        .node(FIRST, async |_: Context<Report>| {
            Ok(Report::update().notes(vec!["x".repeat(100)]).into())
        })
        .start(FIRST)
        .edge(FIRST, FIRST)
        .compile()
        .unwrap();
    let (run, why) = paused(&engine, graph).await;
    assert!(
        why.contains("the state, in which `notes` is the largest field"),
        "{why}"
    );
    let report: Report = engine.state(run).await.unwrap();
    assert_eq!(report.notes.len(), 19);
}
