use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::sync::Notify;
use velo_engine::prelude::*;
use velo_engine::{Question, RunStatus, test_kit};

use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");

fn single(node: impl Node<Log>) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .start(FIRST)
        .compile()
        .unwrap()
}

async fn only_question(engine: &Engine, run: RunId) -> Question {
    let questions = engine.questions(Some(run), 10).await.unwrap();
    assert_eq!(questions.len(), 1, "{questions:?}");
    questions[0].clone()
}

#[tokio::test]
async fn a_question_waits_without_a_worker_and_its_answer_brings_the_run_back() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let paid: u32 = cx.step("pay", |_| async { Ok::<_, NodeError>(7) }).await?;
        let name: String = cx.ask("name", &json!({ "why": "to greet" })).await?;
        Ok(line(format!("hello {name}, {paid}")).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let waiting = settled(&engine, run).await;
    assert_eq!(
        (waiting.status, waiting.is_leased),
        (RunStatus::Waiting, false)
    );
    beside.stop().await;

    let question = only_question(&engine, run).await;
    assert_eq!(
        (question.node.as_str(), question.name.as_str()),
        ("first", "name")
    );
    assert_eq!(question.question, json!({ "why": "to greet" }));
    engine.answer(&question, &"Ada").await.unwrap();
    assert!(engine.questions(None, 10).await.unwrap().is_empty());
    let again = engine.answer(&question, &"Eve").await;
    assert!(
        matches!(again, Err(EngineError::NotOpen { .. })),
        "{again:?}"
    );

    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(
        engine.state::<Log>(run).await.unwrap().lines,
        ["hello Ada, 7"]
    );
    beside.stop().await;
}

#[tokio::test]
async fn two_questions_are_open_at_once_and_are_answered_in_any_order() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let (name, age) = tokio::join!(
            cx.ask::<String>("name", &"who?").into_future(),
            cx.ask::<u32>("age", &"how old?").into_future(),
        );
        Ok(line(format!("{} is {}", name?, age?)).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let open = engine.questions(Some(run), 10).await.unwrap();
    assert_eq!(
        open.iter()
            .map(|question| question.name.as_str())
            .collect::<Vec<_>>(),
        ["age", "name"]
    );
    engine.answer(&open[1], &"Ada").await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    assert_eq!(only_question(&engine, run).await.name, "age");
    engine.answer(&open[0], &36).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["Ada is 36"]);
    beside.stop().await;
}

/// E2: answers.
#[tokio::test]
async fn of_many_answers_at_once_one_is_accepted() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let n: u32 = cx.ask("n", &"?").await?;
        Ok(line(n.to_string()).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    settled(&engine, run).await;
    let question = only_question(&engine, run).await;
    let answers = join_all((0..20_u32).map(|n| {
        let (engine, question) = (engine.clone(), question.clone());
        async move { engine.answer(&question, &n).await.map(|()| n) }
    }))
    .await;
    let accepted: Vec<u32> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(accepted.len(), 1);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(
        engine.state::<Log>(run).await.unwrap().lines,
        [accepted[0].to_string()]
    );
    beside.stop().await;
}

