//! Kills a worker between the firing of a schedule and its commit.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;
use velo_engine::schedule::{DURATION_MAX, Spec};

use crate::house::House;
use crate::was_killed;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long that no second time comes while the test runs.
const EVERY: Duration = Duration::from_secs(100 * 86_400);

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
}

async fn counts(house: &House) -> (i64, i64) {
    let counts =
        "select (select count(*) from velo.run), (select count(*) from velo.schedule_fire)";
    sqlx::query_as(counts).fetch_one(&house.pool).await.unwrap()
}

#[tokio::test]
async fn a_worker_killed_before_the_commit_of_a_fire_leaves_it_to_another_which_fires_once() {
    const ONLY: NodeKey<Report> = NodeKey::new("only");
    let house = House::new().await;
    let engine = Engine::migrate_and_connect(house.pool.clone())
        .await
        .unwrap();
    let graph = Graph::builder("report", 1)
        .node(ONLY, async |_: Context<Report>| Ok(Next::none()))
        .start(ONLY)
        .compile()
        .unwrap();
    engine
        .schedule(
            &graph,
            "rare",
            Spec::every(EVERY).unwrap(),
            Report::default(),
        )
        .catch_up(DURATION_MAX)
        .create()
        .await
        .unwrap();
    let back = "update velo.schedule
                set next_at = next_at - interval '100 days', due_at = due_at - interval '100 days'";
    sqlx::query(back).execute(&house.pool).await.unwrap();

    let mut killed = house.command(&["worker"]);
    killed.env("VELO_FAILPOINT", "schedule.before_commit:1");
    let status = tokio::time::timeout(PATIENCE, killed.status()).await;
    assert!(was_killed(status.unwrap().unwrap()));
    assert_eq!(counts(&house).await, (0, 0));

    let workers = [1, 2].map(|_| house.command(&["worker"]).spawn().unwrap());
    let fired = async {
        while counts(&house).await == (0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, fired).await.unwrap();
    assert_eq!(counts(&house).await, (1, 1));
    assert!(engine.get_schedule("rare").await.unwrap().next_at.unwrap() > chrono::Utc::now());
    for mut worker in workers {
        worker.kill().await.unwrap();
    }
}
