//! The long-term store, as callers see it, on a real Postgres.

use std::time::Duration;

use serde_json::{Value, json};
use velo_engine::item::{
    FILTERS_MAX, Filter, ITEMS_MAX, Item, ItemError, ItemPage, Items, Namespace, SWEEP_BATCH,
    TEXT_MAX, VALUE_MAX, sweep,
};
use velo_engine::{Engine, test_kit};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3_600);

fn at<const N: usize>(labels: [&str; N]) -> Namespace {
    Namespace::new(labels).unwrap()
}

async fn store() -> (Engine, Items) {
    let engine = test_kit::engine().await;
    let items = engine.items();
    (engine, items)
}

async fn put(items: &Items, namespace: &Namespace, key: &str, value: Value) {
    items.put(namespace, key, &value).await.unwrap();
}

async fn value(items: &Items, namespace: &Namespace, key: &str) -> Option<Value> {
    let found = items.get(namespace, key).await.unwrap();
    found.map(|item| item.value)
}

fn keys(page: &ItemPage) -> Vec<&str> {
    page.items.iter().map(|item| item.key.as_str()).collect()
}

/// Until the document is not there any more.
async fn until_expired(items: &Items, namespace: &Namespace, key: &str) {
    let gone = async {
        while items.get(namespace, key).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .unwrap();
}

async fn rows(engine: &Engine) -> i64 {
    sqlx::query_scalar("select count(*) from velo.item")
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn an_item_is_put_replaced_and_deleted_and_kept_apart_from_other_namespaces() {
    let (_, items) = store().await;
    let (ada, bob) = (at(["users", "ada"]), at(["users", "bob"]));
    assert_eq!(value(&items, &ada, "colour").await, None);
    put(&items, &ada, "colour", json!("red")).await;
    let first = items.get(&ada, "colour").await.unwrap().unwrap();
    put(&items, &ada, "colour", json!("blue")).await;
    let second = items.get(&ada, "colour").await.unwrap().unwrap();
    assert_eq!(second.read::<String>().unwrap(), "blue");
    assert!(matches!(
        second.read::<u32>(),
        Err(ItemError::Unreadable { .. })
    ));
    assert_eq!(second.created_at, first.created_at);
    assert!(second.updated_at > first.updated_at);
    assert_eq!(value(&items, &bob, "colour").await, None);
    assert!(!items.delete(&bob, "colour").await.unwrap());
    assert!(items.delete(&ada, "colour").await.unwrap());
    assert!(!items.delete(&ada, "colour").await.unwrap());
    assert_eq!(value(&items, &ada, "colour").await, None);
}

/// beyond/size_bounds: of documents.
#[tokio::test]
async fn what_cannot_be_kept_is_refused_before_the_database_sees_it() {
    let (_, items) = store().await;
    let a = at(["a"]);
    let nul = items.put(&a, "k", &json!({ "deep": ["\0"] })).await;
    assert!(matches!(nul, Err(ItemError::BadValue(bad)) if bad.at == "value.deep[0]"));
    let nan = items.put(&a, "k", &[0.5, f64::NAN]).await;
    assert!(matches!(nan, Err(ItemError::BadValue(bad)) if bad.at == "value[1]"));
    let nul = items.search(&a).filter(Filter::eq("k\0", 1)).await;
    assert!(matches!(nul, Err(ItemError::Nul)));
    let long = "x".repeat(1_025);
    for key in ["", "a\0", &long] {
        assert!(matches!(items.get(&a, key).await, Err(ItemError::Key)));
        assert!(matches!(items.put(&a, key, &1).await, Err(ItemError::Key)));
        assert!(matches!(items.delete(&a, key).await, Err(ItemError::Key)));
    }
    let fits = "x".repeat(VALUE_MAX - 2);
    items.put(&a, "large", &fits).await.unwrap();
    let refused = items.put(&a, "large", &format!("{fits}x")).await;
    assert!(matches!(refused, Err(ItemError::TooLarge { bytes, .. }) if bytes == VALUE_MAX + 1));
    let refused = items.put(&a, "k", &1).ttl(Duration::ZERO).await;
    assert!(matches!(refused, Err(ItemError::Ttl)));
    for odd in [vec![], vec![0.0, 0.0], vec![f32::NAN], vec![f32::INFINITY]] {
        let refused = items.put(&a, "k", &1).embedding(odd).await;
        assert!(matches!(refused, Err(ItemError::Embedding)));
    }
}

#[tokio::test]
async fn the_longest_names_that_are_accepted_fit_the_index() {
    let (_, items) = store().await;
    // Of letters that do not compress.
    let mut seed = 7_u64;
    let mut text = |length: usize| -> String {
        (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'0' + u8::try_from((seed >> 33) % 75).unwrap())
            })
            .collect()
    };
    let labels: Vec<String> = (0..4).map(|_| text(249)).collect();
    let (deep, key) = (Namespace::new(labels).unwrap(), text(1_024));
    put(&items, &deep, &key, json!(1)).await;
    assert_eq!(value(&items, &deep, &key).await, Some(json!(1)));
}

