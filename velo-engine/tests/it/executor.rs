use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use velo_engine::executor::{AdvanceError, Checkpoint, advance, begin};
use velo_engine::{Next, NodeKey, Shape, State, UpdateRoute};

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Log {
    topic: String,
    #[state(append)]
    seen: Vec<String>,
}

const A: NodeKey<Log> = NodeKey::new("a");
const B: NodeKey<Log> = NodeKey::new("b");
const C: NodeKey<Log> = NodeKey::new("c");
const D: NodeKey<Log> = NodeKey::new("d");
const WORK: NodeKey<Log, u32> = NodeKey::new("work");

fn saw(what: impl Into<String>) -> Next<Log> {
    Log::update().seen(vec![what.into()]).into()
}

fn nodes(checkpoint: &Checkpoint<Log>) -> Vec<&str> {
    checkpoint
        .tasks
        .iter()
        .map(|task| task.node.as_str())
        .collect()
}

/// Takes one step in which each task logs its node and follows the edges.
fn log_step(shape: &Shape<Log>, checkpoint: &Checkpoint<Log>) -> Checkpoint<Log> {
    let outcomes = checkpoint
        .tasks
        .iter()
        .map(|task| saw(&task.node))
        .collect();
    advance(shape, checkpoint, outcomes).unwrap()
}

fn diamond() -> Shape<Log> {
    let nodes = Shape::builder("diamond", 1).node(A).node(B).node(C).node(D);
    nodes
        .start(A)
        .edge(A, C)
        .edge(A, B)
        .join([B, C], D)
        .compile()
        .unwrap()
}

#[test]
fn writes_are_applied_by_node_name_and_the_join_opens_once() {
    let shape = diamond();
    let start = begin(&shape, Log::default());
    let forked = log_step(&shape, &start);
    assert_eq!(nodes(&forked), ["b", "c"]);
    let joined = log_step(&shape, &forked);
    assert_eq!(nodes(&joined), ["d"]);
    assert!(joined.joins.is_empty());
    let done = log_step(&shape, &joined);
    assert!(done.tasks.is_empty());
    assert_eq!(done.state.seen, ["a", "b", "c", "d"]);
    assert_eq!(done.step, 3);
}

#[test]
fn a_join_waits_for_the_longer_branch_and_arms_again_in_a_loop() {
    let nodes_added = Shape::builder("loop", 1).node(A).node(B).node(C).node(D);
    let shape = nodes_added
        .start(A)
        .edge(A, B)
        .edge(A, C)
        .edge(C, A)
        .may_go(A, C)
        .join([A, B], D)
        .compile()
        .unwrap();
    let first = log_step(&shape, &begin(&shape, Log::default()));
    assert_eq!((nodes(&first), first.joins.len()), (vec!["b", "c"], 1));
    let second = log_step(&shape, &first);
    assert_eq!((nodes(&second), second.joins.len()), (vec!["a", "d"], 0));
    let third = log_step(&shape, &second);
    assert_eq!((nodes(&third), third.joins.len()), (vec!["b", "c"], 1));
}

#[test]
fn an_explicit_route_replaces_the_edges() {
    let shape = Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .start(A)
        .edge(A, B)
        .may_go(A, C)
        .compile()
        .unwrap();
    let start = begin(&shape, Log::default());
    let next = advance(&shape, &start, vec![Log::update().topic("bees").goto(C)]).unwrap();
    assert_eq!(
        (nodes(&next), next.state.topic.as_str()),
        (vec!["c"], "bees")
    );
    let ended = advance(&shape, &start, vec![Next::end()]).unwrap();
    assert!(ended.tasks.is_empty());
}

#[test]
fn sends_keep_their_order_and_their_payloads_and_what_follows_runs_once() {
    let shape = Shape::builder("map", 1)
        .node(A)
        .node(WORK)
        .node(B)
        .start(A)
        .may_go(A, WORK)
        .edge(WORK, B)
        .compile()
        .unwrap();
    let sent = advance(
        &shape,
        &begin(&shape, Log::default()),
        vec![Next::send_all(WORK, [30, 10, 20])],
    )
    .unwrap();
    let inputs: Vec<_> = sent
        .tasks
        .iter()
        .map(|task| (task.send, task.input.clone()))
        .collect();
    assert_eq!(
        inputs,
        [
            (Some(0), Some(30.into())),
            (Some(1), Some(10.into())),
            (Some(2), Some(20.into()))
        ]
    );
    let reduced = advance(&shape, &sent, vec![saw("30"), saw("10"), saw("20")]).unwrap();
    assert_eq!(
        (nodes(&reduced), reduced.state.seen.clone()),
        (
            vec!["b"],
            vec!["30".to_owned(), "10".to_owned(), "20".to_owned()]
        )
    );
}

