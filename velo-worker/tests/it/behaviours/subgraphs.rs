use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;
use velo_engine::{NodeFailure, TimeLimit, Why, test_kit};

use super::support::{Sum, asked, history, line, lines, said, serve};
use crate::support::{settled, until};

const CHILD: NodeKey<Sum> = NodeKey::new("child");
const AFTER: NodeKey<Sum> = NodeKey::new("after");
const AGAIN: NodeKey<Sum> = NodeKey::new("again");
const HANDLE: NodeKey<Sum, NodeFailure> = NodeKey::new("handle");
const FIRST: NodeKey<Notes> = NodeKey::new("first");
const SECOND: NodeKey<Notes> = NodeKey::new("second");

/// The state of children, none of whose fields is the parent's.
#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Notes {
    #[state(append)]
    heard: Vec<String>,
    word: String,
}

fn child(name: &str, node: impl Node<Notes>) -> Graph<Notes> {
    Graph::builder(name, 1)
        .node(FIRST, node)
        .start(FIRST)
        .compile()
        .unwrap()
}

fn hear(text: impl Into<String>) -> NotesUpdate {
    Notes::update().heard(vec![text.into()])
}

/// B59: the child decides what its parent writes, in one step of the parent.
/// B60: it also decides where its parent goes; what it has written itself is not lost. Time limits make
/// no difference.
#[tokio::test]
async fn a_child_writes_to_its_parent_and_chooses_its_way_in_one_step() {
    let engine = test_kit::engine().await;
    let part = child("part", async |_: Context<Notes>| {
        Ok(hear("of the child").word("child").into())
    });
    let minute = Some(std::time::Duration::from_secs(60));
    let graph = Graph::builder("parent", 1)
        .subgraph(
            CHILD,
            &part,
            |_| Notes::default(),
            |notes| said(notes.heard.join(",")).owner(notes.word).goto(AFTER),
        )
        .node(AFTER, async |_: Context<Sum>| Ok(line("after")))
        .node(AGAIN, async |_: Context<Sum>| Ok(line("by the edge")))
        .time_limit(
            CHILD,
            TimeLimit {
                start_to_close: minute,
                idle: minute,
                ..TimeLimit::default()
            },
        )
        .start(CHILD)
        .may_go(CHILD, AFTER)
        .edge(CHILD, AGAIN)
        .compile()
        .unwrap();
    let input = said("init").into_state().unwrap();
    let run = engine.start(&graph, input).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(lines(&engine, run).await, ["init", "of the child", "after"]);
    assert_eq!(engine.state::<Sum>(run).await.unwrap().owner, "child");
    assert_eq!(history(&engine, run).await.len(), 3);
    let child = engine.children(run, 10).await.unwrap().remove(0);
    let kept: Notes = engine.state(child.run).await.unwrap();
    assert_eq!(kept.heard, ["of the child"]);
    beside.stop().await;
}

/// B64: each call of a stateless child is a new one, also after it has asked.
#[tokio::test]
async fn a_stateless_child_that_asks_begins_each_call_with_nothing() {
    let engine = test_kit::engine().await;
    let part = child("part", async |cx: Context<Notes>| {
        let answer: String = cx.ask("word", &cx.state().heard.len()).await?;
        Ok(hear(answer).into())
    });
    let graph = Graph::builder("parent", 1)
        .subgraph(
            CHILD,
            &part,
            |_| Notes::default(),
            |notes| said(notes.heard.join(",")),
        )
        .node(AGAIN, async |cx: Context<Sum>| {
            Ok(match cx.state().lines.len() {
                1 => Next::goto(CHILD),
                _ => Next::end(),
            })
        })
        .start(CHILD)
        .edge(CHILD, AGAIN)
        .may_go(AGAIN, CHILD)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    let mut askers = Vec::new();
    for answer in ["one", "two"] {
        until(async || {
            let open = engine.questions(Some(run), 10).await.unwrap();
            open.iter().any(|question| !askers.contains(&question.run))
        })
        .await;
        let question = asked(&engine, run).await;
        assert_eq!(question.question, 0, "it has heard nothing yet");
        engine.answer(&question, &answer).await.unwrap();
        askers.push(question.run);
    }
    assert_eq!(lines(&engine, run).await, ["one", "two"]);
    beside.stop().await;
}

