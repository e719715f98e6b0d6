//! Waiting for whichever of several things comes first: one winner, the same however often the node runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use velo_engine::prelude::*;
use velo_engine::{Why, test_kit};

use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");
const LONG: Duration = Duration::from_secs(3_600);

fn single(node: impl Node<Log>) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .retry(
            FIRST,
            RetryPolicy {
                first_delay: Duration::from_millis(5),
                ..RetryPolicy::default()
            },
        )
        .start(FIRST)
        .compile()
        .unwrap()
}

/// Waits for a message, an answer or a time.
fn three(time: Duration) -> Graph<Log> {
    single(move |cx: Context<Log>| async move {
        let won = cx
            .select("first of three")
            .signal("word", |word: String| format!("message {word}"))
            .ask("word", &"which?", |word: String| format!("answer {word}"))
            .after(time, "nothing".to_owned());
        Ok(line(won.await?).into())
    })
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    engine.state::<Log>(run).await.unwrap().lines
}

async fn until_parked(engine: &Engine, run: RunId) {
    until(async || {
        let parked = "select worker is null and ready_at is null from velo.queue where run_id = $1";
        let parked = sqlx::query_scalar::<_, bool>(parked).bind(run);
        parked.fetch_one(engine.pool()).await.unwrap()
    })
    .await;
}

/// Messages that no step has used.
async fn unused(engine: &Engine, run: RunId) -> i64 {
    let unused = "select count(*) from velo.signal where run_id = $1 and used_seq is null";
    let unused = sqlx::query_scalar(unused).bind(run);
    unused.fetch_one(engine.pool()).await.unwrap()
}

#[tokio::test]
async fn a_message_wins_over_a_question_and_a_time_and_closes_the_question() {
    let engine = test_kit::engine().await;
    let graph = three(LONG);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until_parked(&engine, run).await;
    let question = engine.questions(Some(run), 2).await.unwrap().remove(0);
    let why = engine.why(run).await.unwrap();
    assert!(
        matches!(&why, Why::Asleep { questions, signals, .. } if questions.len() == 1 && signals.len() == 1),
        "{why}"
    );
    engine.signal(run, "word", &"a", None).await.unwrap();
    assert_eq!(lines(&engine, run).await, ["message a"]);
    assert!(engine.answer(&question, &"b").await.is_err());
    beside.stop().await;
}

#[tokio::test]
async fn an_answer_wins_and_leaves_the_messages_that_come_after_it_alone() {
    let engine = test_kit::engine().await;
    let graph = three(LONG);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    until_parked(&engine, run).await;
    beside.stop().await;
    engine.answer_only(run, &"a").await.unwrap();
    engine.signal(run, "word", &"b", None).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, run).await, ["answer a"]);
    assert_eq!(unused(&engine, run).await, 1);
    beside.stop().await;
}

#[tokio::test]
async fn a_time_wins_when_nothing_comes_also_one_that_is_past() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let won = cx
            .select("patience")
            .signal("word", |word: String| word)
            .after(LONG, "never".to_owned())
            .at(Utc::now() - TimeDelta::hours(1), "at once".to_owned())
            .await?;
        let later = cx
            .select("more patience")
            .signal("word", |word: String| word)
            .after(Duration::from_millis(50), "soon".to_owned())
            .await?;
        Ok(Log::update().lines(vec![won, later]).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, run).await, ["at once", "soon"]);
    beside.stop().await;
}

#[tokio::test]
async fn of_what_is_there_what_is_named_first_wins_and_an_accepted_answer_always() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let won = cx
            .select("any")
            .signal("one", |word: String| word)
            .signal("two", |word: String| word)
            .ask("three", &"?", |word: String| word)
            .after(LONG, "time".to_owned());
        Ok(line(won.await?).into())
    });
    let called = engine.start(&graph, Log::default()).await.unwrap();
    engine.signal(called, "two", &"two", None).await.unwrap();
    engine.signal(called, "one", &"one", None).await.unwrap();
    let answered = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    assert_eq!(lines(&engine, called).await, ["one"]);
    assert_eq!(unused(&engine, called).await, 1);
    until_parked(&engine, answered).await;
    beside.stop().await;
    engine.signal(answered, "one", &"one", None).await.unwrap();
    engine.answer_only(answered, &"three").await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, answered).await, ["three"]);
    beside.stop().await;
}

