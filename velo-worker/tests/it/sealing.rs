//! Under a codec: copies, threads, documents of the long-term store, and a rotation whose process is killed.

use std::process::{Command, Stdio};

use serde_json::json;
use sqlx::PgPool;
use velo_engine::codec::SealError;
use velo_engine::item::{Filter, ItemError, Namespace};
use velo_engine::limits::Limits;
use velo_engine::prelude::*;
use velo_engine::{Engine, IfBusy, Reencrypted, test_kit};

use crate::encryption::{begun, everything, found, lived, marked, pass, ring, two_steps};
use crate::support::{Beside, Log, line, settled, steady};

const DATABASE: &str = "VELO_TEST_SEALED_DATABASE";
const HEAR: NodeKey<Log> = NodeKey::new("hear");
const THREAD: &str = "chat/7";

fn chat() -> Graph<Log> {
    Graph::builder("chat", 1)
        .node(HEAR, async |cx: Context<Log>| {
            Ok(line(format!("heard {}", cx.state().lines.len())).into())
        })
        .start(HEAR)
        .compile()
        .unwrap()
}

async fn lines(engine: &Engine, run: RunId) -> Vec<String> {
    engine.state::<Log>(run).await.unwrap().lines
}

#[tokio::test]
async fn a_copy_of_a_sealed_run_is_sealed_as_its_own_in_every_column() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let run = lived(&engine).await;
    let copy = engine.copy(run, Some("other")).await.unwrap();
    let fork = engine.fork(&everything(), run, 3).await.unwrap();
    let untyped = engine.fork_untyped(run, 3, None).await.unwrap();
    // The edit at the end has the whole state with it, so that this one begins there and counts from zero.
    let history = engine.history(run, -1, 100).await.unwrap();
    let newest = history.last().unwrap().seq;
    let edited = engine.fork_untyped(run, newest, None).await.unwrap();
    assert_eq!(found(&engine).await, [""; 0]);

    let original = engine
        .open_export(&engine.export(run).await.unwrap())
        .unwrap();
    engine.cancel(run).await.unwrap();
    // Every payload of it opens, with nothing left of the original.
    let copied = engine
        .open_export(&engine.export(copy).await.unwrap())
        .unwrap();
    assert_eq!(
        (&copied.steps, &copied.memos),
        (&original.steps, &original.memos)
    );
    assert_eq!(
        (&copied.outcomes, &copied.failures),
        (&original.outcomes, &original.failures)
    );
    assert_eq!(
        (&copied.events, copied.signals.len()),
        (&original.events, original.signals.len())
    );
    assert_eq!(engine.history(copy, -1, 100).await.unwrap(), history);
    let error = engine.run(copy).await.unwrap().error.unwrap();
    assert_eq!(error["message"], marked("failed"));
    assert_eq!(lines(&engine, untyped).await, lines(&engine, fork).await);
    assert_eq!(lines(&engine, edited).await, lines(&engine, copy).await);
    assert_eq!(engine.history(edited, -1, 100).await.unwrap().len(), 1);
    for fork in [untyped, edited] {
        let export = engine.export(fork).await.unwrap();
        engine.open_export(&export).unwrap();
    }
}

#[tokio::test]
async fn a_copied_thread_is_read_with_the_key_and_not_moved_without_it() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let graph = chat();
    let beside = Beside::start(steady(&engine, graph.clone()));
    for said in ["one", "two"] {
        let run = engine
            .input(&graph, THREAD, line(marked(said)))
            .await
            .unwrap();
        settled(&engine, run).await;
    }
    let copies = engine.copy_thread(THREAD, "chat/8").await.unwrap();
    assert_eq!(
        lines(&engine, copies[1]).await,
        [&marked("one"), "heard 1", &marked("two"), "heard 3"]
    );
    // And goes on from what was copied.
    let next = engine.input(&graph, "chat/8", line("three")).await.unwrap();
    settled(&engine, next).await;
    assert_eq!(lines(&engine, next).await.len(), 6);
    assert_eq!(found(&engine).await, [""; 0]);
    beside.stop().await;

    let stranger = Engine::connect(engine.pool().clone()).with_codec(ring("b", 2));
    let before = engine.runs(&RunStatus::ALL, None, 100).await.unwrap().len();
    let refused = [
        stranger.copy(copies[0], None).await.unwrap_err(),
        stranger.copy_thread(THREAD, "chat/9").await.unwrap_err(),
    ];
    for error in refused {
        let EngineError::Sealed { source, .. } = error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(&source, SealError::UnknownKey { key } if key == "a"),
            "{source:?}"
        );
    }
    let after = engine.runs(&RunStatus::ALL, None, 100).await.unwrap().len();
    assert_eq!(after, before);
    assert!(engine.thread("chat/9").await.unwrap().is_none());
}

