//! `velo retention`: what is said, what would go, and a project whose run is gone.

use serde_json::{Value, json};
use velo_agents::domain::project::{self, ProjectStatus};
use velo_agents::domain::{LOCAL_TENANT, ProjectId};
use velo_engine::Engine;

use crate::house::{BRIEF, House};

impl House {
    async fn retention(&self, args: &[&str]) -> Value {
        let ended = self
            .run(["retention", "--json"].iter().chain(args).copied())
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

#[tokio::test]
async fn how_long_runs_are_kept_is_said_listed_and_taken_back() {
    let house = House::new().await;
    let day: i64 = 24 * 3600 * 1000;
    let rules = house.retention(&["list"]).await;
    assert_eq!(
        rules[0],
        json!({ "graph": "*", "outcome": "completed", "keep_ms": 30 * day, "is_default": true })
    );
    assert_eq!(rules[3]["keep_ms"], Value::Null);
    house.retention(&["set", "import", "failed", "36h"]).await;
    house.retention(&["set", "*", "completed", "never"]).await;
    let rules = house.retention(&["list"]).await;
    assert_eq!(rules[0]["keep_ms"], Value::Null);
    assert_eq!(
        rules[4],
        json!({ "graph": "import", "outcome": "failed", "keep_ms": day * 3 / 2, "is_default": false })
    );
    let told = house.run(["retention", "list"]).await;
    assert!(told.stdout.contains("36h"), "{told:?}");
    house.retention(&["clear", "*", "completed"]).await;
    let rules = house.retention(&["list"]).await;
    assert_eq!(rules[0]["keep_ms"], 30 * day);
    let wrong = ["retention", "set", "*", "done", "3d"];
    house
        .run(wrong)
        .await
        .refused(2, &["say completed, cancelled, failed or thread"]);
}

#[tokio::test]
async fn a_delivered_project_stays_when_its_run_is_deleted() {
    let house = House::new().await;
    let report = house.run(["run", BRIEF, "--json"]).await.json();
    let of_project = "select (select count(*) from velo.artifact_versions) + (select count(*) from velo.tasks)
                           + (select count(*) from velo.usage_logs) + (select count(*) from velo.agent_activities)";
    let before = house.count(of_project).await;
    let show = house.retention(&["show"]).await;
    assert_eq!(show["runs"], json!([]));
    house.retention(&["set", "*", "completed", "0s"]).await;
    // Each project is a thread of its own.
    assert_eq!(house.retention(&["show"]).await["runs"], json!([]));
    house.retention(&["set", "*", "thread", "0s"]).await;
    let show = house.retention(&["show"]).await;
    assert_eq!(show["runs"][0]["runs"], 1, "{show}");
    assert_eq!(show["runs"][0]["oldest"], report["run_id"]);
    let engine = Engine::connect(house.pool.clone());
    let swept = engine.advance_retention().await.unwrap().unwrap();
    assert!(swept.deleted >= 1 && house.count("select count(*) from velo.step").await == 0);

    assert_eq!(house.count(of_project).await, before);
    let id: ProjectId = report["project_id"].as_str().unwrap().parse().unwrap();
    let project = project::get(&house.pool, LOCAL_TENANT, id);
    let project = project.await.unwrap().unwrap();
    assert_eq!(project.status, ProjectStatus::InProgress);
    let events = "select count(*) from velo.event where stream like 'project/%'";
    assert!(house.count(events).await > 0);
    house
        .run(["run", "--resume", &id.to_string()])
        .await
        .refused(2, &["is no longer kept; the documents of project"]);
    // The same words begin anew.
    let again = house.run(["run", BRIEF, "--json"]).await.json();
    assert_ne!(again["project_id"], report["project_id"]);
}