#[tokio::test]
async fn the_winner_stays_the_same_when_the_node_runs_again_though_more_has_come_since() {
    let engine = test_kit::engine().await;
    let seen: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&seen);
    let graph = single(move |cx: Context<Log>| {
        let seen = Arc::clone(&counted);
        async move {
            let won = cx
                .select("which")
                .signal("word", |word: String| word)
                .after(Duration::from_millis(1), "time".to_owned())
                .await?;
            // Decided: the message that the test sends now is too late, however often the node runs again.
            seen.fetch_add(1, Ordering::SeqCst);
            let go: String = cx.signal("go").await?;
            if cx.attempt() == 1 {
                return Err(NodeError::transient("once more"));
            }
            Ok(Log::update().lines(vec![won, go]).into())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    until(async || seen.load(Ordering::SeqCst) > 0).await;
    until_parked(&engine, run).await;
    beside.die().await;
    engine.signal(run, "word", &"late", None).await.unwrap();
    engine.signal(run, "go", &"on", None).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, run).await, ["time", "on"]);
    assert!(seen.load(Ordering::SeqCst) >= 3);
    assert_eq!(unused(&engine, run).await, 1);
    beside.stop().await;
}

#[tokio::test]
async fn the_message_that_won_is_kept_for_its_task_though_a_sibling_takes_of_the_same_name() {
    let engine = test_kit::engine().await;
    let decided: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&decided);
    let graph = Graph::builder("fan", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..2))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let decided = Arc::clone(&counted);
            async move {
                let word = if *cx.input() == 1 {
                    let won = cx
                        .select("which")
                        .signal("word", |word: String| word)
                        .after(LONG, "time".to_owned())
                        .await?;
                    decided.fetch_add(1, Ordering::SeqCst);
                    let _: bool = cx.signal("go").await?;
                    won
                } else {
                    let _: bool = cx.signal("start").await?;
                    cx.signal("word").await?
                };
                Ok(line(format!("{} {word}", cx.input())).into())
            }
        })
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    until_parked(&engine, run).await;
    engine.signal(run, "word", &"first", None).await.unwrap();
    until(async || decided.load(Ordering::SeqCst) == 1).await;
    until_parked(&engine, run).await;
    beside.die().await;
    // The sibling looks before: what was decided for is not to be had.
    engine.signal(run, "start", &true, None).await.unwrap();
    engine.signal(run, "word", &"second", None).await.unwrap();
    engine.signal(run, "go", &true, None).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, run).await, ["0 second", "1 first"]);
    assert_eq!(unused(&engine, run).await, 0);
    beside.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_given_back_leaves_the_rest_of_the_select_open() {
    let engine = test_kit::engine().await;
    // Its schema allows more than the type does.
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(try_from = "u32")]
    struct Even(u32);
    impl TryFrom<u32> for Even {
        type Error = String;
        fn try_from(number: u32) -> Result<Self, String> {
            let is_even = number.is_multiple_of(2);
            is_even
                .then_some(Self(number))
                .ok_or_else(|| "it is odd".to_owned())
        }
    }
    let graph = single(async |cx: Context<Log>| {
        let won = cx
            .select("even")
            .ask("one", &"?", |Even(number)| format!("one {number}"))
            .ask("other", &"?", |Even(number)| format!("other {number}"))
            .signal("word", |word: String| word);
        Ok(line(won.await?).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    until(async || engine.questions(Some(run), 2).await.unwrap().len() == 2).await;
    let open = engine.questions(Some(run), 2).await.unwrap();
    engine.answer(&open[0], &3).await.unwrap();
    until(async || {
        let open = engine.questions(Some(run), 2).await.unwrap();
        open.len() == 2 && open[0].refusal.is_some()
    })
    .await;
    engine.answer(&open[1], &4).await.unwrap();
    assert_eq!(lines(&engine, run).await, ["other 4"]);

    let run = engine.start(&graph, Log::default()).await.unwrap();
    until_parked(&engine, run).await;
    beside.stop().await;
    let open = engine.questions(Some(run), 2).await.unwrap();
    engine.signal(run, "word", &"message", None).await.unwrap();
    engine.answer(&open[0], &3).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, run).await, ["message"]);
    beside.stop().await;
}

