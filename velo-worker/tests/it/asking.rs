//! Questions to people: typed, several at once, in loops, fan-outs and child runs; answered one by one or
//! together, once, and in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::lease::{Incarnation, Lease};
use velo_engine::prelude::*;
use velo_engine::{Question, QuestionFilter, test_kit};

use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const EACH: NodeKey<Log, String> = NodeKey::new("each");
const WORK: NodeKey<Part> = NodeKey::new("work");

/// The state of children.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    prompt: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Publish,
    Redo { section: u8 },
}

fn single(node: impl Node<Log>) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .start(FIRST)
        .compile()
        .unwrap()
}

/// Children that ask what their prompt says.
fn asking() -> Graph<Part> {
    Graph::builder("part", 1)
        .node(WORK, async |cx: Context<Part>| {
            let result: String = cx.ask("result", &cx.state().prompt).await?;
            Ok(Part::update().result(result).into())
        })
        .start(WORK)
        .compile()
        .unwrap()
}

fn part(prompt: impl Into<String>) -> Part {
    Part {
        prompt: prompt.into(),
        ..Part::default()
    }
}

async fn open(engine: &Engine, run: RunId) -> Vec<Question> {
    engine.questions(Some(run), 100).await.unwrap()
}

/// The questions, once there are as many.
async fn asked(engine: &Engine, run: RunId, number: usize) -> Vec<Question> {
    until(async || open(engine, run).await.len() == number).await;
    open(engine, run).await
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    let settled = settled(engine, run).await;
    assert_eq!(settled.status, RunStatus::Completed, "{:?}", settled.error);
    engine.state::<Log>(run).await.unwrap().lines
}

fn names(questions: &[Question]) -> Vec<&str> {
    let names = questions.iter().map(|question| question.name.as_str());
    names.collect()
}

