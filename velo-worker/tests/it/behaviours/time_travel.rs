use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{EngineError, Origin, Question, test_kit};

use super::support::{Calls, Sum, asked, history, line, lines, said, serve};
use crate::support::{Beside, settled};

const A: NodeKey<Sum> = NodeKey::new("a");
const ASK: NodeKey<Sum> = NodeKey::new("ask");
const B: NodeKey<Sum> = NodeKey::new("b");
const EACH: NodeKey<Sum, u32> = NodeKey::new("each");

/// Says "a", asks a person, and says "b".
fn asking(calls: &Calls) -> Graph<Sum> {
    let calls = calls.clone();
    Graph::builder("asking", 1)
        .node(A, move |_: Context<Sum>| {
            calls.next();
            async { Ok(line("a")) }
        })
        .node(ASK, async |cx: Context<Sum>| {
            let answer: String = cx.ask("name", &"who are you?").await?;
            Ok(line(format!("human:{answer}")))
        })
        .node(B, async |_: Context<Sum>| Ok(line("b")))
        .start(A)
        .edge(A, ASK)
        .edge(ASK, B)
        .compile()
        .unwrap()
}

struct Asked {
    engine: Engine,
    graph: Graph<Sum>,
    run: RunId,
    beside: Beside,
    calls: Calls,
}

impl Asked {
    /// A run of [`asking`] that has come to its end with the answer "old".
    async fn and_answered() -> Self {
        let (engine, calls) = (test_kit::engine().await, Calls::default());
        let graph = asking(&calls);
        let beside = serve(&engine, graph.clone());
        let run = engine.start(&graph, Sum::default()).await.unwrap();
        let asked = Self {
            engine,
            graph,
            run,
            beside,
            calls,
        };
        assert_eq!(asked.answer(run, "old").await, ["a", "human:old", "b"]);
        asked
    }

    /// Forks before the question.
    async fn replayed(&self) -> RunId {
        self.engine.fork(&self.graph, self.run, 1).await.unwrap()
    }

    /// Answers the run's open question; its lines when it has come to its end.
    async fn answer(&self, run: RunId, answer: &str) -> Vec<String> {
        let question = asked(&self.engine, run).await;
        self.engine.answer(&question, &answer).await.unwrap();
        lines(&self.engine, run).await
    }

    async fn question(&self, run: RunId) -> Question {
        asked(&self.engine, run).await
    }
}

/// B69: what came before the step is not run again.
/// B72: a question that was answered is asked again, and may be answered otherwise.
#[tokio::test]
async fn a_replay_from_before_an_answer_asks_again_and_leaves_the_old_branch_alone() {
    let asked = Asked::and_answered().await;
    let old = history(&asked.engine, asked.run).await;
    let replay = asked.replayed().await;
    let lines = asked.answer(replay, "new").await;
    assert_eq!(lines, ["a", "human:new", "b"]);
    assert_eq!(asked.calls.made(), 1, "`a` was not run again");
    assert_eq!(history(&asked.engine, asked.run).await, old);
    let origin = Origin {
        run: asked.run,
        seq: 1,
    };
    assert_eq!(asked.engine.lineage(replay).await.unwrap(), [origin]);
    asked.beside.stop().await;
}

/// B73: a replay may be replayed as often as one likes.
#[tokio::test]
async fn each_of_three_replays_asks_the_same_question() {
    let asked = Asked::and_answered().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let replay = asked.replayed().await;
        let question = asked.question(replay).await;
        assert_eq!(
            (question.name.as_str(), &question.question),
            ("name", &json!("who are you?"))
        );
        ids.push(question.run);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "and each has an answer of its own");
    asked.beside.stop().await;
}

/// B74: an edit of the past is seen by what comes after it.
/// B75: two branches of one step know nothing of each other.
#[tokio::test]
async fn two_forks_of_one_step_are_edited_and_answered_apart() {
    let asked = Asked::and_answered().await;
    let fork = |text: &str| {
        let fork = asked.engine.fork(&asked.graph, asked.run, 1);
        fork.update(said(text)).into_future()
    };
    let (one, two) = (fork("one").await.unwrap(), fork("two").await.unwrap());
    let second = asked.answer(two, "moon").await;
    assert_eq!(second, ["a", "two", "human:moon", "b"]);
    let first = asked.answer(one, "world").await;
    assert_eq!(first, ["a", "one", "human:world", "b"]);
    let original = lines(&asked.engine, asked.run).await;
    assert_eq!(original, ["a", "human:old", "b"]);
    asked.beside.stop().await;
}