#[tokio::test]
async fn an_answer_that_only_the_node_can_tell_is_wrong_is_given_back_and_the_question_stays_open()
{
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let n: u32 = cx.ask_without_schema("n", &"?").await?;
        Ok(line(n.to_string()).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    settled(&engine, run).await;
    engine
        .answer(&only_question(&engine, run).await, &"seven")
        .await
        .unwrap();
    until(async || {
        let open = engine.questions(Some(run), 1).await.unwrap();
        open.first()
            .is_some_and(|question| question.refusal.is_some())
    })
    .await;
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    engine
        .answer(&only_question(&engine, run).await, &7)
        .await
        .unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["7"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_question_without_an_answer_in_time_takes_its_default_and_is_closed() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let ask = cx
            .ask("go", &"?")
            .or_after(Duration::from_secs(3), "by itself".to_owned());
        Ok(line(ask.await?).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let question = within(async {
        loop {
            if let Some(question) = engine.questions(Some(run), 1).await.unwrap().pop() {
                break question;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["by itself"]);
    assert!(engine.answer(&question, &"late").await.is_err());
    beside.stop().await;
}

/// B35: a question drops no sibling.
#[tokio::test]
async fn in_a_fan_out_only_the_branch_whose_answer_came_runs_again() {
    let engine = test_kit::engine().await;
    let calls: Arc<[AtomicU32; 3]> = Arc::default();
    let counted = calls.clone();
    let graph = Graph::builder("fan", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..3))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let n = *cx.input();
            counted[n as usize].fetch_add(1, Ordering::SeqCst);
            async move {
                if n == 2 {
                    return Ok(line("asks nothing").into());
                }
                let answer: String = cx.ask("say", &n).await?;
                Ok(line(format!("{n}: {answer}")).into())
            }
        })
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let open = engine.questions(Some(run), 10).await.unwrap();
    engine.answer(&open[1], &"one").await.unwrap();
    until(async || calls[1].load(Ordering::SeqCst) == 2).await;
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    engine.answer(&open[0], &"zero").await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, ["0: zero", "1: one", "asks nothing"]);
    let made: Vec<u32> = calls
        .iter()
        .map(|calls| calls.load(Ordering::SeqCst))
        .collect();
    assert_eq!(made, [2, 2, 1]);
    beside.stop().await;
}

#[tokio::test]
async fn a_sleep_holds_no_worker_and_is_counted_from_the_first_attempt() {
    let engine = test_kit::engine().await;
    let calls: Arc<AtomicU32> = Arc::default();
    let counted = calls.clone();
    let graph = single(move |cx: Context<Log>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            cx.sleep("a while", Duration::from_millis(300)).await?;
            cx.sleep("a while more", Duration::from_millis(300)).await?;
            Ok(line("rested").into())
        }
    });
    let began = std::time::Instant::now();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until(async || {
        let asleep = "select count(*) from velo.queue where wake_at is not null and worker is null";
        let asleep: i64 = sqlx::query_scalar(asleep)
            .fetch_one(engine.pool())
            .await
            .unwrap();
        asleep == 1
    })
    .await;
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert!(began.elapsed() >= Duration::from_millis(600));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    beside.stop().await;
}

#[tokio::test]
async fn messages_are_taken_in_order_each_once_whether_they_come_before_or_after() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("inbox", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let text: String = cx.signal("mail").await?;
            let turns = cx.state().turns + 1;
            let update = line(text).turns(turns);
            Ok(if turns < 6 {
                update.goto(FIRST)
            } else {
                update.end()
            })
        })
        .start(FIRST)
        .may_go(FIRST, FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    for n in 0..3 {
        // Sent again with the same key, as after a lost answer.
        for _ in 0..2 {
            engine
                .signal(run, "mail", &format!("m{n}"), Some(&format!("key {n}")))
                .await
                .unwrap();
        }
        engine.signal(run, "other", &0, None).await.unwrap();
    }
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    for n in 3..6 {
        engine
            .signal(run, "mail", &format!("m{n}"), None)
            .await
            .unwrap();
    }
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    let lines = engine.state::<Log>(run).await.unwrap().lines;
    assert_eq!(lines, ["m0", "m1", "m2", "m3", "m4", "m5"]);
    let late = engine.signal(run, "mail", &"late", None).await;
    assert!(matches!(late, Err(EngineError::Ended(_))), "{late:?}");
    let nobody = engine.signal(RunId::random(), "mail", &"lost", None).await;
    assert!(matches!(nobody, Err(EngineError::NoRun(_))), "{nobody:?}");
    beside.stop().await;
}

#[tokio::test]
async fn two_takes_of_one_name_get_one_message_each() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let (one, two) = tokio::join!(cx.signal::<u32>("n"), cx.signal::<u32>("n"));
        Ok(line(format!("{} {}", one?, two?)).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    settled(&engine, run).await;
    engine.signal(run, "n", &1, None).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    engine.signal(run, "n", &2, None).await.unwrap();
    until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["1 2"]);
    beside.stop().await;
}

