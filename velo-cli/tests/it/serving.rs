//! `velo dev` and `velo api`: addresses, and watching a project through the socket.

use std::net::TcpListener;

use futures::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::house::{BRIEF, House, end, signal};
use crate::together::address;

#[tokio::test]
async fn an_address_that_others_reach_or_have_is_refused_before_anything_is_opened() {
    let house = House::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for command in ["api", "dev"] {
        let open = house.run([command, "--listen", "0.0.0.0:0"]).await;
        open.refused(2, &["could not serve the API on 0.0.0.0:0", "--expose"]);
    }
    let free = house.run(["api", "--listen", "nowhere"]).await;
    free.refused(2, &["nowhere"]);
    let _held = TcpListener::bind(&taken);
    let again = house.run(["dev", "--listen", &taken]).await;
    again.refused(4, &[&taken, "in use", "--listen"]);
    let metrics = house.run(["worker", "--metrics", &taken]).await;
    metrics.refused(4, &["could not serve metrics on", &taken, "--metrics"]);
    let tables = "select count(*) from information_schema.tables where table_schema = 'velo'";
    assert_eq!(house.count(tables).await, 0);
}

#[tokio::test]
async fn a_project_made_by_a_request_is_followed_through_the_socket_to_its_end() {
    let house = House::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let metrics = free.unwrap().to_string();
    let mut dev = house
        .velo(["dev", "--listen", "127.0.0.1:0", "--metrics", &metrics])
        .spawn()
        .unwrap();
    let address = address(&mut dev).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let answer = http.get(format!("{address}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(get("/healthz").await["status"], "ok");
    assert_eq!(
        get("/api/agents").await["items"].as_array().unwrap().len(),
        51
    );

    let created = http.post(format!("{address}/api/project/create"));
    let created = created.json(&json!({"brief": BRIEF})).send().await.unwrap();
    let created: Value = created.json().await.unwrap();
    let id = created["project_id"]
        .as_str()
        .or_else(|| created["id"].as_str())
        .unwrap()
        .to_owned();

    let socket = address.replacen("http", "ws", 1) + "/ws";
    let (mut socket, _) = tokio_tungstenite::connect_async(socket).await.unwrap();
    let subscribe = json!({"type": "subscribe", "project_id": id, "after": 0}).to_string();
    socket.send(Message::text(subscribe)).await.unwrap();
    let (mut kinds, mut places) = (Vec::new(), Vec::new());
    while !kinds.iter().any(|kind| kind == "project_status ready") {
        let message = socket.next().await.unwrap().unwrap();
        let Message::Text(text) = message else {
            continue;
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        if let Some(place) = message["seq"].as_i64() {
            places.push(place);
        }
        let text = |field: &str| message[field].as_str().unwrap_or_default();
        kinds.push(format!("{} {}", text("type"), text("status")));
    }
    let last = i64::try_from(places.len()).unwrap();
    assert!(
        places.iter().copied().eq(1..=last),
        "without a gap: {places:?}"
    );
    let done = kinds
        .iter()
        .filter(|kind| *kind == "agent_activity completed");
    assert_eq!(done.count(), 2, "{kinds:?}");

    for (path, items) in [
        ("", None),
        ("/tasks", Some(16)),
        ("/artifacts", Some(4)),
        ("/activity", Some(2)),
    ] {
        let found = get(&format!("/api/project/{id}{path}")).await;
        let count = found["items"].as_array().map(Vec::len);
        assert_eq!(count, items, "{path}: {found}");
    }
    let artifacts = get(&format!("/api/project/{id}/artifacts")).await;
    let artifact = artifacts["items"][0]["id"].as_str().unwrap().to_owned();
    let file = http.get(format!("{address}/api/artifact/{artifact}/download"));
    assert_eq!(file.send().await.unwrap().status(), 200);

    let metrics = http.get(format!("http://{metrics}/metrics"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    for counted in [
        "velo_step_commits_total{graph=\"velo.planning@1\",verdict=\"added\"}",
        "velo_node_attempts_total{graph=\"velo.planning@1\",node=\"draft_prd\",outcome=\"finished\"} 1",
        "velo_turns_total{graph=\"velo.planning@1\",end=\"finished\"} 1",
        "velo_claimed_runs_total 1",
        "velo_queue_age_seconds{graph=\"velo.planning@1\"}",
        "velo_commit_batch_steps_bucket{le=\"1\"}",
    ] {
        assert!(metrics.contains(counted), "no {counted} in {metrics}");
    }

    signal(&dev, Signal::TERM);
    let closed = async { while let Some(Ok(_)) = socket.next().await {} };
    let (stopped, ()) = tokio::join!(end(dev), closed);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
}
