//! A graph with everything in it that writes to the database, and a fault at each of these places.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::prelude::*;
use velo_engine::{Question, UpdateKey, failpoint};
use velo_worker::test_kit::{Fault, crash_everywhere};

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Shop {
    #[state(append)]
    packed: Vec<u32>,
    greeting: String,
    #[state(append)]
    wishes: Vec<String>,
    is_approved: bool,
}

const OPEN: NodeKey<Shop> = NodeKey::new("open");
const PACK: NodeKey<Shop, u32> = NodeKey::new("pack");
const CHARGE: NodeKey<Shop> = NodeKey::new("charge");
const APPROVE: NodeKey<Shop> = NodeKey::new("approve");
const WISH: UpdateKey<Shop, String, usize> = UpdateKey::new("wish");

/// So large that it is stored apart from the result, the update and the state that it is in.
fn greeting() -> String {
    "hello".repeat(14_000)
}

async fn open(cx: Context<Shop>) -> NodeResult<Shop> {
    let greeting: String = cx
        .step("greet", async |_| Ok::<_, NodeError>(greeting()))
        .await?;
    let both = Next::send_all(PACK, [1, 2]);
    Ok(both.and_update(Shop::update().greeting(greeting)))
}

async fn pack(cx: Context<Shop, u32>) -> NodeResult<Shop> {
    let item = *cx.input();
    // Fails once, by what is in the database, so that it does after each crash as it would have before.
    if item == 2 && cx.attempt() == 1 {
        return Err(NodeError::transient("the box is not there yet"));
    }
    cx.emit("packed", &item)?;
    Ok(Shop::update().packed(vec![item]).into())
}

async fn charge(cx: Context<Shop>) -> NodeResult<Shop> {
    let mut tx = cx.tx().await?;
    sqlx::query("insert into charge (run_id) values ($1)")
        .bind(cx.run())
        .execute(&mut *tx)
        .await?;
    drop(tx);
    Ok(Next::none())
}

async fn approve(cx: Context<Shop>) -> NodeResult<Shop> {
    cx.sleep("rest", Duration::from_millis(1)).await?;
    let word: String = cx.signal("word").await?;
    let is_approved: bool = cx.ask("approve", &word).await?;
    Ok(Shop::update().is_approved(is_approved).into())
}

fn graph() -> Graph<Shop> {
    let soon = RetryPolicy {
        first_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Graph::builder("shop", 1)
        .node(OPEN, open)
        .node(PACK, pack)
        .node(CHARGE, charge)
        .node(APPROVE, approve)
        .default_retry(soon)
        .start(OPEN)
        .may_go(OPEN, PACK)
        .edge(PACK, CHARGE)
        .edge(CHARGE, APPROVE)
        .on_update(WISH, |shop, wish| {
            let wishes = shop.wishes.len() + 1;
            Ok((Shop::update().wishes(vec![wish]), wishes).into())
        })
        .compile()
        .unwrap()
}

/// The question, once it is asked.
async fn asked(engine: &Engine, run: RunId) -> Question {
    loop {
        if let Some(question) = engine.questions(Some(run), 1).await.unwrap().pop() {
            return question;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// E3, E4, E5, beyond/crash_between: at every place where a run writes.
#[tokio::test]
async fn whatever_happens_to_its_process_an_order_is_charged_once_and_ends_the_same() {
    let report = crash_everywhere(
        &graph(),
        Shop::default(),
        async |engine| {
            sqlx::query("create table charge (run_id bigint not null)")
                .execute(engine.pool())
                .await
                .unwrap();
        },
        async |engine, run| {
            let word = engine.signal(run, "word", &"please", Some("once")).await;
            word.unwrap();
            let question = asked(engine, run).await;
            // Asked while all of the run waits, and again: by whichever process has it next.
            for _ in 0..2 {
                let wish = engine.update(run, WISH, "ribbon".to_owned()).id("wish");
                assert_eq!(wish.await.unwrap(), 1);
            }
            engine.answer(&question, &true).await.unwrap();
            let run = engine.wait(run).await.unwrap();
            assert_eq!(run.status, RunStatus::Completed, "{run:?}");
            let charges: i64 = sqlx::query_scalar("select count(*) from charge")
                .fetch_one(engine.pool())
                .await
                .unwrap();
            let state: Shop = engine.state(run.id).await.unwrap();
            json!([charges, state])
        },
    )
    .await;
    let places: Vec<&str> = report.places().into_iter().collect();
    let mut all = [failpoint::PLACES, failpoint::REPEATABLE].concat();
    all.sort_unstable();
    assert_eq!(places, all, "every place was struck");
    let freezes = report.cases.iter().any(|case| case.fault == Fault::Freeze);
    assert!(freezes || !cfg!(target_os = "linux"));
    println!(
        "crash_everywhere: {} faults, one outcome",
        report.cases.len()
    );
}
