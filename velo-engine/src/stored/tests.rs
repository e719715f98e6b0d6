//! Whatever the graph, a run that is stored and restored at any place goes on as if it had not been.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Control, decode_outcome, encode_delta, encode_outcome};
use crate::executor::{AdvanceError, Checkpoint, Task, begin};
use crate::schema::Written;
use crate::{Next, NodeKey, Shape, State, UpdateRoute};

/// More than most runs here take.
const STEPS_MAX: u64 = 16;
const NODES: [NodeKey<Log>; 6] = [
    NodeKey::new("a"),
    NodeKey::new("b"),
    NodeKey::new("c"),
    NodeKey::new("d"),
    NodeKey::new("e"),
    NodeKey::new("f"),
];
const WORK: NodeKey<Log, Option<u8>> = NodeKey::new("work");

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Log {
    #[state(append)]
    seen: Vec<String>,
    /// Written by `a` alone.
    newest: u64,
    #[state(any)]
    step: u64,
    #[state(ephemeral, append)]
    just_now: Vec<String>,
    #[state(merge)]
    counts: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
struct Drawn {
    edges: Vec<(usize, usize)>,
    routes: Vec<(usize, usize)>,
    joins: Vec<DrawnJoin>,
    deferred: Vec<usize>,
    is_work_deferred: bool,
    may_stay_shut: bool,
    seed: u64,
}

#[derive(Debug, Clone)]
struct DrawnJoin {
    sources: [usize; 3],
    target: usize,
    /// Of all, when zero.
    needs: usize,
    has_work: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let node = || 0..NODES.len();
    let join = (
        prop::array::uniform3(node()),
        node(),
        0..3usize,
        any::<bool>(),
    );
    let join = join.prop_map(|(sources, target, needs, has_work)| DrawnJoin {
        sources,
        target,
        needs,
        has_work,
    });
    (
        prop::collection::vec((node(), node()), 0..9),
        prop::collection::vec((node(), node()), 0..6),
        prop::collection::vec(join, 0..3),
        prop::collection::vec(node(), 0..3),
        any::<bool>(),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(
            |(edges, routes, joins, deferred, is_work_deferred, may_stay_shut, seed)| Drawn {
                edges,
                routes,
                joins,
                deferred,
                is_work_deferred,
                may_stay_shut,
                seed,
            },
        )
}

/// `a` may go everywhere, so that every node can be reached; every node may send.
fn shape(drawn: &Drawn) -> Shape<Log> {
    let mut graph = Shape::builder("drawn", 1)
        .node(WORK)
        .start(NODES[0])
        .edge(WORK, NODES[1])
        .step_limit(STEPS_MAX);
    for node in NODES {
        graph = graph.node(node).may_go(NODES[0], node).may_go(node, WORK);
    }
    for (from, to) in &drawn.edges {
        graph = graph.edge(NODES[*from], NODES[*to]);
    }
    for (from, to) in &drawn.routes {
        graph = graph.may_go(NODES[*from], NODES[*to]);
    }
    for node in &drawn.deferred {
        graph = graph.deferred(NODES[*node]);
    }
    if drawn.is_work_deferred {
        graph = graph.deferred(WORK);
    }
    for join in &drawn.joins {
        let [a, b, c] = join.sources.map(|source| NODES[source]);
        let target = NODES[join.target];
        graph = match (join.needs, join.has_work) {
            (0, false) => graph.join([a, b, c], target),
            (0, true) => graph.join((a, WORK, c), target),
            (1, false) => graph.join_any([a, b, c], target),
            (1, true) => graph.join_any((a, WORK, c), target),
            (_, false) => graph.join_some(distinct(&join.sources).min(2), [a, b, c], target),
            (_, true) => graph.join_some(2, (a, WORK), target),
        };
        if drawn.may_stay_shut {
            graph = graph.may_stay_shut(target);
        }
    }
    graph.compile().unwrap()
}

fn distinct(sources: &[usize]) -> usize {
    sources
        .iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

/// What a task does depends on nothing but the graph, the step and the task.
fn outcome(drawn: &Drawn, shape: &Shape<Log>, at: &Checkpoint<Log>, task: &Task) -> Next<Log> {
    let mut hasher = DefaultHasher::new();
    let input = task.input.as_ref().map(ToString::to_string);
    (drawn.seed, at.step, &task.node, task.send, &input).hash(&mut hasher);
    let chance = hasher.finish();
    let line = format!("{}{} of {}", task.node, input.unwrap_or_default(), at.step);
    let mut update = Log::update()
        .seen(vec![line.clone()])
        .step(at.step)
        .counts(BTreeMap::from([(task.node.clone(), at.step)]));
    if task.node == "a" {
        update = update.newest(chance).seen(at.state.just_now.clone());
    }
    if chance.is_multiple_of(3) {
        update = update.just_now(vec![line]);
    }
    let routes = &shape.node(&task.node).unwrap().may_go_to;
    let to = routes.iter().filter(|to| **to != "work");
    let to: Vec<_> = to.collect();
    match chance >> 8 & 15 {
        0..=1 if task.node != "work" => {
            let inputs = [None, Some(1), None, Some(2)];
            let count = usize::try_from(chance >> 16 & 3).unwrap();
            Next::send_all(WORK, inputs.into_iter().take(count + 1)).and_update(update)
        }
        2..=5 if !to.is_empty() => {
            let first = to[usize::try_from(chance >> 20).unwrap() % to.len()];
            let last = to[usize::try_from(chance >> 40).unwrap() % to.len()];
            let first = Next::from(update).then(Next::goto(NodeKey::new(first)));
            first.then(Next::goto(NodeKey::new(last)))
        }
        6 => update.end(),
        _ => update.into(),
    }
}

/// What happens between two steps beside the steps themselves.
#[derive(Debug, Clone)]
struct Fate {
    /// In what order the tasks finish.
    order: u64,
    /// Whether their outcomes are stored one by one, and read back.
    keeps_outcomes: bool,
    /// Whether another worker goes on from what is stored.
    changes_hands: bool,
    has_snapshot: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    (any::<u64>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(order, keeps_outcomes, changes_hands, has_snapshot)| Fate {
            order,
            keeps_outcomes,
            changes_hands,
            has_snapshot,
        },
    )
}

type History = Vec<Checkpoint<Log>>;

fn straight(drawn: &Drawn) -> (History, Option<AdvanceError>) {
    let shape = shape(drawn);
    let mut at = begin(&shape, Log::default());
    let mut history = vec![at.clone()];
    while !at.tasks.is_empty() {
        let outcomes = at
            .tasks
            .iter()
            .map(|task| outcome(drawn, &shape, &at, task));
        let outcomes = outcomes.collect();
        if let Err(error) = at.take_step(&shape, outcomes) {
            return (history, Some(error));
        }
        history.push(at.clone());
    }
    (history, None)
}

fn stored(drawn: &Drawn, fates: &[Fate]) -> (History, Option<AdvanceError>) {
    let shape = shape(drawn);
    let mut at = begin(&shape, Log::default());
    let mut history = vec![at.clone()];
    let mut snapshot = serde_json::to_vec(&at.state).unwrap();
    let mut deltas: Vec<Vec<u8>> = Vec::new();
    for fate in fates.iter().cycle() {
        if at.tasks.is_empty() {
            break;
        }
        let mut finished = BTreeMap::new();
        for index in finishing(at.tasks.len(), fate.order) {
            let mut next = outcome(drawn, &shape, &at, &at.tasks[index]);
            if fate.keeps_outcomes {
                next = decode_outcome(&shape, &encode_outcome(&next).unwrap()).unwrap();
            }
            finished.insert(index, next);
        }
        let outcomes: Vec<_> = finished.into_values().collect();
        let delta = encode_delta(&outcomes).unwrap();
        if let Err(error) = at.take_step(&shape, outcomes) {
            return (history, Some(error));
        }
        deltas.push(delta);
        if fate.has_snapshot {
            snapshot = serde_json::to_vec(&at.state).unwrap();
            deltas.clear();
        }
        if fate.changes_hands {
            let control = Control::encode(&at).unwrap();
            let deltas = deltas.iter().map(Vec::as_slice);
            let state: Log = Written::new(&snapshot, deltas).restore().unwrap();
            let control = Control::decode(&control).unwrap();
            at = control.into_checkpoint(at.step, state);
        }
        history.push(at.clone());
    }
    (history, None)
}

/// All tasks, in an order that depends on `order`.
fn finishing(tasks: usize, order: u64) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..tasks).collect();
    indexes.sort_by_key(|index| {
        let mut hasher = DefaultHasher::new();
        (order, index).hash(&mut hasher);
        hasher.finish()
    });
    indexes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// put/preserves_versions_seen_values: what comes next.
    #[test]
    fn a_run_that_is_stored_and_restored_anywhere_has_the_same_history(drawn in drawn(), fates in prop::collection::vec(fate(), 1..8)) {
        prop_assert_eq!(stored(&drawn, &fates), straight(&drawn));
    }
}

#[test]
fn the_graphs_that_are_drawn_run_far_enough_to_show_something() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut long, mut finished, mut joined, mut deferred, mut sent, mut shut) = (0, 0, 0, 0, 0, 0);
    for _ in 0..500 {
        let drawn = drawn().new_tree(&mut runner).unwrap().current();
        let (history, error) = straight(&drawn);
        long += usize::from(history.len() > 4);
        finished += usize::from(error.is_none());
        joined += usize::from(history.iter().any(|at| !at.joins.is_empty()));
        deferred += usize::from(history.iter().any(|at| !at.deferred.is_empty()));
        let mut tasks = history.iter().flat_map(|at| &at.tasks);
        sent += usize::from(tasks.any(|task| task.send > Some(0)));
        shut += usize::from(matches!(error, Some(AdvanceError::ShutJoin { .. })));
    }
    let counts = [long, finished, joined, deferred, sent, shut];
    assert!(counts.iter().all(|count| *count > 25), "{counts:?}");
}

