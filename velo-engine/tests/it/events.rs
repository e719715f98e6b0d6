use serde_json::json;
use sqlx::postgres::PgListener;
use sqlx::{Executor, PgPool, SqlSafeStr};
use velo_engine::{RunId, events, migrate, test_kit};

async fn database() -> PgPool {
    let pool = test_kit::database().await;
    migrate(&pool).await.unwrap();
    pool
}

#[tokio::test]
async fn every_statement_prepares_on_the_migrated_schema() {
    let pool = database().await;
    for statement in events::STATEMENTS {
        (&pool)
            .prepare((*statement).into_sql_str())
            .await
            .unwrap_or_else(|error| panic!("{statement}\n{error}"));
    }
}

#[tokio::test]
async fn migrating_twice_and_at_once_succeeds() {
    let pool = database().await;
    let all = futures::future::join_all((0..4).map(|_| migrate(&pool))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
}

#[tokio::test]
async fn events_are_read_in_order_from_any_place() {
    let pool = database().await;
    let mut conn = pool.acquire().await.unwrap();
    for n in 1..=3 {
        let run = (n == 3).then(|| RunId::from_i64(7));
        assert_eq!(
            events::append_for(&mut conn, "a", "tick", &json!({ "n": n }), run)
                .await
                .unwrap(),
            n
        );
    }
    assert_eq!(
        events::append(&mut conn, "b", "tick", &json!({}))
            .await
            .unwrap(),
        1
    );
    let read = events::read(&pool, "a", 1, 10).await.unwrap();
    assert_eq!(
        read.iter().map(|event| event.seq).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(
        (read[1].run, &read[1].body),
        (Some(RunId::from_i64(7)), &json!({ "n": 3 }))
    );
    assert_eq!(events::read(&pool, "a", 0, 1).await.unwrap().len(), 1);
    assert!(events::read(&pool, "a", 0, -1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_rolled_back_event_leaves_no_gap() {
    let pool = database().await;
    let mut tx = pool.begin().await.unwrap();
    events::append(&mut tx, "a", "lost", &json!({}))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(
        events::append(&mut conn, "a", "kept", &json!({}))
            .await
            .unwrap(),
        1
    );
    let kinds: Vec<_> = events::read(&pool, "a", 0, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, ["kept"]);
}

#[tokio::test]
async fn writers_at_once_leave_neither_gap_nor_duplicate() {
    let pool = database().await;
    let writers = (0..8).map(|_| {
        let pool = pool.clone();
        async move {
            for _ in 0..10 {
                let mut tx = pool.begin().await.unwrap();
                events::append(&mut tx, "a", "tick", &json!({}))
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
    let seqs: Vec<_> = events::read(&pool, "a", 0, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.seq)
        .collect();
    assert_eq!(seqs, (1..=80).collect::<Vec<_>>());
}

#[tokio::test]
async fn listeners_hear_of_a_stream_once_it_is_committed() {
    let pool = database().await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(events::CHANNEL).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    events::append(&mut conn, "project/1", "tick", &json!({}))
        .await
        .unwrap();
    let heard = tokio::time::timeout(std::time::Duration::from_secs(20), listener.recv()).await;
    assert_eq!(heard.unwrap().unwrap().payload(), "project/1");
}

#[test]
fn a_run_id_is_a_string_in_json() {
    let id = RunId::from_i64(i64::MAX);
    assert_eq!(
        serde_json::to_string(&id).unwrap(),
        "\"9223372036854775807\""
    );
    assert_eq!(
        serde_json::from_str::<RunId>("\"9223372036854775807\"").unwrap(),
        id
    );
    assert!(serde_json::from_str::<RunId>("\"x\"").is_err());
}
