use serde::{Deserialize, Serialize};

use super::Admission;
use crate::executor::Task;
use crate::{NodeKey, Shape, State};

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Empty {
    topic: String,
}

const A: NodeKey<Empty> = NodeKey::new("a");
const FREE: NodeKey<Empty, u32> = NodeKey::new("free");
const NARROW: NodeKey<Empty, u32> = NodeKey::new("narrow");

fn admission(nodes: &[&str]) -> Admission {
    let shape = Shape::builder("g", 1).node(A).node(FREE).node(NARROW);
    let shape = shape
        .start(A)
        .may_go(A, FREE)
        .may_go(A, NARROW)
        .at_most(NARROW, 2)
        .compile()
        .unwrap();
    let task = |node: &&str| Task {
        node: (*node).to_owned(),
        send: None,
        input: None,
        within: None,
    };
    let tasks: Vec<Task> = nodes.iter().map(task).collect();
    Admission::new(&shape, &tasks, 0..tasks.len())
}

fn admitted(admission: &mut Admission) -> Vec<usize> {
    std::iter::from_fn(|| admission.admit()).collect()
}

#[test]
fn tasks_without_a_limit_begin_in_their_order() {
    assert_eq!(admitted(&mut admission(&["a", "free", "free"])), [0, 1, 2]);
}

#[test]
fn a_limited_node_holds_back_its_own_tasks_and_no_others() {
    let mut waiting = admission(&["a", "narrow", "narrow", "narrow", "free", "narrow"]);
    assert_eq!(admitted(&mut waiting), [0, 1, 2, 4]);
    waiting.leave(0);
    waiting.leave(4);
    assert_eq!(waiting.admit(), None, "those were of other nodes");
    waiting.leave(2);
    assert_eq!(admitted(&mut waiting), [3]);
    waiting.leave(1);
    waiting.leave(3);
    assert_eq!(admitted(&mut waiting), [5]);
}

#[test]
fn a_task_that_must_run_again_waits_behind_the_others_of_its_node() {
    let mut waiting = admission(&["narrow", "narrow", "narrow"]);
    assert_eq!(admitted(&mut waiting), [0, 1]);
    waiting.leave(0);
    waiting.wait(0);
    assert_eq!(admitted(&mut waiting), [2]);
    waiting.leave(1);
    assert_eq!(admitted(&mut waiting), [0]);
}