#[test]
fn an_undeclared_route_fails_loudly_and_applies_nothing() {
    let shape = diamond();
    let start = begin(&shape, Log::default());
    let error = advance(&shape, &start, vec![Log::update().topic("bees").goto(D)]).unwrap_err();
    assert_eq!(
        error,
        AdvanceError::UndeclaredRoute {
            from: "a".to_owned(),
            to: "d".to_owned()
        }
    );
    assert_eq!(start.state, Log::default());
}

#[test]
fn two_writers_of_one_plain_field_fail_the_step() {
    let shape = diamond();
    let forked = log_step(&shape, &begin(&shape, Log::default()));
    let both = vec![
        Log::update().topic("x").into(),
        Log::update().topic("y").into(),
    ];
    let error = advance(&shape, &forked, both).unwrap_err();
    assert!(
        error.to_string().contains("`topic`") && error.to_string().contains("b, c"),
        "{error}"
    );
}

#[test]
fn a_loop_stops_at_the_step_limit_and_keeps_its_state() {
    let shape = Shape::builder("loop", 1)
        .node(A)
        .start(A)
        .edge(A, A)
        .step_limit(3)
        .compile()
        .unwrap();
    let mut checkpoint = begin(&shape, Log::default());
    for _ in 0..3 {
        checkpoint = log_step(&shape, &checkpoint);
    }
    assert_eq!(
        advance(&shape, &checkpoint, vec![saw("a")]),
        Err(AdvanceError::StepLimit(3))
    );
    assert_eq!(checkpoint.state.seen, ["a", "a", "a"]);
}

#[test]
fn a_run_may_end_on_its_last_allowed_step() {
    let shape = Shape::builder("short", 1)
        .node(A)
        .start(A)
        .step_limit(1)
        .compile()
        .unwrap();
    assert!(
        log_step(&shape, &begin(&shape, Log::default()))
            .tasks
            .is_empty()
    );
}

#[test]
fn a_missing_outcome_is_refused() {
    let shape = diamond();
    let error = advance(&shape, &begin(&shape, Log::default()), Vec::new()).unwrap_err();
    assert_eq!(
        error,
        AdvanceError::Outcomes {
            tasks: 1,
            outcomes: 0
        }
    );
}

#[test]
fn a_payload_without_a_json_form_fails_the_step() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    const REFUSES: NodeKey<Log, Refuses> = NodeKey::new("refuses");
    let shape = Shape::builder("g", 1)
        .node(A)
        .node(REFUSES)
        .start(A)
        .may_go(A, REFUSES)
        .compile()
        .unwrap();
    let error = advance(
        &shape,
        &begin(&shape, Log::default()),
        vec![Next::send(REFUSES, Refuses)],
    )
    .unwrap_err();
    assert!(
        matches!(&error, AdvanceError::BadPayload { reason, .. } if reason.ends_with("not today")),
        "{error}"
    );
}

#[test]
fn a_checkpoint_of_a_graph_whose_node_is_gone_says_so() {
    let old = Shape::builder("g", 1).node(B).start(B).compile().unwrap();
    let new = Shape::builder("g", 2).node(A).start(A).compile().unwrap();
    let error = advance(&new, &begin(&old, Log::default()), vec![saw("b")]).unwrap_err();
    assert_eq!(error, AdvanceError::UnknownNode("b".to_owned()));
}

proptest! {
    #[test]
    fn a_run_that_is_stored_and_restored_between_any_steps_ends_the_same(restore in proptest::collection::vec(any::<bool>(), 8), inputs in proptest::collection::vec(any::<u32>(), 1..6)) {
        let nodes = Shape::builder("mixed", 1).node(A).node(WORK).node(B).node(C).node(D);
        let shape = nodes.start(A).may_go(A, WORK).may_go(A, C).edge(WORK, B).join([B, C], D).compile().unwrap();
        let run = |restores: &[bool]| {
            let mut checkpoint = begin(&shape, Log::default());
            for restored in restores {
                if *restored {
                    checkpoint = serde_json::from_slice(&serde_json::to_vec(&checkpoint).unwrap()).unwrap();
                }
                let outcomes = checkpoint.tasks.iter().map(|task| match (task.node.as_str(), &task.input) {
                    ("a", _) => Next::send_all(WORK, inputs.clone()).and_goto(C),
                    (node, input) => saw(format!("{node}{input:?}")),
                }).collect();
                checkpoint = advance(&shape, &checkpoint, outcomes).unwrap();
            }
            checkpoint
        };
        prop_assert_eq!(run(&restore), run(&[false; 8]));
    }
}
