use velo_engine::executor::AdvanceError;
use velo_engine::{Next, NodeKey};

use crate::support::{A, B, C, D, E, Log, WORK, follow_edges, graph, logged, names, play};

const F: NodeKey<Log> = NodeKey::new("f");

/// B10: retrievers of unequal depth, joined before the answer.
#[test]
fn what_follows_a_join_runs_once_after_the_longest_branch() {
    let shape = graph(&[A, B, C, D, E])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .join([B, D], E)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d", "e"]);
}

/// B11: the same with a plain edge beside the join.
#[test]
fn an_edge_beside_a_join_starts_the_node_once_more() {
    let shape = graph(&[A, B, C, D, E])
        .edge(A, B)
        .edge(A, E)
        .edge(B, C)
        .edge(B, D)
        .join([C, D], E)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b e", "c d", "e"]);
}

/// B12: a join inside a loop.
#[test]
fn a_join_in_a_loop_opens_in_each_round() {
    let shape = graph(&[A, B, C, D, E])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .join([B, D], E)
        .may_go(E, A)
        .compile()
        .unwrap();
    let (history, _) = play(&shape, 50, |task, at| match task.node.as_str() {
        "e" if at.step < 4 => Next::goto(A),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b c", "d", "e", "a", "b c", "d", "e"]);
}

/// B14: one source of the join leads to the other.
#[test]
fn a_join_of_a_node_and_its_own_successor_opens_once() {
    let shape = graph(&[A, B, C, D])
        .edge(A, B)
        .edge(A, C)
        .join([A, B], D)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d"]);
}

#[test]
fn a_source_that_finishes_twice_before_the_others_counts_once_for_a_join_of_all() {
    // While c -> d -> f -> g goes on, a and b take turns.
    const G: NodeKey<Log> = NodeKey::new("g");
    let shape = graph(&[A, B, C, D, E, F, G])
        .edge(A, B)
        .edge(B, A)
        .start(C)
        .edge(C, D)
        .edge(D, F)
        .edge(F, G)
        .join([A, G], E)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 4, |task, _| logged(task)).unwrap();
    assert_eq!(history, ["a c", "b d", "a f", "b g"]);
    assert_eq!((names(&at), at.joins.len()), ("a e".to_owned(), 0));
}

#[test]
fn a_join_of_any_opens_for_the_first_source_and_not_for_the_late_ones() {
    let shape = graph(&[A, B, C, D, E])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .join_any([B, D], E)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d e"]);
}

#[test]
fn a_late_source_does_not_open_the_next_round_of_a_join_of_any() {
    // The slow branch a -> c -> d -> f is longer than a whole round over the quick one.
    let shape = graph(&[A, B, C, D, E, F])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .edge(D, F)
        .join_any([B, F], E)
        .may_go(E, A)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 50, |task, at| match task.node.as_str() {
        "e" if at.step < 6 => Next::goto(A),
        _ => logged(task),
    })
    .unwrap();
    let answers = history.iter().filter(|step| step.contains('e')).count();
    assert_eq!((answers, at.joins.len()), (3, 0), "{history:?}");
}

#[test]
fn a_join_of_any_serves_sources_that_take_turns() {
    // Only one of b and c runs in each round: the other one is skipped, and not late.
    let shape = graph(&[A, B, C, D])
        .may_go(A, B)
        .may_go(A, C)
        .join_any([B, C], D)
        .may_go(D, A)
        .compile()
        .unwrap();
    let (history, _) = play(&shape, 50, |task, at| match (task.node.as_str(), at.step) {
        ("a", 3) => Next::goto(C),
        ("a", _) => Next::goto(B),
        ("d", ..8) => Next::goto(A),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b", "d", "a", "c", "d", "a", "b", "d"]);
}

#[test]
fn a_join_of_two_of_three_opens_for_the_second_and_the_third_comes_in_vain() {
    let shape = graph(&[A, B, C, D, E, F])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .edge(D, E)
        .join_some(2, [B, D, E], F)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d", "e f"]);
}

#[test]
fn a_source_that_was_skipped_in_one_round_counts_again_in_the_next() {
    let shape = graph(&[A, B, C, D, E])
        .may_go(A, B)
        .may_go(A, C)
        .may_go(A, D)
        .join_some(2, [B, C, D], E)
        .may_go(E, A)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 50, |task, at| match (task.node.as_str(), at.step) {
        ("a", 0) => Next::goto(B).and_goto(C),
        ("a", 3) => Next::goto(C).and_goto(D),
        ("a", _) => Next::goto(B).and_goto(D),
        ("e", ..8) => Next::goto(A),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b c", "e", "a", "c d", "e", "a", "b d", "e"]);
    assert!(at.joins.is_empty());
}

#[test]
fn a_join_counts_all_sends_of_one_step_once() {
    let shape = graph(&[A, B, C])
        .node(WORK)
        .may_go(A, WORK)
        .may_go(A, B)
        .join((WORK, B), C)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 50, |task, _| match task.node.as_str() {
        "a" => Next::send_all(WORK, [1, 2, 3]).and_goto(B),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b work work work", "c"]);
    assert_eq!(at.state.seen, ["b", "work1", "work2", "work3", "c"]);
}

#[test]
fn a_run_does_not_end_as_if_all_were_well_while_a_join_waits() {
    let shape = graph(&[A, B, C, D])
        .edge(A, B)
        .edge(A, C)
        .join([B, C], D)
        .compile()
        .unwrap();
    let error = play(&shape, 50, |task, _| match task.node.as_str() {
        "c" => Next::end(),
        _ => logged(task),
    })
    .unwrap_err();
    let expected = AdvanceError::ShutJoin {
        target: "d".to_owned(),
        come: vec!["b".to_owned()],
        missing: vec!["c".to_owned()],
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "the run would end while the join before `d` waits for c, after b: were they skipped on \
         purpose, say .may_stay_shut(d)"
    );
}

#[test]
fn a_join_that_may_stay_shut_lets_the_run_end() {
    let shape = graph(&[A, B, C, D])
        .edge(A, B)
        .edge(A, C)
        .join([B, C], D)
        .may_stay_shut(D)
        .compile()
        .unwrap();
    let (history, _) = play(&shape, 50, |task, _| match task.node.as_str() {
        "c" => Next::end(),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b c"]);
}