// B57.
#[tokio::test]
async fn a_wrong_answer_is_refused_when_it_is_given_and_the_question_stays_open() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let verdict: Verdict = cx.ask("verdict", &"well?").await?;
        Ok(line(format!("{verdict:?}")).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let question = asked(&engine, run, 1).await.remove(0);
    let schema = question.schema.clone().unwrap();
    assert!(schema.to_string().contains("publish"), "{schema}");
    for wrong in [json!("perhaps"), json!({ "redo": { "section": -1 } })] {
        let refused = engine.answer(&question, &wrong).await;
        let Err(EngineError::BadAnswer { name, problems, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((name.as_str(), problems.is_empty()), ("verdict", false));
    }
    assert_eq!(open(&engine, run).await, std::slice::from_ref(&question));
    let verdict = Verdict::Redo { section: 3 };
    engine.answer(&question, &verdict).await.unwrap();
    assert_eq!(lines(&engine, run).await, ["Redo { section: 3 }"]);
    beside.stop().await;
}

// B45. With `join!` both are asked at once.
#[tokio::test]
async fn an_answer_that_could_be_for_two_questions_is_refused_with_their_names() {
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
    asked(&engine, run, 2).await;
    let Err(EngineError::SeveralOpen { open: told, .. }) = engine.answer_only(run, &36).await
    else {
        panic!("it is not for one alone")
    };
    assert_eq!(told, ["age", "name"]);
    engine
        .answer_all(run, [("name", json!("Ada")), ("age", json!(36))])
        .await
        .unwrap();
    assert_eq!(lines(&engine, run).await, ["Ada is 36"]);
    beside.stop().await;
}

#[tokio::test]
async fn of_several_answers_all_are_accepted_or_none_and_the_error_names_the_bad_one() {
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
    let questions = asked(&engine, run, 2).await;
    let wrong = [("name", json!("Ada")), ("age", json!("old"))];
    let refused = engine.answer_all(run, wrong).await;
    assert!(
        matches!(&refused, Err(EngineError::BadAnswer { name, .. }) if name == "age"),
        "{refused:?}"
    );
    let unknown = [("name", json!("Ada")), ("size", json!(7))];
    let refused = engine.answer_all(run, unknown).await;
    let Err(EngineError::NotOpen {
        name, open: told, ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((name.as_str(), told.len()), ("size", 2));
    assert_eq!(open(&engine, run).await, questions);

    // Answered by somebody else after it was looked up: the other answer is undone with it.
    let age = &questions[0];
    engine.answer(age, &36).await.unwrap();
    let both = [
        (age.id.to_string(), json!(37)),
        ("name".to_owned(), json!("Eve")),
    ];
    let refused = engine.answer_all(run, both).await;
    assert!(
        matches!(refused, Err(EngineError::NotOpen { .. })),
        "{refused:?}"
    );
    assert_eq!(names(&asked(&engine, run, 1).await), ["name"]);
    engine.answer_only(run, &"Ada").await.unwrap();
    assert_eq!(lines(&engine, run).await, ["Ada is 36"]);
    beside.stop().await;
}

#[tokio::test]
async fn maps_of_answers_that_come_at_once_are_accepted_once_as_a_whole() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let (one, two) = tokio::join!(
            cx.ask::<u32>("one", &"?").into_future(),
            cx.ask::<u32>("two", &"?").into_future(),
        );
        Ok(line(format!("{} {}", one?, two?)).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    asked(&engine, run, 2).await;
    let answers = join_all((0..10_u32).map(|n| {
        let engine = engine.clone();
        async move {
            engine
                .answer_all(run, [("two", n), ("one", n)])
                .await
                .map(|()| n)
        }
    }))
    .await;
    let accepted: Vec<u32> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(accepted.len(), 1);
    let n = accepted[0];
    assert_eq!(lines(&engine, run).await, [format!("{n} {n}")]);
    beside.stop().await;
}

#[tokio::test]
async fn a_second_answer_and_one_to_a_question_of_a_past_step_are_refused_and_say_what_is_open() {
    let engine = test_kit::engine().await;
    let graph = Graph::builder("two", 1)
        .node(FIRST, async |cx: Context<Log>| {
            let word: String = cx.ask("first", &"?").await?;
            Ok(line(word).into())
        })
        .node(SECOND, async |cx: Context<Log>| {
            let word: String = cx.ask("second", &"?").await?;
            Ok(line(word).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let first = asked(&engine, run, 1).await.remove(0);
    engine.answer(&first, &"a").await.unwrap();
    until(async || names(&open(&engine, run).await) == ["second"]).await;
    let stale = engine.answer(&first, &"again").await;
    let Err(EngineError::NotOpen {
        name, open: told, ..
    }) = stale
    else {
        panic!("{stale:?}")
    };
    assert_eq!((name.as_str(), told), ("first", vec!["second".to_owned()]));
    engine.answer_only(run, &"b").await.unwrap();
    assert_eq!(lines(&engine, run).await, ["a", "b"]);
    let ended = engine.answer_only(run, &"c").await;
    assert!(
        matches!(&ended, Err(EngineError::NotOpen { open, .. }) if open.is_empty()),
        "{ended:?}"
    );
    beside.stop().await;
}

// B56. LangGraph refuses a resume without a saver or a thread; here every run is durable and has an id.
#[tokio::test]
async fn an_answer_to_a_run_that_never_was_is_refused_as_such() {
    let engine = test_kit::engine().await;
    let nobody = RunId::random();
    let refused = engine.answer_only(nobody, &1).await;
    assert!(matches!(refused, Err(EngineError::NoRun(run)) if run == nobody));
}

// B42. The edit is a step of its own, after which the question is asked anew.
#[tokio::test]
async fn a_state_that_was_edited_is_what_the_node_sees_when_its_two_questions_are_answered() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let one: String = cx.ask("one", &"value 1").await?;
        let two: String = cx.ask("two", &"value 2").await?;
        let before = cx.state().lines.join("");
        Ok(line(format!("{before} {one} {two}")).into())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    asked(&engine, run, 1).await;
    settled(&engine, run).await;
    engine
        .update_state(&graph, run, line("foofoo"))
        .await
        .unwrap();
    assert_eq!(engine.state::<Log>(run).await.unwrap().lines, ["foofoo"]);
    until(async || {
        open(&engine, run)
            .await
            .first()
            .is_some_and(|one| one.seq == 2)
    })
    .await;
    engine.answer_only(run, &"answer 1").await.unwrap();
    until(async || names(&open(&engine, run).await) == ["two"]).await;
    engine.answer_all(run, [("two", "answer 2")]).await.unwrap();
    assert_eq!(
        lines(&engine, run).await,
        ["foofoo", "foofoo answer 1 answer 2"]
    );
    beside.stop().await;
}

// B43.
#[tokio::test]
async fn a_question_is_asked_in_a_loop_until_its_answer_will_do() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let mut question = "how old are you?".to_owned();
        for n in 0.. {
            let age: u32 = cx.ask(format!("age/{n}"), &question).await?;
            if age >= 18 {
                return Ok(line(format!("age {age}")).into());
            }
            question = format!("{age} is no valid age: how old?");
        }
        Ok(Next::none())
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let mut shown = Vec::new();
    for (n, age) in [13, 15, 19].into_iter().enumerate() {
        until(async || names(&open(&engine, run).await) == [format!("age/{n}")]).await;
        shown.push(open(&engine, run).await[0].question.clone());
        engine.answer_only(run, &age).await.unwrap();
    }
    assert_eq!(lines(&engine, run).await, ["age 19"]);
    assert_eq!(
        shown,
        [
            "how old are you?",
            "13 is no valid age: how old?",
            "15 is no valid age: how old?"
        ]
    );
    beside.stop().await;
}

// B46.
#[tokio::test]
async fn five_children_ask_at_once_and_one_map_answers_them_all_in_the_order_of_the_sends() {
    let engine = test_kit::engine().await;
    let child = asking();
    let graph = Graph::builder("five", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(
                EACH,
                ["a", "b", "c", "d", "e"].map(str::to_owned),
            ))
        })
        .subgraph(
            EACH,
            &child,
            |cx| part(cx.input()),
            |part| line(format!("{}: {}", part.prompt, part.result)),
        )
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let questions = asked(&engine, run, 5).await;
    // All have one name: it does not tell them apart.
    let refused = engine.answer_all(run, [("result", "?")]).await;
    assert!(
        matches!(refused, Err(EngineError::SeveralOpen { .. })),
        "{refused:?}"
    );
    let answers = questions.iter().rev().map(|question| {
        let answer = format!("said {}", question.question.as_str().unwrap());
        (question.id.to_string(), answer)
    });
    engine.answer_all(run, answers).await.unwrap();
    assert_eq!(
        lines(&engine, run).await,
        [
            "a: said a",
            "b: said b",
            "c: said c",
            "d: said d",
            "e: said e"
        ]
    );
    beside.stop().await;
}

// B48, B49. What was kept before the question is not done again, and not stored again.
#[tokio::test]
async fn what_a_node_did_before_its_question_is_kept_when_the_answer_comes() {
    let engine = test_kit::engine().await;
    let calls: Arc<[AtomicU32; 2]> = Arc::default();
    let counted = Arc::clone(&calls);
    let graph = single(move |cx: Context<Log>| {
        let calls = Arc::clone(&counted);
        calls[0].fetch_add(1, Ordering::SeqCst);
        async move {
            for n in 0..2_u32 {
                cx.step(format!("part {n}"), async |_| {
                    calls[1].fetch_add(1, Ordering::SeqCst);
                    Ok::<_, NodeError>(n)
                })
                .await?;
            }
            let word: String = cx.ask("word", &"?").await?;
            Ok(line(word).into())
        }
    });
    let run = engine.start(&graph, Log::default()).await.unwrap();
    // A lease that is lost to a slow machine would have the body run again.
    let beside = Beside::start(worker(&engine, graph).lease(Duration::from_secs(600)));
    asked(&engine, run, 1).await;
    let written = "select array_agg(xmin::text order by name) from velo.memo";
    let written = sqlx::query_scalar::<_, Vec<String>>(written);
    let before = written.fetch_one(engine.pool()).await.unwrap();
    engine.answer_only(run, &"go").await.unwrap();
    assert_eq!(lines(&engine, run).await, ["go"]);
    let made = calls.each_ref().map(|calls| calls.load(Ordering::SeqCst));
    assert_eq!(made, [2, 2], "the body ran twice, its parts once each");
    let after = "select array_agg(xmin::text order by name) from velo.memo";
    let after = sqlx::query_scalar::<_, Vec<String>>(after);
    assert_eq!(after.fetch_one(engine.pool()).await.unwrap(), before);
    beside.stop().await;
}

// B50.
#[tokio::test]
async fn a_child_that_asks_is_run_twice_by_one_node_and_what_the_parent_writes_is_there_once() {
    let engine = test_kit::engine().await;
    let child = asking();
    let called = child.clone();
    let graph = Graph::builder("parent", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let child = called.clone();
            async move {
                let one = cx.child("one", &child, part("first?")).await?;
                let two = cx.child("two", &child, part("second?")).await?;
                Ok(line(format!("{} {}", one.result, two.result)).into())
            }
        })
        .child(&child)
        .start(FIRST)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    for (question, answer) in [("first?", "a"), ("second?", "b")] {
        until(async || {
            let open = open(&engine, run).await;
            open.first().is_some_and(|asked| asked.question == question)
        })
        .await;
        engine.answer_only(run, &answer).await.unwrap();
    }
    assert_eq!(lines(&engine, run).await, ["a b"]);
    assert_eq!(engine.children(run, 10).await.unwrap().len(), 2);
    beside.stop().await;
}

/// A lease of the run, and what whoever has it would ask for when the time of the question `go` is up.
async fn close(engine: &Engine, lease: Lease) -> (String, Option<serde_json::Value>) {
    sqlx::query_as("select verdict, answer from velo.close_question($1, $2, $3, 1, 0, 'go')")
        .bind(lease.worker)
        .bind(lease.run)
        .bind(lease.fence)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn an_answer_that_is_being_accepted_when_the_time_is_up_counts_and_one_after_that_does_not() {
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let ask = cx.ask("go", &"?");
        let word = ask.or_after(Duration::from_secs(3_600), "by itself".to_owned());
        Ok(line(word.await?).into())
    });
    let mut leases = Vec::new();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let run = engine.start(&graph, Log::default()).await.unwrap();
        until(async || {
            let asleep = "select wake_at is not null from velo.queue where run_id = $1";
            let asleep = sqlx::query_scalar::<_, bool>(asleep).bind(run);
            asleep.fetch_one(engine.pool()).await.unwrap()
        })
        .await;
        runs.push((run, open(&engine, run).await.remove(0)));
    }
    beside.stop().await;
    let long = Duration::from_secs(600);
    let holder = Incarnation::register(engine.pool(), "test", "nowhere", 1, long);
    let holder = holder.await.unwrap();
    for (run, _) in &runs {
        engine.resume(*run).await.unwrap();
        let codes = ["single@1".to_owned()];
        let claims = holder.claim(engine.pool(), &codes, 1, Some(*run)).await;
        leases.push(claims.unwrap()[0].lease);
    }

    // The answer has been found in time, and is not committed.
    let mut answering = engine.pool().begin().await.unwrap();
    for statement in [
        "select from velo.queue where run_id = $1 for update",
        "update velo.wait set answer = '\"accepted\"' where run_id = $1",
    ] {
        let done = sqlx::query(statement)
            .bind(runs[0].0)
            .execute(&mut *answering);
        assert_eq!(done.await.unwrap().rows_affected(), 1);
    }
    let closing = tokio::spawn({
        let (engine, lease) = (engine.clone(), leases[0]);
        async move { close(&engine, lease).await }
    });
    until(async || {
        let waiting = "select exists (select from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock')";
        sqlx::query_scalar::<_, bool>(waiting)
            .fetch_one(engine.pool())
            .await
            .unwrap()
    })
    .await;
    answering.commit().await.unwrap();
    let closed = within(closing).await.unwrap();
    assert_eq!(closed, ("answered".to_owned(), Some(json!("accepted"))));

    let (_, question) = &runs[1];
    assert_eq!(close(&engine, leases[1]).await, ("closed".to_owned(), None));
    let late = engine.answer(question, &"late").await;
    assert!(matches!(late, Err(EngineError::NotOpen { .. })), "{late:?}");
    holder.retire(engine.pool()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(lines(&engine, runs[0].0).await, ["accepted"]);
    assert_eq!(lines(&engine, runs[1].0).await, ["by itself"]);
    beside.stop().await;
}

#[tokio::test]
async fn between_answers_and_the_end_of_their_time_there_is_one_winner() {
    const RUNS: usize = 16;
    let engine = test_kit::engine().await;
    let graph = single(async |cx: Context<Log>| {
        let ask = cx.ask("go", &"?");
        let word = ask.or_after(Duration::from_millis(1_500), "by itself".to_owned());
        Ok(line(word.await?).into())
    });
    let beside = Beside::start(worker(&engine, graph.clone()));
    let mut answering = Vec::new();
    for n in 0..RUNS {
        let run = engine.start(&graph, Log::default()).await.unwrap();
        let engine = engine.clone();
        answering.push(tokio::spawn(async move {
            let question = loop {
                if let Some(question) = open(&engine, run).await.pop() {
                    break question;
                }
                // Nobody came to answer in time.
                if engine.run(run).await.unwrap().status.is_terminal() {
                    return (run, false);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            let left = question.expires_at.unwrap() - chrono::Utc::now();
            // Around the end of the time, a little before and a little after.
            let early = Duration::from_millis(10).mul_f64(n as f64 / RUNS as f64);
            let left = left.to_std().unwrap_or_default();
            tokio::time::sleep(left.saturating_sub(early)).await;
            (run, engine.answer(&question, &"answered").await.is_ok())
        }));
    }
    let mut won = [0, 0];
    for answering in answering {
        let (run, is_accepted) = answering.await.unwrap();
        until(async || engine.run(run).await.unwrap().status == RunStatus::Completed).await;
        let word = if is_accepted { "answered" } else { "by itself" };
        assert_eq!(engine.state::<Log>(run).await.unwrap().lines, [word]);
        won[usize::from(is_accepted)] += 1;
    }
    println!("{} defaults, {} answers", won[0], won[1]);
    beside.stop().await;
}

#[tokio::test]
async fn open_questions_of_all_runs_are_listed_by_page_thread_and_graph_with_their_schemas() {
    let engine = test_kit::engine().await;
    let named = |name: &str| {
        Graph::builder(name, 1)
            .node(FIRST, async |cx: Context<Log>| {
                let (one, two) = tokio::join!(
                    cx.ask::<u32>("one", &"?").into_future(),
                    cx.ask::<Verdict>("two", &"?").into_future(),
                );
                Ok(line(format!("{:?} {:?}", one?, two?)).into())
            })
            .start(FIRST)
            .compile()
            .unwrap()
    };
    let (left, right) = (named("left"), named("right"));
    let mut runs = Vec::new();
    for n in 0..3 {
        let thread = format!("thread/{n}");
        runs.push(
            engine
                .start(&left, Log::default())
                .thread(thread)
                .await
                .unwrap(),
        );
    }
    let other = engine.start(&right, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, left).serve(right));
    until(async || engine.questions(None, 100).await.unwrap().len() == 8).await;

    let mut page = QuestionFilter {
        graph: Some("left".to_owned()),
        limit: 4,
        ..QuestionFilter::default()
    };
    let first = engine.list_questions(&page).await.unwrap();
    page.after = Some(first[3].question.id.clone());
    let second = engine.list_questions(&page).await.unwrap();
    let listed: Vec<(RunId, &str)> = first
        .iter()
        .chain(&second)
        .map(|listed| (listed.question.run, listed.question.name.as_str()))
        .collect();
    runs.sort_unstable();
    let all = runs.iter().flat_map(|run| [(*run, "one"), (*run, "two")]);
    assert_eq!(listed, all.collect::<Vec<_>>());
    page.after = Some(second[1].question.id.clone());
    assert!(engine.list_questions(&page).await.unwrap().is_empty());

    let of_thread = QuestionFilter {
        thread: Some("thread/1".to_owned()),
        ..QuestionFilter::default()
    };
    let found = engine.list_questions(&of_thread).await.unwrap();
    assert_eq!(found.len(), 2);
    let question = &found[0].question;
    assert_eq!(question.schema.as_ref().unwrap()["minimum"], json!(0));
    let told = serde_json::to_value(&found[0]).unwrap();
    assert_eq!(told["id"], json!(question.id.to_string()));
    assert_eq!(
        (&told["graph"], &told["thread"], &told["name"]),
        (&json!("left"), &json!("thread/1"), &json!("one"))
    );
    assert_eq!(open(&engine, other).await.len(), 2);
    beside.stop().await;
}
