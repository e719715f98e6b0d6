//! Databases that cannot be used: one message, soon, without the password.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::house::{BRIEF, Ended, House, ended, velo};

async fn run_on(url: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let mut velo = velo(folder.path(), ["run", BRIEF]);
    velo.env("DATABASE_URL", url);
    let ended = ended(velo).await;
    assert!(!ended.stderr.contains("sesame"), "{ended:?}");
    ended
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for (url, words) in [
        ("sesame", "does not begin with postgres://"),
        ("http://u:sesame@h/d", "does not begin with postgres://"),
        (
            "postgres://u:sesame@127.0.0.1:port/d",
            "invalid port number",
        ),
    ] {
        let form = "postgres://user:password@host:5432/database";
        run_on(url)
            .await
            .refused(4, &["could not read DATABASE_URL", words, form]);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = run_on(&format!("postgres://u:sesame@{free}/shop")).await;
    let place = format!("could not connect to database shop on {free}");
    ended.refused(4, &[&place, "refused", "unset DATABASE_URL"]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_waited_for_long() {
    // Takes connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let address = silent.local_addr().unwrap();
    let ended = run_on(&format!("postgres://u:sesame@{address}/shop")).await;
    ended.refused(
        4,
        &[
            "could not connect to database shop",
            "no answer within 10 s",
        ],
    );
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_login_or_a_database_that_does_not_exist_is_named() {
    let house = House::new().await;
    let options: PgConnectOptions = house.url.parse().unwrap();
    let ended = run_on(
        options
            .clone()
            .database("sesam_shop")
            .to_url_lossy()
            .as_str(),
    )
    .await;
    ended.refused(4, &["database \"sesam_shop\" does not exist"]);
    let wrong = options.username("velo_stranger").password("sesame");
    if PgConnection::connect_with(&wrong).await.is_ok() {
        eprintln!("skipped: this server lets everybody in");
        return;
    }
    run_on(wrong.to_url_lossy().as_str())
        .await
        .refused(4, &["could not connect", "velo_stranger"]);
}

#[tokio::test]
async fn a_database_that_is_read_only_is_refused_and_nothing_is_asked() {
    let house = House::new().await;
    let name = house
        .pool
        .connect_options()
        .get_database()
        .unwrap()
        .to_owned();
    let sql = format!("alter database {name} set default_transaction_read_only = on");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&house.pool)
        .await
        .unwrap();
    let words = [
        "could not create or upgrade the tables",
        "read-only transaction",
    ];
    house.run(["run", BRIEF]).await.refused(4, &words);
    house.run(["migrate"]).await.refused(4, &words);
    assert!(house.fake.requests().is_empty());
}

#[tokio::test]
async fn the_tables_are_made_once_and_found_again() {
    let house = House::new().await;
    for _ in 0..2 {
        let migrated = house.run(["migrate"]).await;
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        assert_eq!(
            migrated.stdout,
            "the tables in schema velo are up to date\n"
        );
    }
}
