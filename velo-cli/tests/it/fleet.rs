//! `velo limits`, `velo queues`, `velo failures` and `velo bulk`: steering the whole fleet.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use velo_engine::prelude::*;

use crate::house::House;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    topic: String,
}

const ONLY: NodeKey<Report> = NodeKey::new("only");

async fn house() -> (House, Engine, Graph<Report>) {
    let house = House::new().await;
    let engine = Engine::migrate_and_connect(house.pool.clone())
        .await
        .unwrap();
    let graph = Graph::builder("report", 1)
        .node(ONLY, async |_: Context<Report>| Ok(Next::none()))
        .start(ONLY)
        .compile()
        .unwrap();
    (house, engine, graph)
}

async fn told(house: &House, args: &[&str]) -> Value {
    let ended = house.run(args.iter().copied().chain(["--json"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test]
async fn limits_are_set_listed_paused_and_removed_and_why_tells_of_them() {
    let (house, engine, graph) = house().await;
    let set = [
        "limits",
        "set",
        "queue/tenant/*",
        "--max",
        "4",
        "--rate",
        "60/m",
    ];
    let set = told(
        &house,
        &[&set[..], &["--burst", "5", "--weight", "2"]].concat(),
    )
    .await;
    assert_eq!(set, json!({ "gate": "queue/tenant/*", "done": true }));
    told(
        &house,
        &["queues", "pause", "tenant/acme", "--note", "the bill"],
    )
    .await;
    let listed = told(&house, &["limits", "list"]).await;
    assert_eq!(
        (
            &listed[0]["name"],
            &listed[0]["max_running"],
            &listed[0]["rate_ms"]
        ),
        (&json!("queue/tenant/*"), &json!(4), &json!(60_000))
    );
    assert_eq!(listed[1]["is_paused"], true);
    let run = engine.start(&graph, Report::default()).queue("tenant/acme");
    let run = run.await.unwrap().to_string();
    let why = told(&house, &["runs", "why", &run]).await;
    assert_eq!(
        (&why["why"], &why["by"], &why["note"]),
        (&json!("held_back"), &json!("paused"), &json!("the bill"))
    );
    let queues = house.run(["queues", "list"]).await;
    assert!(queues.stdout.contains("paused: the bill"), "{queues:?}");
    told(&house, &["queues", "resume", "tenant/acme"]).await;
    told(&house, &["limits", "remove", "queue/tenant/*"]).await;
    let refused = house
        .run(["limits", "set", "graph/report", "--max", "1"])
        .await;
    refused.refused(
        2,
        &[
            "could not set the limit",
            "a graph can be paused and not limited",
        ],
    );
    house
        .run(["limits", "set", "door/report", "--max", "1"])
        .await
        .refused(2, &["`door/report` names no gate"]);
}

#[tokio::test]
async fn failures_are_listed_in_groups_and_many_runs_are_ended_at_once() {
    let (house, engine, graph) = house().await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(engine.start(&graph, Report::default()).await.unwrap());
    }
    // As a worker leaves them.
    sqlx::query(
        r#"with parked as (update velo.queue set ready_at = null)
           update velo.run
           set status = 'paused',
               error = '{"kind": "permanent", "message": "no", "node": "only"}',
               failed_as = '{"kind": "permanent", "node": "only", "fingerprint": "f"}'"#,
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let groups = told(&house, &["failures", "list"]).await;
    assert_eq!(
        (&groups[0]["runs"], &groups[0]["node"], &groups[0]["kind"]),
        (&json!(3), &json!("only"), &json!("permanent"))
    );
    let shown = told(&house, &["failures", "show", "--fingerprint", "f"]).await;
    assert_eq!(shown.as_array().unwrap().len(), 3);
    let first = runs[0].to_string();
    let again = told(&house, &["failures", "redrive", &first]).await;
    assert_eq!(again, json!([{ "run": first, "done": true }]));
    house
        .run(["failures", "dismiss"])
        .await
        .refused(2, &["say which runs"]);
    house
        .run(["bulk", "cancel"])
        .await
        .refused(2, &["say which runs"]);
    let dismissed = ["failures", "dismiss", "--node", "only", "--wait"];
    let dismissed = told(&house, &dismissed).await;
    assert_eq!(
        (&dismissed["status"], &dismissed["changed"]),
        (&json!("done"), &json!(2))
    );
    let begun = told(&house, &["bulk", "cancel", "--all"]).await["bulk"].to_string();
    let shown = told(&house, &["bulk", "show", &begun]).await;
    assert_eq!(shown[0]["status"], "running");
    told(&house, &["bulk", "stop", &begun]).await;
    let listed = house.run(["bulk", "list"]).await;
    assert!(listed.stdout.contains("stopped, 0 of 0"), "{listed:?}");
}
