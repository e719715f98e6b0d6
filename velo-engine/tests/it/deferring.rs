use velo_engine::Next;

use crate::support::{A, B, C, D, E, WORK, follow_edges, graph, logged, play};

/// B13: branches of unequal length before a deferred node.
#[test]
fn a_deferred_node_runs_last_and_once() {
    let shape = graph(&[A, B, C, D, E])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .edge(B, E)
        .edge(D, E)
        .deferred(E)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d", "e"]);
}

/// B13: the same behind a join.
#[test]
fn a_deferred_node_behind_a_join_runs_last_and_once() {
    let shape = graph(&[A, B, C, D, E])
        .edge(A, B)
        .edge(A, C)
        .edge(C, D)
        .join([A, B], E)
        .deferred(E)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d", "e"]);
}

#[test]
fn a_deferred_node_serves_branches_that_are_skipped() {
    let shape = graph(&[A, B, C, D])
        .may_go(A, B)
        .may_go(A, C)
        .edge(B, D)
        .edge(C, D)
        .deferred(D)
        .compile()
        .unwrap();
    let only_b = play(&shape, 50, |task, _| match task.node.as_str() {
        "a" => Next::goto(B),
        _ => logged(task),
    });
    assert_eq!(only_b.unwrap().0, ["a", "b", "d"]);
}

#[test]
fn a_deferred_node_in_a_loop_waits_in_each_round() {
    let shape = graph(&[A, B, C, D])
        .edge(A, B)
        .edge(A, D)
        .edge(B, C)
        .deferred(D)
        .may_go(D, A)
        .compile()
        .unwrap();
    let (history, _) = play(&shape, 50, |task, at| match task.node.as_str() {
        "d" if at.step < 4 => Next::goto(A),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b", "c", "d", "a", "b", "c", "d"]);
}

#[test]
fn deferred_nodes_run_side_by_side_and_a_later_one_after_them() {
    let shape = graph(&[A, B, C, D])
        .edge(A, B)
        .edge(A, C)
        .edge(B, D)
        .deferred(B)
        .deferred(C)
        .deferred(D)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "b c", "d"]);
}

#[test]
fn sends_to_a_deferred_node_wait_and_keep_their_order_and_payloads() {
    let shape = graph(&[A, B])
        .node(WORK)
        .may_go(A, WORK)
        .may_go(A, B)
        .may_go(B, WORK)
        .deferred(WORK)
        .compile()
        .unwrap();
    let (history, at) = play(&shape, 50, |task, _| match task.node.as_str() {
        "a" => Next::send_all(WORK, [9, 8]).and_goto(B),
        "b" => Next::send(WORK, 7),
        _ => logged(task),
    })
    .unwrap();
    assert_eq!(history, ["a", "b", "work work work"]);
    assert_eq!(at.state.seen, ["work9", "work8", "work7"]);
}

#[test]
fn a_deferred_start_waits_for_the_other_starts() {
    let shape = graph(&[A, B, C])
        .start(B)
        .edge(A, C)
        .deferred(B)
        .compile()
        .unwrap();
    assert_eq!(follow_edges(&shape), ["a", "c", "b"]);
}
