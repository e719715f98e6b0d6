use serde::{Deserialize, Serialize};
use velo_engine::executor::{AdvanceError, advance, begin};
use velo_engine::{Next, NodeKey, Shape, State, Update, UpdateRoute};

use crate::support::{A, B, C, D, Log, WORK, graph, logged, names, play};

fn line(text: &str) -> Next<Log> {
    Log::update().seen(vec![text.to_owned()]).into()
}

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Pair {
    foo: String,
    bar: String,
}

/// B1: writes and routes at once, without a single static edge.
#[test]
fn a_graph_needs_no_edges_where_nodes_choose_their_way() {
    const FIRST: NodeKey<Pair> = NodeKey::new("first");
    const SECOND: NodeKey<Pair> = NodeKey::new("second");
    let shape = Shape::builder("pair", 1)
        .node(FIRST)
        .node(SECOND)
        .start(FIRST)
        .may_go(FIRST, SECOND)
        .compile()
        .unwrap();
    let start = begin(&shape, Pair::default());
    let went = vec![Pair::update().foo("bar").goto(SECOND)];
    let second = advance(&shape, &start, went).unwrap();
    let done = advance(&shape, &second, vec![Pair::update().bar("baz").end()]).unwrap();
    assert!(done.tasks.is_empty());
    assert_eq!((&*done.state.foo, &*done.state.bar), ("bar", "baz"));
}

/// B5: the input goes through the reducers where it is given as an update.
#[test]
fn an_input_given_as_an_update_goes_through_the_reducers() {
    let state = Log::update()
        .topic("bees")
        .seen(vec!["one".to_owned()])
        .seen(vec!["two".to_owned()])
        .into_state()
        .unwrap();
    assert_eq!((&*state.topic, state.seen.len()), ("bees", 2));
    let twice = Log::update().topic("bees").topic("ants").into_state();
    assert_eq!(twice.unwrap_err().nodes, ["input", "input"]);
}

/// B6: two sends to one node, whose edge leads on.
#[test]
fn what_follows_two_sends_to_one_node_runs_once() {
    let shape = graph(&[A, B, C])
        .node(WORK)
        .edge(A, B)
        .may_go(B, WORK)
        .edge(WORK, C)
        .compile()
        .unwrap();
    let (history, _) = play(&shape, 50, |task, _| match task.node.as_str() {
        "b" => Next::send_all(WORK, [1, 1]),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b", "work work", "c"]);
}

/// B7: two nodes that start side by side both send, and one names another node as well.
#[test]
fn sends_of_several_nodes_run_in_the_order_of_their_senders() {
    let shape = graph(&[A, B, C, D])
        .node(WORK)
        .start(B)
        .may_go(A, WORK)
        .may_go(A, C)
        .may_go(B, WORK)
        .edge(WORK, D)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 50, |task, _| match task.node.as_str() {
        "a" => Next::send_all(WORK, [1, 2])
            .and_goto(C)
            .and_update(Log::update().seen(vec!["a".to_owned()])),
        "b" => Next::send_all(WORK, [3, 4]).and_update(Log::update().seen(vec!["b".to_owned()])),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a b", "c work work work work", "d"]);
    assert_eq!(
        at.state.seen,
        ["a", "b", "c", "work1", "work2", "work3", "work4", "d"]
    );
}

/// B15: a node that returns several outcomes.
#[test]
fn several_outcomes_of_one_node_are_applied_in_order() {
    let shape = graph(&[A, B, C])
        .may_go(A, B)
        .may_go(A, C)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 50, |task, _| match task.node.as_str() {
        "a" => {
            let first = line("a1").and_goto(B);
            [first, line("a2"), Next::goto(C)].into_iter().collect()
        }
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b c"]);
    assert_eq!(at.state.seen, ["a1", "a2", "b", "c"]);
}

/// B15: with an edge, which is followed unless one of the outcomes has a route.
#[test]
fn outcomes_without_a_route_follow_the_edges() {
    let shape = graph(&[A, B, C]).edge(A, B).may_go(A, C).compile().unwrap();
    let after = |outcome: Next<Log>| {
        let start = begin(&shape, Log::default());
        names(&advance(&shape, &start, vec![outcome]).unwrap())
    };
    assert_eq!(after(line("a1").then(line("a2"))), "b");
    assert_eq!(after(line("a1").then(Next::goto(C))), "c");
    assert_eq!(after(Next::goto(C).then(line("a2"))), "c");
    assert_eq!(after(line("a1").then(Next::end())), "");
}

/// B16: one node writes a merged field twice, before another node does.
#[test]
fn several_writes_of_one_node_stay_together_and_in_order() {
    let shape = graph(&[A, B]).start(B).compile().unwrap();
    let (_, at) = play(&shape, 50, |task, _| {
        line(&format!("{}.0", task.node)).then(line(&format!("{}.1", task.node)))
    })
    .unwrap();
    assert_eq!(at.state.seen, ["a.0", "a.1", "b.0", "b.1"]);
}

/// B18: a plan of steps, one of which has two nodes side by side, carried out by a planner that
/// chooses its way.
#[test]
fn a_planner_runs_once_after_a_pair_that_it_sent_side_by_side() {
    const PLANNER: NodeKey<Log> = NodeKey::new("planner");
    let nodes = Shape::builder("plan", 1)
        .node(PLANNER)
        .node(A)
        .node(B)
        .node(C)
        .node(D);
    let shape = [A, B, C, D]
        .into_iter()
        .fold(nodes.start(PLANNER), |nodes, node| {
            nodes.may_go(PLANNER, node).edge(node, PLANNER)
        })
        .compile()
        .unwrap();
    let (history, _) = play(&shape, 50, |task, at| match (task.node.as_str(), at.step) {
        ("planner", 0) => Next::goto(A),
        ("planner", 2) => Next::goto(B).and_goto(C),
        ("planner", 4) => Next::goto(D),
        ("planner", _) => Next::end(),
        _ => logged(task),
    })
    .unwrap();
    let expected = ["planner", "a", "planner", "b c", "planner", "d", "planner"];
    assert_eq!(history, expected);
}

/// B21: a loop over the limit.
#[test]
fn a_run_at_its_limit_keeps_its_state_and_goes_on_under_a_higher_one() {
    let looping = |limit| {
        let graph = graph(&[A]).edge(A, A).step_limit(limit);
        graph.compile().unwrap()
    };
    let (history, at) = play(&looping(3), 3, |task, _| logged(task)).unwrap();
    assert_eq!((history.len(), at.steps_left(&looping(3))), (3, 0));
    assert_eq!(at.may_step(&looping(3)), Err(AdvanceError::StepLimit(3)));
    assert_eq!(at.state.seen, ["a", "a", "a"]);
    let further = advance(&looping(4), &at, vec![line("a")]).unwrap();
    assert_eq!(further.state.seen.len(), 4);
}

#[test]
fn a_limit_of_the_run_itself_counts_instead_of_the_graphs() {
    let shape = graph(&[A]).edge(A, A).step_limit(1).compile().unwrap();
    let mut run = begin(&shape, Log::default());
    assert_eq!(run.steps_left(&shape), 1);
    run.step_limit = Some(2);
    assert_eq!(run.steps_left(&shape), 2);
    run.take_step(&shape, vec![line("a")]).unwrap();
    run.take_step(&shape, vec![line("a")]).unwrap();
    let error = run.take_step(&shape, vec![line("a")]).unwrap_err();
    assert_eq!(error, AdvanceError::StepLimit(2));
}