#[tokio::test]
async fn between_a_message_and_a_timer_there_is_one_winner() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let won = tokio::select! {
            message = cx.signal::<String>("stop") => message?,
            slept = cx.sleep("patience", Duration::from_millis(400)) => { slept?; "timer".to_owned() }
        };
        Ok(line(won).into())
    });
    let beside = Beside::start(worker(&engine, graph.clone()));
    let quiet = engine.start(&graph, Log::default()).await.unwrap();
    let called = engine.start(&graph, Log::default()).await.unwrap();
    until(async || !engine.run(called).await.unwrap().is_leased).await;
    engine
        .signal(called, "stop", &"message", None)
        .await
        .unwrap();
    until(async || engine.run(called).await.unwrap().status == RunStatus::Completed).await;
    until(async || engine.run(quiet).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(
        engine.state::<Log>(called).await.unwrap().lines,
        ["message"]
    );
    assert_eq!(engine.state::<Log>(quiet).await.unwrap().lines, ["timer"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_message_that_a_failed_attempt_took_is_there_for_the_next() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let n: u32 = cx.signal("n").await?;
        if cx.attempt() == 1 {
            return Err(NodeError::transient("after taking"));
        }
        Ok(line(n.to_string()).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    engine.signal(run, "n", &1, None).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["1"]);
    beside.stop().await;
}

#[tokio::test]
async fn an_answer_reaches_a_node_that_waits_beside_other_work() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let answered = tokio::select! {
            answer = cx.ask::<String>("n", &"?").into_future() => answer?,
            // Never ends, and holds the waker: the node cannot be dropped.
            () = tokio::time::sleep(Duration::from_secs(3_600)) => unreachable!(),
        };
        Ok(line(answered).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until(async || !engine.questions(Some(run), 1).await.unwrap().is_empty()).await;
    assert!(engine.run(run).await.unwrap().is_leased);
    engine
        .answer(&only_question(&engine, run).await, &"heard")
        .await
        .unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["heard"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_waiting_run_can_be_cancelled_and_survives_its_worker() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let text: String = cx.ask("text", &"?").await?;
        Ok(line(text).into())
    });
    let one = engine.start(&graph, Log::default()).await.unwrap();
    let two = engine.start(&graph, Log::default()).await.unwrap();
    let first = Beside::start(worker(&engine, graph.clone()));
    settled(&engine, one).await;
    settled(&engine, two).await;
    first.die().await;
    assert!(engine.cancel(one).await.unwrap());
    assert_eq!(engine.run(one).await.unwrap().status, RunStatus::Cancelled);
    let second = Beside::start(worker(&engine, graph));
    engine
        .answer(&only_question(&engine, two).await, &"kept")
        .await
        .unwrap();
    until(async || engine.run(two).await.unwrap().status == RunStatus::Completed).await;
    assert_eq!(engine.state::<Log>(two).await.unwrap().lines, ["kept"]);
    second.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_while_the_node_runs_again_is_not_taken_for_seen() {
    let engine = test_kit::engine().await;
    let (came, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let graph = single({
        let (came, open) = (came.clone(), open.clone());
        move |cx: Context<Log>| {
            let (came, open) = (came.clone(), open.clone());
            async move {
                let first = async {
                    let first: u32 = cx.ask("first", &"?").await?;
                    came.notify_one();
                    open.notified().await;
                    Ok::<_, NodeError>(first)
                };
                let (first, second) =
                    tokio::join!(first, cx.ask::<u32>("second", &"?").into_future());
                Ok(line(format!("{} {}", first?, second?)).into())
            }
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // A heartbeat that comes in between would have the node begin again.
    let beside = Beside::start(worker(&engine, graph).lease(Duration::from_secs(600)));
    settled(&engine, run).await;
    let questions = engine.questions(Some(run), 10).await.unwrap();
    engine.answer(&questions[0], &1).await.unwrap();
    within(came.notified()).await;
    engine.answer(&questions[1], &2).await.unwrap();
    open.notify_one();
    within(came.notified()).await;
    open.notify_one();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["1 2"]);
    beside.stop().await;
}
