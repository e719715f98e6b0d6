use serde::{Deserialize, Serialize};
use velo_engine::{NAME_MAX, NODES_MAX, NodeKey, Shape, ShapeBuilder, ShapeError, State};

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Empty {
    topic: String,
}

const A: NodeKey<Empty> = NodeKey::new("a");
const B: NodeKey<Empty> = NodeKey::new("b");
const C: NodeKey<Empty> = NodeKey::new("c");
const NOTHING: [NodeKey<Empty>; 0] = [];
const BAD: NodeKey<Empty> = NodeKey::new("no good");

#[test]
fn compile_returns_every_error_at_once() {
    let errors = Shape::builder("g", 1)
        .node(A)
        .node(A)
        .node(B)
        .node(BAD)
        .edge(A, C)
        .join(NOTHING, B)
        .compile()
        .unwrap_err();
    let unknown = ShapeError::UnknownNode {
        place: "the edge a -> c".to_owned(),
        node: "c",
        near: None,
    };
    for expected in [
        ShapeError::NoStart,
        ShapeError::DuplicateNode("a"),
        ShapeError::BadName("no good"),
        unknown,
        ShapeError::EmptyJoin("b"),
    ] {
        assert!(
            errors.contains(&expected),
            "{expected} is missing from {errors:?}"
        );
    }
}

#[test]
fn a_node_that_no_path_reaches_is_an_error() {
    let errors = Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .start(A)
        .edge(B, C)
        .compile()
        .unwrap_err();
    assert_eq!(
        errors,
        [ShapeError::Unreachable("b"), ShapeError::Unreachable("c")]
    );
}

#[test]
fn declared_routes_and_joins_make_nodes_reachable() {
    let shape = Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .start(A)
        .may_go(A, B)
        .join([A, B], C)
        .compile();
    assert!(shape.is_ok(), "{shape:?}");
}

#[test]
fn the_drawing_shows_edges_routes_and_joins() {
    let shape = Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .start(A)
        .edge(A, B)
        .may_go(B, A)
        .join([A, B], C)
        .compile()
        .unwrap();
    let drawing = shape.mermaid();
    for line in [
        "__start__([start]) --> a",
        "a --> b",
        "b -.-> a",
        "a -->|join| c",
        "b -->|join| c",
    ] {
        assert!(
            drawing.lines().any(|drawn| drawn.trim() == line),
            "{line} is missing from\n{drawing}"
        );
    }
}

fn errors(graph: ShapeBuilder<Empty>) -> Vec<ShapeError> {
    graph.compile().unwrap_err()
}

fn started() -> ShapeBuilder<Empty> {
    Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .start(A)
        .edge(A, B)
}

/// B2: what a graph is refused for when it is compiled.
#[test]
fn a_graph_that_cannot_run_is_refused_with_every_reason() {
    let long: &'static str = Box::leak("x".repeat(NAME_MAX + 1).into_boxed_str());
    let graph = Shape::<Empty>::builder("g", 1)
        .node(NodeKey::<Empty>::new("__end__"))
        .node(NodeKey::<Empty>::new(""))
        .node(NodeKey::<Empty>::new(long))
        .node(NodeKey::<Empty>::new("a:b"))
        .node(B)
        .edge(B, C)
        .at_most(B, 0)
        .may_stay_shut(B)
        .step_limit(0);
    let expected = [
        ShapeError::NoStart,
        ShapeError::NoSteps,
        ShapeError::BadName(""),
        ShapeError::BadName("__end__"),
        ShapeError::BadName("a:b"),
        ShapeError::BadName(long),
        ShapeError::UnknownNode {
            place: "the edge b -> c".to_owned(),
            node: "c",
            near: None,
        },
        ShapeError::NoJoin("b"),
        ShapeError::NoTasks("b"),
    ];
    assert_eq!(errors(graph), expected);
}

#[test]
fn a_join_of_none_or_of_more_than_its_sources_is_refused() {
    let bad = |needs| ShapeError::BadJoin {
        target: "c",
        needs,
        sources: 2,
    };
    assert_eq!(errors(started().join_some(0, [A, B], C)), [bad(0)]);
    assert_eq!(
        errors(started().join_some(3, [A, B], C)),
        [ShapeError::Unreachable("c"), bad(3)]
    );
    assert_eq!(
        errors(started().join_some(2, [A, A], C)),
        [
            ShapeError::Unreachable("c"),
            ShapeError::BadJoin {
                target: "c",
                needs: 2,
                sources: 1
            }
        ],
        "a source that is named twice is one"
    );
}

