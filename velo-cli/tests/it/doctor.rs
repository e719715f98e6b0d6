//! Looking whether a database is safe to run on, before anything is changed in it.

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::house::{BRIEF, Ended, House};

/// What `velo doctor --json` says of one check.
fn finding(ended: &Ended, check: &str) -> Value {
    let findings: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let of_check = findings.into_iter().find(|it| it["check"] == check);
    of_check.unwrap_or_else(|| panic!("nothing about {check} in {ended:?}"))
}

async fn examined(house: &House) -> Ended {
    house.run(["doctor", "--json"]).await
}

#[tokio::test]
async fn tables_that_are_not_there_are_named_and_not_made() {
    let house = House::new().await;
    let before = examined(&house).await;
    assert_eq!(before.code, Some(3), "{before:?}");
    let missing = finding(&before, "migrations");
    assert_eq!(missing["grade"], "unsafe", "{missing}");
    assert!(
        missing["found"].as_str().unwrap().contains("2 run"),
        "{missing}"
    );
    let schemas = "select count(*) from pg_namespace where nspname = 'velo'";
    assert_eq!(house.count(schemas).await, 0);

    assert_eq!(house.run(["migrate"]).await.code, Some(0));
    let after = examined(&house).await;
    for check in [
        "version",
        "writes",
        "clock",
        "migrations",
        "privileges",
        "code",
    ] {
        assert_eq!(finding(&after, check)["grade"], "fine", "{after:?}");
    }
}

#[tokio::test]
async fn migrations_can_be_checked_and_printed_without_being_applied() {
    let house = House::new().await;
    let check = house.run(["migrate", "--check"]).await;
    assert_eq!(check.code, Some(3), "{check:?}");
    assert!(check.stdout.contains("not applied: 2 run"), "{check:?}");
    let printed = house.run(["migrate", "--print"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(
        printed.stdout.contains("create table velo.step"),
        "{printed:?}"
    );
    // What was printed can be run by somebody with the privileges.
    sqlx::raw_sql(AssertSqlSafe(printed.stdout))
        .execute(&house.pool)
        .await
        .unwrap();
    sqlx::raw_sql("drop schema velo cascade")
        .execute(&house.pool)
        .await
        .unwrap();

    assert_eq!(house.run(["migrate"]).await.code, Some(0));
    assert_eq!(house.run(["migrate", "--check"]).await.code, Some(0));
    assert_eq!(house.run(["migrate", "--print"]).await.stdout, "");
}

#[tokio::test]
async fn a_setting_that_loses_work_and_runs_that_nobody_can_run_make_it_unsafe() {
    let house = House::new().await;
    assert_eq!(house.run(["run", BRIEF]).await.code, Some(0));
    let alter = format!(
        "alter database {} set synchronous_commit = off",
        house.pool.connect_options().get_database().unwrap()
    );
    sqlx::query(AssertSqlSafe(alter))
        .execute(&house.pool)
        .await
        .unwrap();
    sqlx::query(
        "insert into velo.queue (run_id, code, ready_at) values (7, 'gone@1', clock_timestamp())",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let ended = examined(&house).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let durability = finding(&ended, "durability");
    assert_eq!(durability["grade"], "unsafe", "{durability}");
    let lax = durability["found"].as_str().unwrap();
    assert!(lax.contains("synchronous_commit = off"), "{durability}");
    let code = finding(&ended, "code");
    assert_eq!(code["found"], "no worker has code for gone@1", "{code}");
    let told = house.run(["doctor"]).await;
    assert!(told.stdout.ends_with("not safe to run on\n"), "{told:?}");
}
