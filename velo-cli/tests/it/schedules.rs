//! `velo schedules`: a schedule of some service, looked at and steered.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use velo_engine::prelude::*;
use velo_engine::schedule::Spec;

use crate::house::House;

const NAME: &str = "reports/nightly";

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
}

#[tokio::test]
async fn a_schedule_is_shown_paused_triggered_filled_in_and_deleted() {
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
    let hourly = Spec::every(Duration::from_secs(3_600)).unwrap();
    engine
        .schedule(&graph, NAME, hourly, Report::default())
        .create()
        .await
        .unwrap();
    let json = async |args: &[&str]| -> Value {
        let ended = house
            .run(["schedules"].iter().chain(args).copied().chain(["--json"]))
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    };

    assert_eq!(json(&["list"]).await[0]["name"], NAME);
    let next = json(&["next", NAME, "--limit", "3"]).await;
    assert_eq!(next.as_array().unwrap().len(), 3);
    let paused = json(&["pause", NAME, "--note", "too much"]).await;
    assert_eq!(paused, json!({ "schedule": NAME, "done": true }));
    assert_eq!(json(&["trigger", NAME]).await[0]["outcome"], "started");
    let window = [
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        "2026-01-01T02:30:00Z",
    ];
    let filled = json(&[["backfill", NAME].as_slice(), &window].concat()).await;
    let outcomes: Vec<_> = filled
        .as_array()
        .unwrap()
        .iter()
        .map(|fire| &fire["outcome"])
        .collect();
    assert_eq!(outcomes, ["buffered", "buffered", "buffered"]);

    let shown = json(&["show", NAME]).await;
    assert_eq!(shown["schedule"]["note"], "too much");
    assert_eq!(shown["fires"].as_array().unwrap().len(), 4);
    json(&["resume", NAME]).await;
    let told = house.run(["schedules", "list"]).await;
    assert!(
        told.stdout.contains(NAME) && told.stdout.contains("every 3600s"),
        "{told:?}"
    );
    json(&["delete", NAME]).await;
    let gone = house.run(["schedules", "show", NAME]).await;
    gone.refused(2, &["there is no schedule `reports/nightly`"]);
}