/// Calls a stateful child twice: it hears one word more each time and tells all of them.
fn remembering() -> Graph<Sum> {
    let part = child("memory", async |cx: Context<Notes>| {
        Ok(hear(cx.state().word.clone()).into())
    });
    Graph::builder("remembering", 1)
        .stateful_subgraph(
            CHILD,
            &part,
            |cx, last: Option<Notes>| Notes {
                word: format!("word {}", cx.state().lines.len()),
                ..last.unwrap_or_default()
            },
            |notes| said(notes.heard.join(",")),
        )
        .node(AGAIN, async |cx: Context<Sum>| {
            Ok(match cx.state().lines.len() {
                ..3 => Next::goto(CHILD),
                _ => Next::end(),
            })
        })
        .start(CHILD)
        .edge(CHILD, AGAIN)
        .may_go(AGAIN, CHILD)
        .compile()
        .unwrap()
}

/// B63: a stateful child in a loop remembers its earlier calls.
/// B67: every step of parent and children is a row: there is no mode in which one is not.
/// B85: what the last call has kept is given to the next one.
#[tokio::test]
async fn a_stateful_child_in_a_loop_is_given_what_its_last_call_has_left() {
    let engine = test_kit::engine().await;
    let graph = remembering();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    assert_eq!(
        lines(&engine, run).await,
        ["word 0", "word 0,word 1", "word 0,word 1,word 2"]
    );
    assert_eq!(history(&engine, run).await.len(), 1 + 2 * 3);
    let children = engine.children(run, 10).await.unwrap();
    assert_eq!(children.len(), 3);
    for child in children {
        assert_eq!(history(&engine, child.run).await.len(), 2);
    }
    beside.stop().await;
}

/// B82: a parent that goes on from before its child's second call: the child sees what the first has
/// left, and nothing of the second.
#[tokio::test]
async fn a_fork_gives_a_stateful_child_what_it_had_at_the_step_and_nothing_later() {
    let engine = test_kit::engine().await;
    let graph = remembering();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph.clone());
    let original = lines(&engine, run).await;
    // After the first call and the node that goes back to it.
    let fork = engine.fork(&graph, run, 2).await.unwrap();
    assert_eq!(lines(&engine, fork).await, original);
    // Before any call, and from a fork of the fork.
    let anew = engine.fork(&graph, run, 0).await.unwrap();
    assert_eq!(lines(&engine, anew).await, original);
    let twice = engine.fork(&graph, fork, 2).await.unwrap();
    assert_eq!(lines(&engine, twice).await, original);
    beside.stop().await;
}

/// copy_thread/namespaces: what a child remembers comes along with a copy of its parent.
#[tokio::test]
async fn a_copy_gives_a_stateful_child_what_it_had_at_the_copied_step() {
    let (engine, graph) = (test_kit::engine().await, remembering());
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph.clone());
    let original = lines(&engine, run).await;
    beside.stop().await;
    // A run that has taken two steps and is at no worker.
    let half = engine.fork(&graph, run, 2).await.unwrap();
    let copy = engine.copy(half, None).await.unwrap();
    assert_eq!(engine.run(copy).await.unwrap().status, RunStatus::Paused);
    let beside = serve(&engine, graph);
    assert!(engine.resume(copy).await.unwrap());
    assert_eq!(lines(&engine, copy).await, original);
    beside.stop().await;
}

/// B33: a child whose node fails keeps its work and waits for its operator; when that gives it up, the
/// handler of the parent is told the name of the parent's node.
#[tokio::test]
async fn the_failure_of_a_child_pauses_the_child_and_its_end_goes_to_the_handler_of_its_parents_node()
 {
    let engine = test_kit::engine().await;
    let part = Graph::builder("failing", 1)
        .node(
            FIRST,
            async |_: Context<Notes>| Ok(hear("dear work").into()),
        )
        .node(SECOND, async |_: Context<Notes>| {
            Err(NodeError::permanent("no"))
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let graph = Graph::builder("parent", 1)
        .subgraph(CHILD, &part, |_| Notes::default(), |notes| said(notes.word))
        .node(HANDLE, async |cx: Context<Sum, NodeFailure>| {
            Ok(line(format!("{} failed", cx.input().node)))
        })
        .start(CHILD)
        .on_error(CHILD, HANDLE)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let beside = serve(&engine, graph);
    until(async || !engine.children(run, 10).await.unwrap().is_empty()).await;
    let child = engine.children(run, 10).await.unwrap().remove(0).run;
    let paused = settled(&engine, child).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let kept: Notes = engine.state(child).await.unwrap();
    assert_eq!(kept.heard, ["dear work"]);
    until(async || {
        let why = engine.why(run).await.unwrap();
        matches!(why, Why::AwaitingChildren { children, .. }
            if children[0].status == RunStatus::Paused)
    })
    .await;

    assert!(engine.terminate(child, "it is no use").await.unwrap());
    assert_eq!(lines(&engine, run).await, ["child failed"]);
    beside.stop().await;
}
