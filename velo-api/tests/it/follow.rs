//! That no event is lost or told twice, whatever happens meanwhile.

use std::time::{Duration, Instant};

use futures::SinkExt as _;
use sqlx::PgPool;
use tokio_tungstenite::tungstenite::Message;
use velo_api::POLL_EVERY;

use crate::support::{Server, append, append_up_to, soon};

#[tokio::test]
async fn what_was_is_told_first_and_then_what_comes() {
    let server = Server::start().await;
    let project = server.project().await;
    // More than two pages.
    server.append_up_to(&project, 250).await;
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    socket.expect(&project, 1, 250).await;
    server.append_up_to(&project, 300).await;
    socket.expect(&project, 251, 300).await;
    let mut later = server.connect().await;
    later.subscribe(&project, Some(298)).await;
    later.expect(&project, 299, 300).await;
}

#[tokio::test]
async fn events_during_reconnections_are_neither_lost_nor_told_twice() {
    const LAST: i64 = 400;
    let server = Server::start().await;
    let project = server.project().await;
    let (pool, written) = (server.pool().clone(), project.clone());
    let writing = tokio::spawn(async move { append_up_to(&pool, &written, LAST).await });
    let mut seen = 0;
    let mut connections = 0;
    while seen < LAST {
        let mut socket = server.connect().await;
        socket.subscribe(&project, Some(seen)).await;
        let some = (seen + 37).min(LAST);
        socket.expect(&project, seen + 1, some).await;
        seen = some;
        connections += 1;
        // Dropped without goodbye, while more events come.
    }
    assert!(connections > 10);
    writing.await.unwrap();
}

#[tokio::test]
async fn events_arrive_although_the_listening_connection_is_killed_again_and_again() {
    let server = Server::start().await;
    let project = server.project().await;
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    let mut killed = Vec::new();
    for round in 1..=4 {
        let listener = soon(listener(server.pool(), &killed)).await;
        server.append_up_to(&project, round * 25 - 12).await;
        let done: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
            .bind(listener)
            .fetch_one(server.pool())
            .await
            .unwrap();
        assert!(done);
        killed.push(listener);
        server.append_up_to(&project, round * 25).await;
    }
    socket.expect(&project, 1, 100).await;
    soon(listener(server.pool(), &killed)).await;
    server.append_up_to(&project, 101).await;
    socket.expect(&project, 101, 101).await;
}

/// The backend that listens, once there is one that was not killed.
async fn listener(pool: &PgPool, killed: &[i32]) -> i32 {
    loop {
        let found: Option<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity
             where datname = current_database() and application_name = 'velo-api listener'
               and query ilike 'listen %' and state = 'idle'
               and pid <> all($1)",
        )
        .bind(killed)
        .fetch_optional(pool)
        .await
        .unwrap();
        if let Some(pid) = found {
            return pid;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn events_that_no_notification_told_of_arrive_all_the_same() {
    let server = Server::start().await;
    let project = server.project().await;
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    socket.expect(&project, 1, 1).await;
    // Whoever begins to listen looks at everything once.
    soon(listener(server.pool(), &[])).await;
    sqlx::raw_sql(
        "update velo.stream set last_seq = 2;
         insert into velo.event (stream, seq, kind, body)
         select stream, 2, kind, body from velo.event",
    )
    .execute(server.pool())
    .await
    .unwrap();
    socket.expect(&project, 2, 2).await;
}

#[tokio::test]
async fn notifications_bring_events_faster_than_looking_now_and_then_could() {
    const ROUNDS: u32 = 20;
    let server = Server::start().await;
    let project = server.project().await;
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    socket.expect(&project, 1, 1).await;
    soon(listener(server.pool(), &[])).await;
    let begun = Instant::now();
    for seq in (2..).take(ROUNDS as usize) {
        server.append_up_to(&project, seq).await;
        socket.expect(&project, seq, seq).await;
    }
    // Each event is written after the one before was told, so by polling alone each would take a
    // whole period.
    assert!(begun.elapsed() < POLL_EVERY * ROUNDS / 2);
}

#[tokio::test]
async fn two_sockets_on_two_projects_see_only_their_own() {
    let server = Server::start().await;
    let (tea, coffee) = (server.project().await, server.project().await);
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    one.subscribe(&tea, None).await;
    other.subscribe(&coffee, None).await;
    let (teas, coffees) = (
        server.append_up_to(&tea, 50),
        server.append_up_to(&coffee, 50),
    );
    tokio::join!(
        teas,
        coffees,
        one.expect(&tea, 1, 50),
        other.expect(&coffee, 1, 50)
    );
    // Whatever should not have come would come before the answer to this.
    for socket in [&mut one, &mut other] {
        socket.say(&serde_json::json!({ "type": "ping" })).await;
        assert_eq!(socket.next().await["type"], "pong");
    }
}

#[tokio::test]
async fn an_event_is_told_only_once_its_transaction_commits() {
    let server = Server::start().await;
    let project = server.project().await;
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    socket.expect(&project, 1, 1).await;
    let mut tx = server.pool().begin().await.unwrap();
    assert_eq!(append(&mut tx, &project).await, 2);
    tx.rollback().await.unwrap();
    let mut tx = server.pool().begin().await.unwrap();
    assert_eq!(append(&mut tx, &project).await, 2);
    assert_eq!(append(&mut tx, &project).await, 3);
    tx.commit().await.unwrap();
    socket.expect(&project, 2, 3).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped_and_can_go_on_where_it_was() {
    // More than the system holds for a client, yet quickly written.
    const LAST: i64 = 300;
    let server = Server::start().await;
    let project = server.project().await;
    sqlx::query(
        "insert into velo.event (stream, seq, kind, body)
         select stream, place, 'agent_activity',
                jsonb_build_object('project_id', $1, 'action', repeat('x', 100000))
         from velo.event, generate_series(2, $2) place",
    )
    .bind(project.id)
    .bind(LAST)
    .execute(server.pool())
    .await
    .unwrap();
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    // The connection is cut when its other end no longer takes what is said.
    let ping = Message::text(r#"{"type":"ping"}"#);
    soon(async {
        while socket.0.send(ping.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut again = server.connect().await;
    again.subscribe(&project, Some(1)).await;
    again.expect(&project, 2, LAST).await;
}
