use serde::{Deserialize, Serialize};
use velo_engine::{NodeKey, Shape, ShapeError, State};

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
