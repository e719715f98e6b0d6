//! Layouts of graphs.

use proptest::prelude::*;
use velo_engine::{Layout, Outline, OutlineNode, PlacedNode, Point, Way, WayKind};

use crate::support::{A, B, C, D, graph};

/// Less than what is rounded away.
const NEARLY: f64 = 0.2;

fn node(name: &str) -> OutlineNode {
    OutlineNode {
        name: name.to_owned(),
        is_deferred: false,
        at_most: None,
    }
}

fn outline(nodes: usize, ways: &[(usize, usize, WayKind)]) -> Outline {
    let name = |number: usize| format!("node_{number}");
    let way = |(from, to, kind): &(usize, usize, WayKind)| Way {
        from: name(*from),
        to: name(*to),
        kind: *kind,
        label: (*kind == WayKind::Join).then(|| "2 of 3".to_owned()),
    };
    Outline {
        graph: "any".to_owned(),
        version: 1,
        starts: vec![name(0)],
        nodes: (0..nodes).map(|number| node(&name(number))).collect(),
        ways: ways.iter().map(way).collect(),
        state_version: 1,
        fields: Vec::new(),
        mermaid: String::new(),
    }
}

fn any_outline() -> impl Strategy<Value = Outline> {
    let kind = prop_oneof![
        Just(WayKind::Edge),
        Just(WayKind::Route),
        Just(WayKind::Failure),
        Just(WayKind::Join)
    ];
    (1..14usize).prop_flat_map(move |nodes| {
        prop::collection::vec((0..nodes, 0..nodes, kind.clone()), 0..30)
            .prop_map(move |ways| outline(nodes, &ways))
    })
}

fn overlap(one: &PlacedNode, other: &PlacedNode) -> bool {
    let is_near = |a: f64, b: f64, room: f64| (a - b).abs() < room - NEARLY;
    is_near(one.x, other.x, f64::midpoint(one.width, other.width))
        && is_near(one.y, other.y, f64::midpoint(one.height, other.height))
}

fn touches(node: &PlacedNode, point: Point) -> bool {
    let beside = (point.x - node.x).abs() - node.width / 2.0;
    let above = (point.y - node.y).abs() - node.height / 2.0;
    beside < NEARLY && above < NEARLY && (beside > -NEARLY || above > -NEARLY)
}

fn start(layout: &Layout) -> &PlacedNode {
    let start = layout.nodes.iter().find(|node| node.name.is_none());
    start.unwrap()
}

proptest! {
    #[test]
    fn no_two_nodes_lie_on_each_other_and_all_is_inside(outline in any_outline()) {
        let layout = outline.layout();
        prop_assert_eq!(layout.nodes.len(), outline.nodes.len() + 1);
        for (at, one) in layout.nodes.iter().enumerate() {
            for other in &layout.nodes[at + 1..] {
                prop_assert!(!overlap(one, other), "{one:?} {other:?}");
            }
            prop_assert!(one.x >= one.width / 2.0 && one.x <= layout.width - one.width / 2.0);
            prop_assert!(one.y >= one.height / 2.0 && one.y <= layout.height - one.height / 2.0);
        }
        for point in layout.lines.iter().flat_map(|line| &line.points) {
            prop_assert!((0.0..=layout.width).contains(&point.x), "{point:?}");
            prop_assert!((0.0..=layout.height).contains(&point.y), "{point:?}");
        }
    }

    #[test]
    fn each_way_is_a_line_between_the_borders_of_its_nodes(outline in any_outline()) {
        let layout = outline.layout();
        prop_assert_eq!(layout.lines.len(), outline.ways.len() + 1);
        for line in &layout.lines {
            let from = match &line.from {
                Some(name) => layout.node(name).unwrap(),
                None => start(&layout),
            };
            let (first, last) = (line.points[0], line.points[line.points.len() - 1]);
            prop_assert!(touches(from, first), "{line:?} {from:?}");
            prop_assert!(touches(layout.node(&line.to).unwrap(), last), "{line:?}");
            // It goes one way only, down or, back, up.
            if line.from.as_deref() != Some(line.to.as_str()) {
                let ys: Vec<f64> = line.points.iter().map(|point| point.y).collect();
                prop_assert!(ys.is_sorted() || ys.iter().rev().is_sorted());
            }
        }
        prop_assert_eq!(&outline.layout(), &layout);
    }
}

#[test]
fn nodes_stand_below_those_that_lead_to_them_but_for_ways_back() {
    let shape = graph(&[A, B, C, D])
        .edge(A, B)
        .edge(A, C)
        .join([B, C], D)
        .may_go(D, A)
        .compile()
        .unwrap();
    let layout = shape.outline().layout();
    let y = |name| layout.node(name).unwrap().y;
    assert!(start(&layout).y < y("a") && y("a") < y("b") && y("b") < y("d"));
    assert!((y("b") - y("c")).abs() < NEARLY);
    let back = layout
        .lines
        .iter()
        .find(|line| line.to == "a" && line.from.is_some());
    let points = &back.unwrap().points;
    assert!(points[0].y > points[points.len() - 1].y);
    let labels = layout.lines.iter().filter_map(|line| line.label.as_deref());
    assert_eq!(labels.collect::<Vec<_>>(), ["join", "join"]);
}

#[test]
fn a_diamond_is_even() {
    let shape = graph(&[A, B, C, D]).edge(A, B).edge(A, C).join([B, C], D);
    let layout = shape.compile().unwrap().outline().layout();
    let x = |name| layout.node(name).unwrap().x;
    for name in ["a", "d"] {
        assert!(
            (f64::midpoint(x("b"), x("c")) - x(name)).abs() < 2.0,
            "{layout:?}"
        );
    }
}

#[test]
fn a_graph_of_the_largest_size_with_lines_over_all_layers_is_drawn() {
    let mut ways: Vec<_> = (0..999).map(|n| (n, n + 1, WayKind::Edge)).collect();
    ways.extend((0..999).map(|n| (n, 999, WayKind::Failure)));
    let layout = outline(1_000, &ways).layout();
    assert_eq!(layout.lines.len(), 1_999);
    let svg = layout.to_svg();
    assert_eq!(svg.matches("<path class").count(), 1_999);
}

#[test]
fn an_svg_has_all_nodes_lines_and_labels_and_escapes_what_is_written() {
    let mut odd = outline(2, &[(0, 1, WayKind::Join), (1, 1, WayKind::Route)]);
    odd.graph = "a<b>&\"c\"".to_owned();
    let svg = odd.layout().to_svg();
    assert!(
        svg.contains("<title>a&lt;b&gt;&amp;&quot;c&quot;@1</title>"),
        "{svg}"
    );
    assert_eq!(svg.matches("class=\"name\"").count(), 2);
    assert_eq!(svg.matches("<path class").count(), 3);
    assert!(svg.contains("2 of 3") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
}
