//! Following a run from another process.

use serde_json::Value;

use crate::house::{BRIEF, House};

fn items(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_run_is_streamed_from_any_place_with_what_its_models_said() {
    let house = House::new().await;
    let run = house.run(["run", BRIEF, "--json"]).await.json();
    let run = run["run_id"].as_str().unwrap();
    let all = [
        "runs", "stream", run, "--mode", "values", "--mode", "messages", "--json",
    ];
    let all = items(&house.run(all).await.stdout);
    let kinds: Vec<&str> = all
        .iter()
        .map(|item| item["kind"].as_str().unwrap())
        .collect();
    assert!(
        kinds.contains(&"message") && kinds.contains(&"values"),
        "{kinds:?}"
    );
    assert!(all.last().unwrap()["state"].is_object());

    let place = all.len() / 2;
    let from = all[place]["position"].to_string();
    let rest = [
        "runs", "stream", run, "--mode", "values", "--mode", "messages", "--json", "--from", &from,
    ];
    assert_eq!(items(&house.run(rest).await.stdout), all[place + 1..]);

    let shown = house.run(["runs", "stream", run, "--mode", "debug"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("then the end"), "{shown:?}");
    let refused = house
        .run(["runs", "stream", run, "--from", "tomorrow"])
        .await;
    refused.refused(2, &["is no place in a stream"]);
    house
        .run(["runs", "stream", "7"])
        .await
        .refused(2, &["there is no run 7"]);
}
