//! How all runs stand, on one page.

use serde_json::Value;

use crate::house::{BRIEF, House};

#[tokio::test]
async fn top_counts_what_has_not_ended_and_prints_one_page_where_there_is_no_terminal() {
    let house = House::new().await;
    let run = house.run(["run", BRIEF, "--json"]).await.json();
    let run = run["run_id"].as_str().unwrap();
    let idle = house.run(["top"]).await;
    assert_eq!(idle.code, Some(0), "{idle:?}");
    assert!(
        idle.stdout.contains("no run has anything left to do"),
        "{idle:?}"
    );
    assert!(!idle.stdout.contains('\u{1b}'), "{idle:?}");

    house.run(["runs", "fork", run, "0"]).await;
    let seen = house.run(["top", "--json"]).await;
    let seen: Value = serde_json::from_str(&seen.stdout).unwrap();
    let load = &seen["graphs"][0];
    assert_eq!(
        (load["ready"].as_i64(), load["running"].as_i64()),
        (Some(1), Some(0)),
        "{seen}"
    );
    assert!(load["oldest_ready_seconds"].as_f64() > Some(0.0), "{seen}");
    assert!(seen["per_second"]["steps"].is_number(), "{seen}");
    let page = house.run(["top", "--once"]).await.stdout;
    assert!(
        page.contains("runs 1 ") && page.contains("steps/s"),
        "{page}"
    );
}