#[tokio::test]
async fn a_search_finds_whole_labels_only_in_pages_without_gaps() {
    let (_, items) = store().await;
    for namespace in [
        at(["users"]),
        at(["users", "ada"]),
        at(["users", "ada", "x"]),
        at(["users2", "ada"]),
        at(["user"]),
    ] {
        for key in ["b", "a", "c"] {
            put(&items, &namespace, key, json!(namespace.to_string())).await;
        }
    }
    let (mut found, mut next) = (Vec::new(), None);
    for pages in 1.. {
        let users = at(["users"]);
        let page = items.search(&users).limit(2).after(next).await.unwrap();
        found.extend(page.items.into_iter().map(|item: Item| {
            assert_eq!(item.value, json!(item.namespace.to_string()));
            format!("{}:{}", item.namespace, item.key)
        }));
        // As a caller would carry it to the next request.
        next = page.next.map(|next| {
            let text = serde_json::to_string(&next).unwrap();
            serde_json::from_str(&text).unwrap()
        });
        if next.is_none() {
            assert_eq!(pages, 5);
            break;
        }
    }
    let mut wanted = Vec::new();
    for namespace in ["users", "users/ada", "users/ada/x"] {
        wanted.extend(["a", "b", "c"].map(|key| format!("{namespace}:{key}")));
    }
    assert_eq!(found, wanted);
    let all = items.search_all().limit(ITEMS_MAX + 1).await.unwrap();
    assert_eq!((all.items.len(), all.next), (15, None));
    let full = items.search(&at(["users"])).limit(9).await.unwrap();
    assert_eq!((full.items.len(), full.next), (9, None));
}