#[tokio::test]
async fn of_answers_to_two_questions_of_a_select_that_come_at_once_one_is_accepted() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let won = cx
            .select("either")
            .ask("left", &"?", |n: u32| format!("left {n}"))
            .ask("right", &"?", |n: u32| format!("right {n}"))
            .after(LONG, "time".to_owned());
        Ok(line(won.await?).into())
    });
    let beside = Beside::start(worker(&engine, graph.clone()));
    for n in 0..5_u32 {
        let run = engine.start(&graph, Log::default()).await.unwrap();
        until(async || engine.questions(Some(run), 2).await.unwrap().len() == 2).await;
        let open = engine.questions(Some(run), 2).await.unwrap();
        let answers = open.iter().map(|question| async {
            let accepted = engine.answer(question, &n).await.is_ok();
            accepted.then(|| format!("{} {n}", question.name))
        });
        let accepted: Vec<String> = within(join_all(answers))
            .await
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(accepted.len(), 1);
        assert_eq!(lines(&engine, run).await, accepted);
    }
    beside.stop().await;
}

/// Each run gets a message, an answer and the end of its time at about the same moment, while its workers die.
#[tokio::test]
async fn messages_answers_and_times_that_come_at_once_have_one_winner_also_while_workers_die() {
    const RUNS: u32 = 20;
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let won = cx
            .select("which")
            .signal("word", |word: String| format!("message {word}"))
            .ask("word", &"?", |word: String| format!("answer {word}"))
            .after(Duration::from_millis(900), "time".to_owned())
            .await?;
        // What is done for the winner, under its name: a second one would be found here.
        let kept: String = cx
            .step("act", async |_| Ok::<_, NodeError>(won.clone()))
            .await?;
        assert_eq!(kept, won);
        Ok(line(won).into())
    });
    let mut callers = Vec::new();
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let run = engine.start(&graph, Log::default()).await.unwrap();
        runs.push(run);
        let engine = engine.clone();
        callers.push(tokio::spawn(async move {
            until(async || {
                let open = engine.questions(Some(run), 1).await.unwrap();
                !open.is_empty() || engine.run(run).await.unwrap().status.is_terminal()
            })
            .await;
            let Some(question) = engine.questions(Some(run), 1).await.unwrap().pop() else {
                return (run, false);
            };
            tokio::time::sleep(Duration::from_millis(u64::from(n) * 60)).await;
            let (answered, _) = tokio::join!(
                engine.answer(&question, &"a"),
                engine.signal(run, "word", &"m", None)
            );
            (run, answered.is_ok())
        }));
    }
    let mut beside = Beside::start(worker(&engine, graph.clone()));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        beside.die().await;
        beside = Beside::start(worker(&engine, graph.clone()));
    }
    for caller in callers {
        let (run, is_answered) = within(caller).await.unwrap();
        let won = lines(&engine, run).await;
        assert_eq!(won.len(), 1);
        assert_eq!(won[0] == "answer a", is_answered, "{won:?}");
        let used: i64 = sqlx::query_scalar(
            "select count(*) from velo.signal where run_id = $1 and used_seq is not null",
        )
        .bind(run)
        .fetch_one(engine.pool())
        .await
        .unwrap();
        assert_eq!(used == 1, won[0] == "message m", "{won:?}");
    }
    for run in runs {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    }
    beside.stop().await;
}

#[tokio::test]
async fn a_select_of_nothing_is_refused() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let nothing = cx.select::<String>("nothing");
        Ok(line(nothing.await?).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let error = paused.error.unwrap().to_string();
    assert!(error.contains("nothing to wait for"), "{error}");
    beside.stop().await;
}