#[test]
fn what_comes_next_is_stored_briefly() {
    let shape = Shape::builder("g", 1)
        .node(NODES[0])
        .node(NODES[1])
        .node(NODES[2])
        .node(WORK)
        .start(NODES[0])
        .start(NODES[1])
        .may_go(NODES[2], WORK)
        .edge(NODES[1], NODES[2])
        .join((NODES[1], WORK), NODES[0])
        .join_any((NODES[1], WORK), NODES[0])
        .deferred(NODES[0])
        .deferred(NODES[2])
        .compile()
        .unwrap();
    let mut at = begin(&shape, Log::default());
    at.step_limit = Some(7);
    let json = |at: &Checkpoint<Log>| String::from_utf8(Control::encode(at).unwrap()).unwrap();
    assert_eq!(json(&at), r#"{"t":[{"n":"b"}],"d":[{"n":"a"}],"l":7}"#);
    at.take_step(&shape, vec![Next::none()]).unwrap();
    assert_eq!(
        json(&at),
        r#"{"t":[{"n":"a"},{"n":"c"}],"j":{"0":["b"],"1":{"f":{"b":1},"o":1}},"l":7}"#
    );
    let old = Control::decode(br#"{"t":[{"n":"a"}],"j":{"0":["b"]}}"#).unwrap();
    let old = old.into_checkpoint(1, Log::default());
    assert_eq!(old.joins[&0].sources().collect::<Vec<_>>(), ["b"]);
    assert_eq!((old.deferred.len(), old.step_limit), (0, None));
}

#[test]
fn a_way_back_is_stored_with_its_outcome_and_with_what_comes_next() {
    let shape = Shape::builder("g", 1)
        .node(NODES[0])
        .node(NODES[1])
        .node(WORK)
        .start(NODES[0])
        .may_go(NODES[0], NODES[1])
        .may_go(NODES[0], WORK)
        .compile()
        .unwrap();
    let read = |outcome: &Next<Log>| -> Next<Log> {
        decode_outcome(&shape, &encode_outcome(outcome).unwrap()).unwrap()
    };
    for outcome in [
        Next::none().and_compensation(WORK, Some(3)),
        Next::unwind().and_compensation(WORK, Some(4)),
        Next::unwind_to(NODES[1]),
    ] {
        let again = read(&outcome);
        assert_eq!(again.route, outcome.route);
        assert_eq!(again.compensations, outcome.compensations);
    }
    let mut at = begin(&shape, Log::default());
    let next = Next::unwind_to(NODES[1])
        .and_compensation(WORK, Some(5))
        .and_compensation(WORK, Some(6));
    at.take_step(&shape, vec![next]).unwrap();
    let json = String::from_utf8(Control::encode(&at).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"t":[{"n":"work","s":0,"i":6}],"c":[{"n":"work","s":0,"i":5}],"u":[{"n":"b"}]}"#
    );
    let stored = Control::decode(json.as_bytes()).unwrap();
    assert_eq!(stored.into_checkpoint(at.step, at.state.clone()), at);
}
