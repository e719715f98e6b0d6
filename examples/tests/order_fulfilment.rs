//! The example, run as anybody would run it, and judged by what it leaves in the database.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Stdio;
use std::time::Duration;

use examples::order_fulfilment::{Order, Shop};
use sqlx::{ConnectOptions, PgPool};
use tokio::process::Command;
use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

/// Longer than the program takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(120);
const ORDERS: usize = 12;
/// More than any run has of them.
const PAGE: i64 = 100;

/// Runs the program on the database of `pool` and returns what it printed.
async fn run_program(pool: &PgPool, arguments: &[&str]) -> String {
    let program = Command::new(env!("CARGO_BIN_EXE_order_fulfilment"))
        .args(arguments)
        .env(
            "DATABASE_URL",
            pool.connect_options().to_url_lossy().as_str(),
        )
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, program)
        .await
        .expect("the program took longer than it ever should")
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{said}\n{complained}",
        output.status
    );
    said
}

/// Every order has ended once, was charged once and has a parcel, or its money back; and the stock
/// holds what is left after just that.
async fn assert_each_order_ended_once(pool: &PgPool, orders: usize) {
    let shop = Shop::open(pool.clone()).await.unwrap();
    let runs: Vec<RunId> = sqlx::query_scalar("select run_id from shop.orders order by id")
        .fetch_all(pool)
        .await
        .unwrap();
    assert_eq!(runs.len(), orders);
    let endings = shop.endings(&runs).await.unwrap();
    assert_eq!(endings.len(), orders);
    for ending in &endings {
        let is_shipped = ending.country != "Atlantis";
        let (status, event) = match is_shipped {
            true => ("shipped", "order_shipped"),
            false => ("refunded", "order_refunded"),
        };
        assert_eq!(ending.status, status, "{ending:?}");
        assert_eq!(ending.charges, 1, "{ending:?}");
        assert_eq!(ending.is_refunded, !is_shipped, "{ending:?}");
        assert_eq!(ending.parcels, i64::from(is_shipped), "{ending:?}");

        let run = shop.engine().run(ending.run_id).await.unwrap();
        assert_eq!(run.status, RunStatus::Completed, "{run:?}");
        assert_eq!(run.thread, Some(format!("order/{}", ending.id)));
        let order: Order = shop.engine().state(run.id).await.unwrap();
        assert_eq!(order.boxes.len(), order.items.len(), "{order:?}");
        let events = shop.engine().events(run.id, 0, PAGE).await.unwrap();
        let told: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(told, [event], "{ending:?}");
    }
    assert_eq!(
        stock_that_is_wrong(&shop, &runs).await,
        Vec::<String>::new()
    );
    let left: i64 = sqlx::query_scalar("select count(*) from velo.queue")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(left, 0, "runs are left in the queue");
}

/// The things of which the stock holds other than was delivered less what was shipped. Of each order
/// with a compass its mending delivered all items once more.
async fn stock_that_is_wrong(shop: &Shop, runs: &[RunId]) -> Vec<String> {
    let mut expected = std::collections::BTreeMap::from([
        ("compass".to_owned(), 0),
        ("lamp".to_owned(), 0),
        ("rope".to_owned(), 0),
    ]);
    for go in 0..runs.len() / ORDERS {
        for sku in ["lamp", "rope"] {
            *expected.get_mut(sku).unwrap() += 100;
        }
        for run in &runs[go * ORDERS..(go + 1) * ORDERS] {
            let order: Order = shop.engine().state(*run).await.unwrap();
            let was_mended = order.items.iter().any(|item| item.sku == "compass");
            for item in &order.items {
                let available = expected.get_mut(&item.sku).unwrap();
                if was_mended {
                    *available += item.quantity;
                }
                if order.refusal.is_none() {
                    *available -= item.quantity;
                }
            }
        }
    }
    let found: Vec<(String, i32)> =
        sqlx::query_as("select sku, available from shop.stock order by sku")
            .fetch_all(shop.engine().pool())
            .await
            .unwrap();
    assert_eq!(found.len(), expected.len());
    let wrong = found
        .into_iter()
        .filter(|(sku, available)| expected[sku] != *available);
    wrong
        .map(|(sku, available)| format!("{available} {sku}, not {}", expected[&sku]))
        .collect()
}

#[tokio::test]
async fn every_order_ends_once_though_the_provider_fails_and_goods_are_missing() {
    let pool = test_kit::database().await;
    let said = run_program(&pool, &[]).await;
    assert!(
        said.contains("order/2 is paused: fewer than 1 compass in stock"),
        "{said}"
    );
    assert_each_order_ended_once(&pool, ORDERS).await;
    let asked_again: i64 = sqlx::query_scalar("select count(*) from shop.charge where asked > 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(
        asked_again > 0,
        "no answer of the provider got lost, so nothing was tried"
    );
}

#[tokio::test]
async fn a_killed_process_charges_nobody_twice_and_the_next_one_goes_on() {
    let pool = test_kit::database().await;
    let said = run_program(&pool, &["--crash"]).await;
    assert!(said.contains("is killed"), "{said}");
    assert_each_order_ended_once(&pool, ORDERS).await;

    // The order whose charge had no answer when the process was killed.
    let (_, order) = said.split_once(": order ").unwrap();
    let (order, _) = order.split_once(" is charged").unwrap();
    let (asked, workers): (i32, i64) = sqlx::query_as(ASKED_AND_WORKERS)
        .bind(order.parse::<i64>().unwrap())
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(asked > 1, "order {order} was not asked for again");
    assert!(workers > 1, "only {workers} workers ever registered");
}

const ASKED_AND_WORKERS: &str = "\
select c.asked, (select last_value from velo.worker_id)
from shop.charge c
where c.order_id = $1";

#[tokio::test]
async fn a_second_go_on_the_same_database_takes_and_ends_further_orders() {
    let pool = test_kit::database().await;
    run_program(&pool, &["--crash"]).await;
    run_program(&pool, &[]).await;
    assert_each_order_ended_once(&pool, 2 * ORDERS).await;
}
