use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use velo_engine::{CodecError, Overwrite, State, Update};

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Report {
    topic: String,
    #[state(append)]
    drafts: Vec<String>,
    #[state(max)]
    score: u32,
    #[state(min)]
    price: f64,
    #[state(merge)]
    notes: BTreeMap<String, u32>,
    #[state(reduce = add)]
    total: u64,
}

fn add(slot: &mut u64, value: u64) {
    *slot += value;
}

fn drafts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn each_field_is_merged_by_its_own_reducer() {
    let mut report = Report {
        price: 9.0,
        score: 2,
        ..Report::default()
    };
    let first = Report::update()
        .drafts(drafts(&["a"]))
        .score(5_u32)
        .price(4.0)
        .total(1_u64)
        .notes(BTreeMap::from([("x".to_owned(), 1)]));
    let second = Report::update()
        .drafts(drafts(&["b"]))
        .score(3_u32)
        .price(7.0)
        .total(2_u64)
        .notes(BTreeMap::from([("x".to_owned(), 2)]));
    report.apply(vec![("one", first), ("two", second)]).unwrap();
    let expected = Report {
        topic: String::new(),
        drafts: drafts(&["a", "b"]),
        score: 5,
        price: 4.0,
        notes: BTreeMap::from([("x".to_owned(), 2)]),
        total: 3,
    };
    assert_eq!(report, expected);
}

#[test]
fn two_writers_of_a_plain_field_are_refused_by_name_and_change_nothing() {
    let mut report = Report::default();
    let writes = vec![
        ("one", Report::update().score(9_u32).topic("bees")),
        ("two", Report::update().topic("ants")),
    ];
    let error = report.apply(writes).unwrap_err();
    assert_eq!(
        (error.field, error.nodes),
        ("topic", vec!["one".to_owned(), "two".to_owned()])
    );
    assert_eq!(report, Report::default());
}

#[test]
fn an_overwrite_replaces_the_field_and_other_writes_of_the_step_are_left_out() {
    let mut report = Report {
        drafts: drafts(&["old"]),
        ..Report::default()
    };
    let writes = vec![
        ("one", Report::update().drafts(drafts(&["before"]))),
        ("two", Report::update().drafts(Overwrite(drafts(&["only"])))),
        ("zed", Report::update().drafts(drafts(&["after"]))),
    ];
    report.apply(writes).unwrap();
    assert_eq!(report.drafts, ["only"]);
}

#[test]
fn two_overwrites_of_one_field_in_a_step_are_refused() {
    let overwrite = || Report::update().drafts(Overwrite(Vec::new()));
    let error = Report::default()
        .apply(vec![("one", overwrite()), ("two", overwrite())])
        .unwrap_err();
    assert_eq!(error.field, "drafts");
}

#[test]
fn one_node_may_write_a_reduced_field_twice_in_order() {
    let mut report = Report::default();
    report
        .apply(vec![(
            "one",
            Report::update()
                .drafts(drafts(&["a"]))
                .drafts(drafts(&["b"])),
        )])
        .unwrap();
    assert_eq!(report.drafts, ["a", "b"]);
}

#[test]
fn a_stored_update_does_what_the_update_did() {
    let update = Report::update()
        .topic("b\"ees\u{1}")
        .drafts(Overwrite(drafts(&["x"])))
        .total(7_u64);
    let stored = update.encode().unwrap();
    let (mut direct, mut restored) = (Report::default(), Report::default());
    direct.apply(vec![("one", update)]).unwrap();
    restored
        .apply(vec![("one", Update::decode(&stored).unwrap())])
        .unwrap();
    assert_eq!(direct, restored);
    assert_eq!(direct.topic, "b\"ees\u{1}");
}

#[test]
fn a_stored_update_holds_only_what_was_written() {
    let stored = Report::update()
        .score(3_u32)
        .drafts(Overwrite(Vec::new()))
        .encode()
        .unwrap();
    assert_eq!(
        String::from_utf8(stored).unwrap(),
        r#"[["score",3],["drafts",[],true]]"#
    );
}

#[test]
fn a_stored_field_that_is_gone_is_named() {
    let error = <Report as State>::Update::decode(br#"[["toppic","bees"]]"#).unwrap_err();
    assert!(
        matches!(&error, CodecError::UnknownField { field, near } if field == "toppic" && near.as_deref() == Some("topic")),
        "{error}"
    );
}

#[test]
fn a_stored_value_of_another_type_is_an_error_that_names_the_field() {
    let error = <Report as State>::Update::decode(br#"[["score","three"]]"#).unwrap_err();
    assert!(
        matches!(&error, CodecError::Decode { field, .. } if field == "score"),
        "{error}"
    );
    for rubbish in [&b""[..], b"{}", b"[1]", b"[[\"score\"]]", b"\xff"] {
        assert!(
            <Report as State>::Update::decode(rubbish).is_err(),
            "{rubbish:?}"
        );
    }
}