#[tokio::test]
async fn filters_compare_what_is_of_one_kind() {
    let (_, items) = store().await;
    let a = at(["a"]);
    for (key, value) in [
        (
            "one",
            json!({ "n": 1, "s": "b", "deep": { "x": [1, 2] }, "null": null }),
        ),
        (
            "ten",
            json!({ "n": 10.0, "s": "B", "deep": { "x": [1, 2, 3] }, "flag": true }),
        ),
        (
            "text",
            json!({ "n": "10", "s": "a", "deep": { "x": { "0": 1 }, "y": 1 } }),
        ),
        ("list", json!([1, 2])),
        ("number", json!(5)),
    ] {
        put(&items, &a, key, value).await;
    }
    let found = async |filters: &[Filter]| {
        let search = filters.iter().fold(items.search(&a), |search, filter| {
            search.filter(filter.clone())
        });
        let page = search.await.unwrap();
        keys(&page).join(" ")
    };
    assert_eq!(found(&[Filter::eq("n", 10)]).await, "ten");
    assert_eq!(found(&[Filter::eq("n", "10")]).await, "text");
    assert_eq!(found(&[Filter::ne("n", 10)]).await, "list number one text");
    assert_eq!(found(&[Filter::gt("n", 1)]).await, "ten");
    assert_eq!(
        found(&[Filter::gte("n", 1), Filter::lt("n", 10)]).await,
        "one"
    );
    assert_eq!(found(&[Filter::lte("n", 10)]).await, "one ten");
    // By their bytes: capitals come first.
    assert_eq!(found(&[Filter::lt("s", "a")]).await, "ten");
    assert_eq!(found(&[Filter::gt("s", "a")]).await, "one");
    assert_eq!(found(&[Filter::gte("flag", false)]).await, "");
    assert_eq!(found(&[Filter::eq("flag", true)]).await, "ten");
    // The whole of it and not a part.
    assert_eq!(found(&[Filter::eq("/deep/x", json!([1, 2]))]).await, "one");
    assert_eq!(
        found(&[Filter::eq("deep", json!({ "x": { "0": 1 } }))]).await,
        ""
    );
    assert_eq!(found(&[Filter::eq("/deep/x/0", 1)]).await, "one ten text");
    assert_eq!(found(&[Filter::eq("null", Value::Null)]).await, "one");
    assert_eq!(found(&[Filter::eq("n", 1), Filter::eq("n", 10)]).await, "");
    assert_eq!(found(&[Filter::eq("/0", 1)]).await, "list");
    assert_eq!(found(&[Filter::eq("/", 5)]).await, "");
    let many = vec![Filter::eq("n", 1); FILTERS_MAX + 1];
    let search = many
        .into_iter()
        .fold(items.search(&a), velo_engine::item::Search::filter);
    assert!(matches!(
        search.await,
        Err(ItemError::TooManyFilters { .. })
    ));
}

#[tokio::test]
async fn an_item_that_has_expired_is_seen_by_nobody_and_swept_once() {
    let (engine, items) = store().await;
    let a = at(["a"]);
    items.put(&a, "short", &"word").ttl(SHORT).await.unwrap();
    items.put(&a, "long", &"word").ttl(LONG).await.unwrap();
    items.put(&a, "ever", &"word").await.unwrap();
    let born = items.get(&a, "ever").await.unwrap().unwrap();
    assert_eq!(born.expires_at, None);
    until_expired(&items, &a, "short").await;
    // Reading and having it live on does not bring it back.
    assert_eq!(items.get(&a, "short").refresh().await.unwrap(), None);
    assert_eq!(keys(&items.search(&a).await.unwrap()), ["ever", "long"]);
    let by_text = items.search(&a).text("word").await.unwrap();
    assert_eq!(keys(&by_text), ["ever", "long"]);
    assert!(!items.delete(&a, "short").await.unwrap());
    items.put(&a, "short", &1).ttl(SHORT).await.unwrap();
    until_expired(&items, &a, "short").await;
    assert_eq!(rows(&engine).await, 3);
    let swept = tokio::join!(sweep(engine.pool()), sweep(engine.pool()));
    assert_eq!(swept.0.unwrap() + swept.1.unwrap(), 1);
    assert_eq!(rows(&engine).await, 2);
}

#[tokio::test]
async fn an_item_that_is_put_again_after_it_expired_is_a_new_one() {
    let (engine, items) = store().await;
    let a = at(["a"]);
    items.put(&a, "k", &1).ttl(SHORT).await.unwrap();
    until_expired(&items, &a, "k").await;
    let before: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select created_at from velo.item")
            .fetch_one(engine.pool())
            .await
            .unwrap();
    items.put(&a, "k", &2).await.unwrap();
    let again = items.get(&a, "k").await.unwrap().unwrap();
    assert!(again.created_at > before);
    assert_eq!(again.expires_at, None);
    assert_eq!(sweep(engine.pool()).await.unwrap(), 0);
}