#[tokio::test]
async fn a_copy_that_waits_hears_its_own_message_under_a_codec() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let graph = two_steps();
    let run = engine.start(&graph, begun()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
    let copy = engine.copy(run, None).await.unwrap();
    engine.signal(copy, "word", &"mine", None).await.unwrap();
    assert_eq!(settled(&engine, copy).await.status, RunStatus::Completed);
    assert_eq!(
        lines(&engine, copy).await,
        [&marked("input"), "first", "mine"]
    );
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Waiting);
    beside.stop().await;
}

#[tokio::test]
async fn inputs_in_line_are_sealed_and_begin_after_a_rotation() {
    let before = test_kit::engine().await.with_codec(ring("old", 1));
    let graph = chat();
    let mut runs = Vec::new();
    for said in ["one", "two", "three"] {
        let input = before.input(&graph, THREAD, line(marked(said)));
        runs.push(input.if_busy(IfBusy::Enqueue).await.unwrap());
    }
    let whole = before.start(&graph, begun()).thread(THREAD);
    runs.push(whole.if_busy(IfBusy::Enqueue).await.unwrap());
    assert_eq!(found(&before).await, [""; 0]);

    let both = ring("new", 2).with_old("old", &[1; 32]).unwrap();
    let rotating = Engine::connect(before.pool().clone()).with_codec(both);
    let first = pass(&rotating).await;
    assert!(first.sealed >= 10 && first.unreadable == 0, "{first:?}");
    assert_eq!(pass(&rotating).await, Reencrypted::default());

    let after = Engine::connect(before.pool().clone()).with_codec(ring("new", 2));
    let beside = Beside::start(steady(&after, graph));
    for run in &runs {
        assert_eq!(settled(&after, *run).await.status, RunStatus::Completed);
    }
    assert_eq!(
        lines(&after, runs[2]).await,
        [
            &marked("one"),
            "heard 1",
            &marked("two"),
            "heard 3",
            &marked("three"),
            "heard 5"
        ]
    );
    assert_eq!(lines(&after, runs[3]).await, [&marked("input"), "heard 1"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_thread_whose_state_would_be_too_large_to_begin_from_pauses_the_run_with_the_reason() {
    let limits = Limits {
        value: 1_000,
        state: 1_500,
        ..Limits::default()
    };
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let engine = engine.with_limits(limits);
    let graph = chat();
    let input = |bytes: usize| engine.input(&graph, THREAD, line("x".repeat(bytes)));
    let beside = Beside::start(steady(&engine, graph.clone()));
    let refused = input(1_100).await.unwrap_err();
    assert!(
        matches!(&refused, EngineError::TooLarge(large) if large.field == "lines"),
        "{refused:?}"
    );
    let first = input(800).await.unwrap();
    assert_eq!(settled(&engine, first).await.status, RunStatus::Completed);
    let second = input(800).await.unwrap();
    assert_eq!(settled(&engine, second).await.status, RunStatus::Paused);
    let why = engine.why(second).await.unwrap().to_string();
    assert!(
        why.contains("the state, in which `lines` is the largest field"),
        "{why}"
    );
    beside.stop().await;
    // Nothing of it is lost: under a higher limit it begins.
    let roomy = Engine::connect(engine.pool().clone()).with_codec(ring("a", 1));
    roomy.resume(second).await.unwrap();
    let beside = Beside::start(steady(&roomy, graph.clone()));
    assert_eq!(settled(&roomy, second).await.status, RunStatus::Completed);
    assert_eq!(lines(&roomy, second).await.len(), 4);
    beside.stop().await;
}

fn ada() -> Namespace {
    Namespace::new(["users", "ada"]).unwrap()
}

#[tokio::test]
async fn documents_are_sealed_and_found_by_namespace_alone() {
    let engine = test_kit::engine().await.with_codec(ring("a", 1));
    let value = json!({ "likes": marked("blue") });
    let graph = {
        let value = value.clone();
        let node = move |cx: Context<Log>| {
            let value = value.clone();
            async move {
                cx.put(&ada(), "by a node", &value).await?;
                let own = cx.get(&ada(), "by a node").await?;
                Ok(line(own.map(|item| item.value.to_string()).unwrap_or_default()).into())
            }
        };
        Graph::builder("remember", 1)
            .node(HEAR, node)
            .start(HEAR)
            .compile()
            .unwrap()
    };
    let items = engine.items();
    items.put(&ada(), "by a caller", &value).await.unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
    assert_eq!(lines(&engine, run).await, [value.to_string()]);
    assert_eq!(found(&engine).await, [""; 0]);

    let users = Namespace::new(["users"]).unwrap();
    let page = items.search(&users).await.unwrap();
    let keys: Vec<&str> = page.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["by a caller", "by a node"]);
    assert!(page.items.iter().all(|item| item.value == value));
    assert_eq!(
        items.get(&ada(), "by a node").await.unwrap().unwrap().value,
        value
    );
    assert_eq!(items.namespaces().await.unwrap().namespaces, [ada()]);

    let refused = [
        items.search(&users).text("blue").await.unwrap_err(),
        items
            .search(&users)
            .filter(Filter::eq("likes", "blue"))
            .await
            .unwrap_err(),
        items.search(&users).near(vec![1.0]).await.unwrap_err(),
        items
            .put(&ada(), "k", &value)
            .text("blue")
            .await
            .unwrap_err(),
        items
            .put(&ada(), "k", &value)
            .embedding(vec![1.0])
            .await
            .unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, ItemError::UnderCodec { .. }), "{error:?}");
    }
    let stranger = Engine::connect(engine.pool().clone());
    let error = stranger.items().get(&ada(), "by a node").await.unwrap_err();
    assert!(matches!(error, ItemError::Sealed { .. }), "{error:?}");
    // A document in the place of another does not open.
    sqlx::query("update velo.item i set value = o.value from velo.item o where o.key <> i.key")
        .execute(engine.pool())
        .await
        .unwrap();
    let error = items.get(&ada(), "by a node").await.unwrap_err();
    assert!(
        matches!(
            error,
            ItemError::Sealed {
                source: SealError::Broken { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn documents_in_the_clear_are_sealed_by_a_pass_with_what_they_were_found_by() {
    let clear = test_kit::engine().await;
    let value = json!({ "likes": marked("blue") });
    let put = async |key: &str| {
        let (items, ada) = (clear.items(), ada());
        let put = items.put(&ada, key, &value).text(marked("words"));
        put.embedding(vec![0.5, 0.5]).await.unwrap();
    };
    put("one").await;
    put("two\u{2}three").await;
    assert_eq!(found(&clear).await, ["item.search", "item.value"]);
    let sealing = Engine::connect(clear.pool().clone()).with_codec(ring("a", 1));
    assert_eq!(pass(&sealing).await.sealed, 2);
    assert_eq!(pass(&sealing).await, Reencrypted::default());
    assert_eq!(found(&clear).await, [""; 0]);
    let left: i64 = sqlx::query_scalar(
        "select count(*) from velo.item where search is not null or embedding is not null",
    )
    .fetch_one(clear.pool())
    .await
    .unwrap();
    assert_eq!(left, 0);
    for key in ["one", "two\u{2}three"] {
        assert_eq!(
            sealing
                .items()
                .get(&ada(), key)
                .await
                .unwrap()
                .unwrap()
                .value,
            value
        );
    }
}

#[tokio::test]
async fn without_a_codec_a_document_that_looks_sealed_is_only_a_document() {
    let engine = test_kit::engine().await;
    let odd = json!({ "$velo.sealed": "AAAA" });
    engine.items().put(&ada(), "odd", &odd).await.unwrap();
    assert_eq!(
        engine
            .items()
            .get(&ada(), "odd")
            .await
            .unwrap()
            .unwrap()
            .value,
        odd
    );
}

fn rotating(pool: PgPool) -> Engine {
    let both = ring("new", 2).with_old("old", &[1; 32]).unwrap();
    Engine::connect(pool).with_codec(both)
}

/// Not a test by itself: the process that another test starts, and a failpoint kills.
#[tokio::test]
async fn another_process() {
    let Ok(url) = std::env::var(DATABASE) else {
        return;
    };
    let engine = rotating(PgPool::connect(&url).await.unwrap());
    let mut position = None;
    loop {
        let done = engine.reencrypt(position, 3).await.unwrap();
        position = done.next;
        let Some(position) = &position else { return };
        sqlx::query("update place set at = $1")
            .bind(position.to_string())
            .execute(engine.pool())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_pass_whose_process_is_killed_goes_on_from_where_it_was_known_to_be() {
    let url = test_kit::database_url().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let engine = Engine::migrate_and_connect(pool).await.unwrap();
    let before = engine.with_codec(ring("old", 1));
    let run = lived(&before).await;
    let known = lines(&before, run).await;
    sqlx::raw_sql("create table place (at text); insert into place values (null)")
        .execute(before.pool())
        .await
        .unwrap();
    let doomed = Command::new(std::env::current_exe().unwrap())
        .args(["sealing::another_process", "--exact"])
        .env(DATABASE, &url)
        .env("VELO_FAILPOINT", "reencrypt.before_commit:5:kill")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Killed by a signal, and so without a code.
    assert_eq!(doomed.unwrap().code(), None);

    let heir = rotating(before.pool().clone());
    assert_eq!(lines(&heir, run).await, known);
    let place: String = sqlx::query_scalar("select at from place")
        .fetch_one(heir.pool())
        .await
        .unwrap();
    let mut position = Some(place.parse().unwrap());
    let mut sealed = 0;
    while position.is_some() {
        let done = heir.reencrypt(position, 100).await.unwrap();
        assert_eq!((done.unreadable, done.changed), (0, 0));
        sealed += done.sealed;
        position = done.next;
    }
    assert!(sealed > 10, "{sealed}");
    assert_eq!(pass(&heir).await, Reencrypted::default());
}