/// B77: a copy of a step and an edit of the newest one are told apart, and both ask again.
#[tokio::test]
async fn a_fork_and_an_edit_both_ask_again_and_only_the_edit_is_a_step_by_hand() {
    let asked = Asked::and_answered().await;
    let fork = asked.replayed().await;
    let before = asked.question(fork).await;
    settled(&asked.engine, fork).await;
    let seq = asked
        .engine
        .update_state(&asked.graph, fork, said("edited"))
        .await
        .unwrap();
    settled(&asked.engine, fork).await;
    let late = asked.engine.answer(&before, &"late").await;
    assert!(matches!(late, Err(EngineError::NotOpen { .. })), "{late:?}");
    let lines = asked.answer(fork, "new").await;
    assert_eq!(lines, ["a", "edited", "human:new", "b"]);
    let by_hand: Vec<_> = history(&asked.engine, fork)
        .await
        .iter()
        .map(|step| step.is_edit)
        .collect();
    assert_eq!((seq, by_hand), (1, vec![false, true, false, false]));
    asked.beside.stop().await;
}

/// B80: a run that goes on from the middle of another one adds its steps to a copy, and the other one
/// keeps its own.
#[tokio::test]
async fn a_fork_counts_its_own_steps_and_the_earlier_ones_stay_with_the_original() {
    let asked = Asked::and_answered().await;
    let fork = asked.replayed().await;
    asked.answer(fork, "new").await;
    let told: Vec<_> = history(&asked.engine, fork)
        .await
        .into_iter()
        .map(|step| (step.seq, step.nodes.join(",")))
        .collect();
    let expected = [(0, ""), (1, "ask"), (2, "b")].map(|(seq, nodes)| (seq, nodes.to_owned()));
    assert_eq!(told, expected);
    assert_eq!(history(&asked.engine, asked.run).await.len(), 4);
    assert_eq!(
        asked.engine.state_at::<Sum>(fork, 0).await.unwrap(),
        asked.engine.state_at::<Sum>(asked.run, 1).await.unwrap()
    );
    asked.beside.stop().await;
}

/// B83: a page of a history begins after any of its steps and is as long as one likes.
#[tokio::test]
async fn a_history_is_read_page_by_page_from_any_step() {
    let asked = Asked::and_answered().await;
    let whole = history(&asked.engine, asked.run).await;
    let mut pages = Vec::new();
    let mut after = -1;
    loop {
        let page = asked.engine.history(asked.run, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = last.seq;
        pages.extend(page);
    }
    assert_eq!(pages, whole);
    let none = asked.engine.history(asked.run, -1, 0).await.unwrap();
    assert_eq!(none, []);
    let beyond = asked.engine.history(asked.run, 99, 10).await.unwrap();
    assert_eq!(beyond, []);
    asked.beside.stop().await;
}

/// A node that sends three times, and what follows all of them.
fn sending() -> Graph<Sum> {
    Graph::builder("sending", 1)
        .node(A, async |_: Context<Sum>| {
            Ok(said("a").send(EACH, 1).and_send(EACH, 2).and_send(EACH, 3))
        })
        .node(EACH, async |cx: Context<Sum, u32>| {
            Ok(line(format!("each {}", cx.input())))
        })
        .node(B, async |_: Context<Sum>| Ok(line("b")))
        .start(A)
        .may_go(A, EACH)
        .edge(EACH, B)
        .compile()
        .unwrap()
}

/// B79: a history that was made elsewhere, with three sends in it, is there as if it had been run here.
#[tokio::test]
async fn an_imported_history_is_equal_to_the_one_that_was_run_and_can_be_forked_at_its_sends() {
    let (engine, other) = (test_kit::engine().await, test_kit::engine().await);
    let graph = sending();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph.clone());
    let original = lines(&engine, run).await;
    beside.stop().await;
    let export = engine.export(run).await.unwrap();

    let imported = other.import(&export).await.unwrap();
    let beside = serve(&other, graph.clone());
    assert_eq!(history(&other, imported).await, history(&engine, run).await);
    let fork = other.fork(&graph, imported, 1).await.unwrap();
    assert_eq!(lines(&other, fork).await, original);
    beside.stop().await;
}

/// B79: steps that are made by hand, each in the place of a node, lead where the nodes lead.
#[tokio::test]
async fn a_history_made_by_hand_step_by_step_is_that_of_the_nodes() {
    let (engine, calls) = (test_kit::engine().await, Calls::default());
    let graph = asking(&calls);
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    for (node, text) in [(A, "a"), (ASK, "human:old"), (B, "b")] {
        let edit = engine.update_state(&graph, run, said(text)).as_node(node);
        edit.await.unwrap();
    }
    assert_eq!(lines(&engine, run).await, ["a", "human:old", "b"]);
    let by_hand = history(&engine, run).await;
    let asked = Asked::and_answered().await;
    let by_nodes = history(&asked.engine, asked.run).await;
    for (hand, nodes) in by_hand.iter().zip(&by_nodes) {
        assert_eq!(
            (&hand.nodes, &hand.writes, &hand.next),
            (&nodes.nodes, &nodes.writes, &nodes.next)
        );
    }
    assert_eq!((by_hand.len(), calls.made()), (by_nodes.len(), 0));
    asked.beside.stop().await;
}
