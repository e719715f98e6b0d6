use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde::{Deserialize, Serialize};
use velo_engine::executor::{Checkpoint, advance, begin};
use velo_engine::{CodecError, Next, NodeKey, Overwrite, Shape, State, Update};

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Mixed {
    #[state(any)]
    language: String,
    #[state(ephemeral)]
    hint: Option<String>,
    #[state(ephemeral, append)]
    topics: Vec<u32>,
    #[state(untracked)]
    #[serde(skip)]
    cache: Arc<AtomicU32>,
    #[state(untracked, append)]
    #[serde(skip)]
    scratch: Vec<NotStorable>,
    #[state(append)]
    kept: Vec<u32>,
}

/// Has no stored form at all.
#[derive(Debug, Clone, PartialEq)]
struct NotStorable(u32);

fn wrote(language: &str) -> MixedUpdate {
    Mixed::update().language(language.to_owned())
}

#[test]
fn equal_writes_of_one_step_to_an_any_field_are_one() {
    let mut state = Mixed::default();
    let writes = vec![("a", wrote("en")), ("b", wrote("en"))];
    state.apply(writes).unwrap();
    assert_eq!(state.language, "en");
    state.apply(Vec::new()).unwrap();
    assert_eq!(state.language, "en", "it is kept");
}

#[test]
fn different_writes_of_one_step_to_an_any_field_are_refused() {
    let mut state = Mixed::default();
    let writes = vec![("a", wrote("en")), ("b", wrote("de")), ("c", wrote("en"))];
    let error = state.apply(writes).unwrap_err();
    assert_eq!((error.field, error.nodes.len()), ("language", 3));
    assert_eq!(state.language, "");
    let overwriting = Mixed::update().language(Overwrite("de".to_owned()));
    let writes = vec![("a", wrote("en")), ("b", overwriting)];
    state.apply(writes).unwrap_err();
}

#[test]
fn an_ephemeral_field_is_seen_by_the_next_step_alone() {
    let mut state = Mixed::default();
    let hint = |text: &str| vec![("a", Mixed::update().hint(Some(text.to_owned())))];
    state.apply(hint("left")).unwrap();
    assert_eq!(state.hint.as_deref(), Some("left"));
    state.apply(hint("right")).unwrap();
    assert_eq!(state.hint.as_deref(), Some("right"));
    state.apply(vec![("a", wrote("en"))]).unwrap();
    assert_eq!(state.hint, None);
}

#[test]
fn a_refused_step_leaves_an_ephemeral_field_as_it_was() {
    let mut state = Mixed::default();
    let hint = Mixed::update().hint(Some("left".to_owned()));
    state.apply(vec![("a", hint)]).unwrap();
    let writes = vec![("a", wrote("en")), ("b", wrote("de"))];
    state.apply(writes).unwrap_err();
    assert_eq!(state.hint.as_deref(), Some("left"));
}

/// B4: two nodes write to a topic, and a third adds 10 to each of its values.
#[test]
fn an_ephemeral_list_holds_what_one_step_wrote() {
    const ONE: NodeKey<Mixed> = NodeKey::new("one");
    const TWO: NodeKey<Mixed> = NodeKey::new("two");
    const ADD: NodeKey<Mixed> = NodeKey::new("add");
    let nodes = Shape::builder("topic", 1).node(ONE).node(TWO).node(ADD);
    let shape = nodes
        .start(ONE)
        .start(TWO)
        .join([ONE, TWO], ADD)
        .edge(ADD, ADD)
        .compile()
        .unwrap();
    let step = |at: &Checkpoint<Mixed>, outcome: &dyn Fn() -> Next<Mixed>| {
        let outcomes = at.tasks.iter().map(|_| outcome()).collect();
        advance(&shape, at, outcomes).unwrap()
    };
    let start = begin(&shape, Mixed::default());
    let written = step(&start, &|| Mixed::update().topics(vec![3]).into());
    assert_eq!(written.state.topics, [3, 3]);
    let topics = &written.state.topics;
    let added: Vec<u32> = topics.iter().map(|value| value + 10).collect();
    let added = step(&written, &|| Mixed::update().kept(added.clone()).into());
    assert_eq!(added.state.kept, [13, 13]);
    assert!(added.state.topics.is_empty());
}

#[test]
fn an_untracked_field_is_written_and_merged_like_any_other_and_stored_nowhere() {
    let mut state = Mixed::default();
    let update = Mixed::update()
        .scratch(vec![NotStorable(1)])
        .cache(Arc::new(AtomicU32::new(7)))
        .kept(vec![1]);
    assert_eq!(update.encode().unwrap(), br#"[["kept",[1]]]"#);
    state.apply(vec![("a", update)]).unwrap();
    let more = Mixed::update().scratch(vec![NotStorable(2)]);
    state.apply(vec![("b", more)]).unwrap();
    assert_eq!(state.scratch, [NotStorable(1), NotStorable(2)]);
    let stored = serde_json::to_string(&state).unwrap();
    assert!(
        !stored.contains("scratch") && !stored.contains("cache"),
        "{stored}"
    );
    let restored: Mixed = serde_json::from_str(&stored).unwrap();
    assert!(restored.scratch.is_empty());
    assert_eq!(restored.kept, [1]);
}

#[test]
fn what_was_stored_of_a_field_before_it_was_untracked_is_let_go() {
    let stored = br#"[["scratch",[{"secret":1}]],["kept",[1]]]"#;
    let update = <Mixed as State>::Update::decode(stored).unwrap();
    assert_eq!(update.into_state().unwrap().kept, [1]);
    let unknown = <Mixed as State>::Update::decode(br#"[["scratches",[]]]"#);
    assert!(matches!(unknown, Err(CodecError::UnknownField { .. })));
}

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Awkward {
    node: u32,
    updates: u32,
    update: u32,
    writes: u32,
    write: u32,
    value: u32,
    stored: u32,
    bytes: u32,
    r#type: u32,
}

#[test]
fn fields_may_be_called_as_they_like() {
    let update = Awkward::update()
        .node(1_u32)
        .updates(2_u32)
        .writes(3_u32)
        .write(4_u32)
        .value(5_u32)
        .stored(6_u32)
        .bytes(7_u32)
        .r#type(8_u32);
    let restored = <Awkward as State>::Update::decode(&update.encode().unwrap()).unwrap();
    let state = restored.into_state().unwrap();
    assert_eq!(state, update.into_state().unwrap());
    assert_eq!((state.node, state.r#type), (1, 8));
}
