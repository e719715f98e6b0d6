//! The way back over what was registered.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use velo_engine::executor::{AdvanceError, Checkpoint, advance, begin};
use velo_engine::{Next, NodeKey, Shape, State};

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Log {
    #[state(append)]
    seen: Vec<u32>,
}

const WORK: NodeKey<Log> = NodeKey::new("work");
const BESIDE: NodeKey<Log> = NodeKey::new("beside");
const UNDO: NodeKey<Log, u32> = NodeKey::new("undo");
const AFTER: NodeKey<Log> = NodeKey::new("after");

fn shape() -> Shape<Log> {
    Shape::builder("saga", 1)
        .node(WORK)
        .node(BESIDE)
        .node(UNDO)
        .node(AFTER)
        .start(WORK)
        .may_go(WORK, WORK)
        .may_go(WORK, UNDO)
        .may_go(WORK, BESIDE)
        .may_go(WORK, AFTER)
        .edge(UNDO, AFTER)
        .join((WORK, BESIDE), AFTER)
        .compile()
        .unwrap()
}

fn step(shape: &Shape<Log>, at: &Checkpoint<Log>, next: Next<Log>) -> Checkpoint<Log> {
    advance(shape, at, vec![next]).unwrap()
}

/// Where it stands, as a worker reads it back.
fn stored(at: &Checkpoint<Log>) -> Checkpoint<Log> {
    serde_json::from_str(&serde_json::to_string(at).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn all_that_was_registered_runs_once_and_the_last_first(
        inputs in proptest::collection::vec(proptest::collection::vec(0u32..100, 0..3), 1..6),
        goes_on in any::<bool>(),
    ) {
        let shape = shape();
        let mut at = begin(&shape, Log::default());
        for inputs in &inputs {
            let next = inputs
                .iter()
                .fold(Next::goto(WORK), |next, input| next.and_compensation(UNDO, *input));
            at = stored(&step(&shape, &at, next));
        }
        let back = if goes_on { Next::unwind_to(AFTER) } else { Next::unwind() };
        at = stored(&step(&shape, &at, back));
        let mut undone = Vec::new();
        while at.saga.is_unwinding() {
            prop_assert_eq!(at.tasks.len(), 1);
            prop_assert_eq!(at.tasks[0].node.as_str(), "undo");
            let input: u32 = serde_json::from_value(at.tasks[0].input.clone().unwrap()).unwrap();
            undone.push(input);
            at = stored(&step(&shape, &at, Log::update().seen(vec![input]).into()));
        }
        let expected: Vec<u32> = inputs.concat().into_iter().rev().collect();
        prop_assert_eq!(&undone, &expected);
        prop_assert_eq!(&at.state.seen, &expected);
        let left: Vec<&str> = at.tasks.iter().map(|task| task.node.as_str()).collect();
        let after: &[&str] = if goes_on { &["after"] } else { &[] };
        prop_assert_eq!(left, after);
        prop_assert!(at.saga.compensations.is_empty());
    }
}

#[test]
fn whatever_else_is_under_way_is_left_and_a_join_does_not_keep_the_run() {
    let shape = shape();
    let both = Next::goto(WORK).and_goto(BESIDE).and_compensation(UNDO, 1);
    let at = step(&shape, &begin(&shape, Log::default()), both);
    let names: Vec<&str> = at.tasks.iter().map(|task| task.node.as_str()).collect();
    assert_eq!(names, ["beside", "work"]);
    // One finishes, so that the join begins to wait, and the other turns back.
    let at = advance(&shape, &at, vec![Next::none(), Next::unwind()]).unwrap();
    assert_eq!(at.tasks.len(), 1);
    assert!(at.joins.is_empty());
    let done = step(&shape, &at, Next::none());
    assert!(done.tasks.is_empty());
}

#[test]
fn what_takes_something_back_has_no_way_of_its_own() {
    let shape = shape();
    let at = begin(&shape, Log::default());
    for beside in [
        Next::unwind().and_goto(AFTER),
        Next::goto(AFTER).then(Next::unwind()),
    ] {
        let error = advance(&shape, &at, vec![beside]).unwrap_err();
        assert!(matches!(error, AdvanceError::Unwinding { .. }), "{error}");
    }
    let at = step(&shape, &at, Next::unwind().and_compensation(UNDO, 1));
    assert_eq!(at.tasks[0].node, "undo");
    let error = advance(&shape, &at, vec![Next::goto(AFTER)]).unwrap_err();
    assert!(matches!(error, AdvanceError::Unwinding { .. }), "{error}");
    assert!(step(&shape, &at, Next::end()).tasks.is_empty());
}

#[test]
fn what_was_not_declared_cannot_be_registered_nor_be_the_end_of_the_way_back() {
    let shape = shape();
    let at = step(&shape, &begin(&shape, Log::default()), Next::goto(BESIDE));
    for next in [
        Next::none().and_compensation(UNDO, 1),
        Next::unwind_to(AFTER),
    ] {
        let error = advance(&shape, &at, vec![next]).unwrap_err();
        assert!(
            matches!(error, AdvanceError::UndeclaredRoute { .. }),
            "{error}"
        );
    }
}