#[test]
fn a_join_that_waits_for_what_only_follows_it_is_refused() {
    let graph = Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .start(A)
        .join([A, B], C)
        .edge(C, B);
    let shut = ShapeError::ShutJoin {
        target: "c",
        source_node: "b",
    };
    assert_eq!(
        errors(graph),
        [
            ShapeError::Unreachable("b"),
            ShapeError::Unreachable("c"),
            shut
        ]
    );
}

#[test]
fn a_join_of_any_may_wait_for_what_follows_it() {
    let graph = Shape::builder("g", 1).node(A).node(B).node(C).start(A);
    let graph = graph.join_any([A, B], C).edge(C, B).compile();
    assert!(graph.is_ok(), "{graph:?}");
}

#[test]
fn a_key_with_another_payload_than_its_node_is_refused() {
    const TEXTS: NodeKey<Empty, String> = NodeKey::new("work");
    const NUMBERS: NodeKey<Empty, u32> = NodeKey::new("work");
    let graph = Shape::builder("g", 1)
        .node(A)
        .node(TEXTS)
        .start(A)
        .may_go(A, NUMBERS);
    let expected = ShapeError::OtherPayload {
        place: "the route a -> work".to_owned(),
        node: "work",
        named: "u32",
        added: std::any::type_name::<String>(),
    };
    assert_eq!(errors(graph), [expected]);
    let twice = Shape::builder("g", 1).node(TEXTS).node(NUMBERS).node(A);
    let twice = twice.start(A).may_go(A, TEXTS);
    assert_eq!(errors(twice), [ShapeError::DuplicateNode("work")]);
}

#[test]
fn a_graph_holds_as_many_nodes_as_are_allowed_and_no_more() {
    let chain = |nodes: usize| {
        let key = |node: usize| -> NodeKey<Empty> {
            NodeKey::new(Box::leak(format!("n{node}").into_boxed_str()))
        };
        let start = Shape::builder("g", 1).node(key(0)).start(key(0));
        (1..nodes).fold(start, |graph, node| {
            graph.node(key(node)).edge(key(node - 1), key(node))
        })
    };
    assert!(chain(NODES_MAX).compile().is_ok());
    let too_many = ShapeError::TooManyNodes(NODES_MAX + 1);
    assert_eq!(errors(chain(NODES_MAX + 1)), [too_many]);
}

#[test]
fn the_drawing_shows_rules_deferred_nodes_limits_and_reserved_words() {
    const WORK: NodeKey<Empty, u32> = NodeKey::new("work");
    const END: NodeKey<Empty> = NodeKey::new("end");
    const D: NodeKey<Empty> = NodeKey::new("d");
    let shape = Shape::builder("g", 1)
        .node(A)
        .node(B)
        .node(C)
        .node(D)
        .node(WORK)
        .node(END)
        .start(A)
        .start(B)
        .may_go(A, WORK)
        .at_most(WORK, 3)
        .join_any([A, B], C)
        .join_some(2, (A, B, WORK), D)
        .may_stay_shut(D)
        .join([A, B], END)
        .join([C, D], END)
        .deferred(END)
        .step_limit(9)
        .compile()
        .unwrap();
    let expected = [
        "flowchart TD",
        "__start__([start]) --> a",
        "__start__([start]) --> b",
        "a -.-> work",
        "__end__[\"end (deferred)\"]",
        "a -->|any| c",
        "b -->|any| c",
        "a -->|2 of 3, may stay shut| d",
        "b -->|2 of 3, may stay shut| d",
        "work -->|2 of 3, may stay shut| d",
        "a -->|join 3| __end__",
        "b -->|join 3| __end__",
        "c -->|join 4| __end__",
        "d -->|join 4| __end__",
        "%% a run takes at most 9 steps",
        "work[\"work (at most 3)\"]",
    ];
    let drawing = shape.mermaid();
    let drawn: Vec<_> = drawing.lines().map(str::trim).collect();
    assert_eq!(drawn, expected);
}