#[tokio::test]
async fn more_than_a_batch_is_swept_in_one_call() {
    let (engine, _) = store().await;
    sqlx::query(
        "insert into velo.item (namespace, key, value, ttl, expires_at) \
         select 'a' || chr(1), g::text, '1', '1s', now() - interval '1s' from generate_series(1, $1) g",
    )
    .bind(i32::try_from(SWEEP_BATCH).unwrap() + 1)
    .execute(engine.pool())
    .await
    .unwrap();
    let swept = sweep(engine.pool()).await.unwrap();
    assert_eq!(swept, SWEEP_BATCH.unsigned_abs() + 1);
}

#[tokio::test]
async fn reading_has_an_item_live_on_only_when_that_is_asked_for() {
    let (_, items) = store().await;
    let a = at(["a"]);
    items.put(&a, "k", &"word").ttl(LONG).await.unwrap();
    items.put(&a, "ever", &"word").await.unwrap();
    let expires = async || items.get(&a, "k").await.unwrap().unwrap().expires_at;
    let first = expires().await;
    items.search(&a).await.unwrap();
    assert_eq!(expires().await, first);
    let read = items.get(&a, "k").refresh().await.unwrap().unwrap();
    assert!(read.expires_at > first);
    assert_eq!(expires().await, read.expires_at);
    items.search(&a).text("word").refresh().await.unwrap();
    assert!(expires().await > read.expires_at);
    let ever = items.get(&a, "ever").refresh().await.unwrap().unwrap();
    assert_eq!(ever.expires_at, None);
}

#[tokio::test]
async fn what_is_put_in_a_transaction_is_there_if_it_commits() {
    let (engine, items) = store().await;
    let a = at(["a"]);
    put(&items, &a, "old", json!(1)).await;
    let mut tx = engine.pool().begin().await.unwrap();
    items.put(&a, "new", &2).in_tx(&mut tx).await.unwrap();
    assert!(items.delete_in_tx(&mut tx, &a, "old").await.unwrap());
    let seen = items.get(&a, "new").in_tx(&mut tx).await.unwrap();
    assert_eq!(seen.unwrap().value, json!(2));
    let found = items.search(&a).in_tx(&mut tx).await.unwrap();
    assert_eq!(keys(&found), ["new"]);
    assert_eq!(keys(&items.search(&a).await.unwrap()), ["old"]);
    tx.rollback().await.unwrap();
    assert_eq!(keys(&items.search(&a).await.unwrap()), ["old"]);
}

