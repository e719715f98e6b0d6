//! Looking back at runs, and what becomes of them.

use serde_json::Value;

use crate::house::{BRIEF, Ended, House};

fn read(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn id(ended: &Ended) -> String {
    let told = read(ended);
    let id = told["run_id"].as_str().unwrap();
    id.to_owned()
}

#[tokio::test]
async fn a_run_is_compared_exported_imported_and_deleted() {
    let house = House::new().await;
    let run = id(&house.run(["run", BRIEF, "--json"]).await);
    let shown = read(&house.run(["runs", "show", &run, "--json"]).await);
    let last = shown["run"]["steps"].to_string();
    let diff = read(
        &house
            .run(["runs", "diff", &run, "0", &last, "--json"])
            .await,
    );
    assert_ne!(diff.as_array().unwrap().len(), 0);
    house
        .run(["runs", "diff", &run, "0", "99"])
        .await
        .refused(2, &["has no step 99"]);

    let file = house.path().join("run.json").display().to_string();
    house.run(["runs", "export", &run, "--file", &file]).await;
    let copy = id(&house.run(["runs", "import", &file, "--json"]).await);
    assert_ne!(copy, run);
    read(&house.run(["runs", "delete", &copy, "--json"]).await);
    house
        .run(["runs", "delete", &copy])
        .await
        .refused(2, &["there is no run"]);
    house
        .run(["runs", "import", "Cargo.toml"])
        .await
        .refused(2, &["Cargo.toml"]);
}

#[tokio::test]
async fn a_fork_is_a_run_that_has_not_ended_and_cannot_be_deleted() {
    let house = House::new().await;
    let run = id(&house.run(["run", BRIEF, "--json"]).await);
    let fork = id(&house.run(["runs", "fork", &run, "0", "--json"]).await);
    house
        .run(["runs", "delete", &fork])
        .await
        .refused(2, &["has not ended"]);
    let shown = read(&house.run(["runs", "show", &fork, "--json"]).await);
    assert_eq!(shown["run"]["status"], "active");
}

#[tokio::test]
async fn a_run_is_copied_read_edited_and_what_has_ended_is_pruned() {
    let house = House::new().await;
    let run = id(&house.run(["run", BRIEF, "--json"]).await);
    let copy = id(&house
        .run(["runs", "copy", &run, "--thread", "other", "--json"])
        .await);
    assert_ne!(copy, run);
    let state = read(&house.run(["runs", "state", &run]).await);
    assert_eq!(read(&house.run(["runs", "state", &copy]).await), state);
    let copied = read(
        &house
            .run(["runs", "copy-thread", "other", "third", "--json"])
            .await,
    );
    assert_eq!(copied["run_ids"].as_array().unwrap().len(), 1);
    house
        .run(["runs", "copy-thread", "other", "third"])
        .await
        .refused(2, &["third", "has runs"]);
    house
        .run(["runs", "update", &run, "{}"])
        .await
        .refused(2, &["has ended"]);

    let fork = id(&house.run(["runs", "fork", &run, "0", "--json"]).await);
    for (typed, told) in [("[]", "no JSON object"), (r#"{"nobody": 1}"#, "nobody")] {
        house
            .run(["runs", "update", &fork, typed])
            .await
            .refused(2, &[told]);
    }
    house
        .run(["runs", "update", &fork, "{}", "--as-node", "nobody"])
        .await
        .refused(2, &["no node `nobody`"]);
    let edited = read(
        &house
            .run(["runs", "update", &fork, "{}", "--after", "0", "--json"])
            .await,
    );
    assert_eq!(edited["step"], 1);

    let kept = read(
        &house
            .run(["runs", "prune", "--older-than", "1h", "--json"])
            .await,
    );
    assert_eq!(kept["deleted"], 0);
    let pruned = read(
        &house
            .run([
                "runs",
                "prune",
                "--older-than",
                "0s",
                "--keep",
                "0",
                "--json",
            ])
            .await,
    );
    // Not the one that the fork comes from, since that is still live.
    assert_eq!(pruned["deleted"], 2);
    read(&house.run(["runs", "show", &fork, "--json"]).await);
}

#[tokio::test]
async fn a_graph_and_a_run_are_drawn() {
    let house = House::new().await;
    let run = id(&house.run(["run", BRIEF, "--json"]).await);
    let listed = house.run(["graph"]).await;
    let code = listed.stdout.lines().next().unwrap().to_owned();
    let drawn = house.run(["graph", &code]).await;
    assert!(drawn.stdout.starts_with("flowchart TD"), "{drawn:?}");
    let layout = read(&house.run(["graph", &code, "--as", "json"]).await);
    assert!(layout["nodes"].as_array().unwrap().len() > 2);
    let file = house.path().join("run.svg");
    let path = file.display().to_string();
    let drawn = house
        .run(["runs", "draw", &run, "--as", "svg", "--file", &path])
        .await;
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("done"), "{svg}");
    house
        .run(["graph", "nobody@1"])
        .await
        .refused(2, &["nobody@1"]);
}