#[tokio::test]
async fn words_are_found_best_first_and_page_by_page() {
    let (_, items) = store().await;
    let a = at(["a"]);
    put(
        &items,
        &a,
        "once",
        json!({ "text": "pizza and some more words" }),
    )
    .await;
    put(
        &items,
        &a,
        "often",
        json!(["Pizza pizza", { "deep": "pizza!" }]),
    )
    .await;
    put(&items, &a, "never", json!({ "pizza": "a key is no text" })).await;
    put(&items, &at(["b"]), "elsewhere", json!("pizza")).await;
    for key in ["x1", "x2", "x3"] {
        put(&items, &a, key, json!("pizza")).await;
    }
    let all = items.search(&a).text("pizza").await.unwrap();
    assert_eq!(keys(&all), ["often", "once", "x1", "x2", "x3"]);
    let scores: Vec<f64> = all.items.iter().filter_map(|item| item.score).collect();
    assert!(scores.len() == 5 && scores.is_sorted_by(|a, b| a >= b) && scores[0] > scores[1]);
    let (mut paged, mut next) = (Vec::new(), None);
    loop {
        let search = items.search(&a).text("pizza").limit(2).after(next);
        let page = search.await.unwrap();
        paged.extend(page.items.into_iter().map(|item| item.key));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(paged, keys(&all));
    let narrowed = items
        .search(&a)
        .text("pizza -words")
        .filter(Filter::ne("/0", "Pizza pizza"));
    assert_eq!(keys(&narrowed.await.unwrap()), ["x1", "x2", "x3"]);
    assert_eq!(
        keys(&items.search(&a).text("\"some more\"").await.unwrap()),
        ["once"]
    );
    assert_eq!(
        keys(&items.search(&a).text("' ! & (").await.unwrap()),
        [""; 0]
    );
}

#[tokio::test]
async fn a_language_makes_the_forms_of_a_word_alike_and_a_text_of_its_own_replaces_the_values() {
    let (_, items) = store().await;
    let a = at(["a"]);
    let english = items
        .put(&a, "english", &"she likes running")
        .language("english");
    english.await.unwrap();
    items.put(&a, "simple", &"she likes running").await.unwrap();
    items
        .put(&a, "own", &"likes")
        .text("something else")
        .await
        .unwrap();
    items.put(&a, "none", &"likes").text("").await.unwrap();
    let found = items.search(&a).text("run like").language("english").await;
    assert_eq!(keys(&found.unwrap()), ["english"]);
    assert_eq!(
        keys(&items.search(&a).text("likes").await.unwrap()),
        ["simple"]
    );
    assert_eq!(keys(&items.search(&a).text("else").await.unwrap()), ["own"]);
    let refused = items.search(&a).text("likes").language("klingon").await;
    assert!(matches!(refused, Err(ItemError::NoLanguage(name)) if name == "klingon"));
    let refused = items.put(&a, "k", &"x").language("klingon").await;
    assert!(matches!(refused, Err(ItemError::NoLanguage(_))));
}

#[tokio::test]
async fn the_words_of_the_largest_texts_fit_the_index() {
    let (_, items) = store().await;
    let a = at(["a"]);
    // All words differ, and the parser makes several out of each.
    let words = |form: fn(usize) -> String| -> String {
        let mut text = String::new();
        for word in (0..).map(form) {
            if text.len() + word.len() + 3 > VALUE_MAX {
                break;
            }
            text.push_str(&word);
            text.push(' ');
        }
        text
    };
    let short = words(|n| format!("{n:x}"));
    let hyphens = words(|n| format!("a{n}-b{n}-c{n}"));
    let addresses = words(|n| format!("h{n}.example.org/p{n}/q{n}?r={n}"));
    for (key, text) in [
        ("short", short),
        ("hyphens", hyphens),
        ("addresses", addresses),
    ] {
        items.put(&a, key, &text).await.unwrap();
    }
    let found = items.search(&a).text("a1-b1-c1").await.unwrap();
    assert_eq!(keys(&found), ["hyphens"]);
    let late = format!("{}word", " ".repeat(TEXT_MAX));
    items.put(&a, "late", &late).await.unwrap();
    assert_eq!(keys(&items.search(&a).text("word").await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn a_search_by_vector_without_pgvector_says_what_is_missing() {
    let (_, items) = store().await;
    let a = at(["a"]);
    // Kept all the same: the extension may come later.
    let put = items.put(&a, "k", &1).embedding(vec![1.0, 2.0]).await;
    put.unwrap();
    let refused = items.search(&a).near(vec![1.0, 0.0]).await.unwrap_err();
    assert!(matches!(refused, ItemError::NoVectors));
    let told = refused.to_string();
    assert!(
        told.contains("pgvector") && told.contains("create extension vector"),
        "{told}"
    );
}

/// Only where the server has the extension: elsewhere it says so, and shows nothing.
#[tokio::test]
async fn a_search_by_vector_finds_the_nearest_by_cosine() {
    let (engine, items) = store().await;
    if sqlx::query("create extension vector")
        .execute(engine.pool())
        .await
        .is_err()
    {
        eprintln!("not shown: the server has no extension pgvector");
        return;
    }
    let a = at(["a"]);
    for (key, embedding) in [
        ("same", vec![2.0, 0.0]),
        ("near", vec![1.0, 0.1]),
        ("square", vec![0.0, 5.0]),
        ("away", vec![-1.0, 0.0]),
        ("other", vec![1.0, 0.0, 0.0]),
    ] {
        let value = json!({ "n": embedding.len(), "text": key });
        items
            .put(&a, key, &value)
            .embedding(embedding)
            .await
            .unwrap();
    }
    put(&items, &a, "none", json!({ "text": "none" })).await;
    let found = items.search(&a).near(vec![1.0, 0.0]).await.unwrap();
    assert_eq!(keys(&found), ["same", "near", "square", "away"]);
    let scores: Vec<f64> = found.items.iter().filter_map(|item| item.score).collect();
    for (score, wanted) in scores.iter().zip([1.0, 0.995, 0.0, -1.0]) {
        assert!((score - wanted).abs() < 0.001, "{scores:?}");
    }
    let (mut paged, mut next) = (Vec::new(), None);
    loop {
        let search = items.search(&a).near(vec![1.0, 0.0]).limit(1).after(next);
        let page = search.await.unwrap();
        paged.extend(page.items.into_iter().map(|item| item.key));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(paged, keys(&found));
    let both = items.search(&a).near(vec![0.0, 1.0]).text("away or same");
    assert_eq!(keys(&both.await.unwrap()), ["away", "same"]);
    let narrowed = items
        .search(&a)
        .near(vec![0.0, 1.0])
        .filter(Filter::eq("text", "away"));
    assert_eq!(keys(&narrowed.await.unwrap()), ["away"]);
}

#[tokio::test]
async fn namespaces_are_listed_once_each_by_prefix_suffix_and_depth() {
    let (engine, items) = store().await;
    for namespace in [
        at(["users", "ada", "memories"]),
        at(["users", "ada", "settings"]),
        at(["users", "bob", "memories"]),
        at(["users"]),
        at(["orders", "7", "memories"]),
    ] {
        for key in ["a", "b"] {
            put(&items, &namespace, key, json!(1)).await;
        }
    }
    let gone = at(["users", "gone", "memories"]);
    items.put(&gone, "k", &1).ttl(SHORT).await.unwrap();
    until_expired(&items, &gone, "k").await;
    let listed = async |listing: velo_engine::item::Namespaces| {
        let (mut told, mut next) = (Vec::new(), None);
        loop {
            let page = listing.clone().limit(2).after(next).await.unwrap();
            assert!(page.namespaces.len() <= 2);
            told.extend(page.namespaces.iter().map(Namespace::to_string));
            next = page.next;
            if next.is_none() {
                return told.join(" ");
            }
        }
    };
    let all = || engine.items().namespaces();
    assert_eq!(
        listed(all()).await,
        "orders/7/memories users users/ada/memories users/ada/settings users/bob/memories"
    );
    assert_eq!(listed(all().max_depth(1)).await, "orders users");
    assert_eq!(
        listed(all().max_depth(2)).await,
        "orders/7 users users/ada users/bob"
    );
    assert_eq!(
        listed(all().max_depth(9).prefix(["orders"])).await,
        "orders/7/memories"
    );
    assert_eq!(
        listed(all().prefix(["users", "*"]).suffix(["memories"])).await,
        "users/ada/memories users/bob/memories"
    );
    assert_eq!(
        listed(all().suffix(["memories"]).max_depth(1)).await,
        "orders users"
    );
    assert_eq!(
        listed(all().prefix(["*", "ada"]).max_depth(1)).await,
        "users"
    );
    assert_eq!(listed(all().prefix(["user"])).await, "");
    let odd = all().prefix([""]).await;
    assert!(matches!(odd, Err(ItemError::Namespace)));
}

#[tokio::test]
async fn two_puts_of_one_key_at_once_leave_one_of_them() {
    let (engine, items) = store().await;
    let a = at(["a"]);
    let puts = (0..8).map(|n| {
        let (items, a) = (items.clone(), a.clone());
        async move { items.put(&a, "k", &n).await.unwrap() }
    });
    futures::future::join_all(puts).await;
    assert_eq!(rows(&engine).await, 1);
    let left = value(&items, &a, "k").await.unwrap().as_i64();
    assert!(left.is_some_and(|left| (0..8).contains(&left)));
}
