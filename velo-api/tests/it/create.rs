use futures::future::join_all;
use serde_json::json;
use velo_agents::agency::{AgencyError, MAX_BRIEF, NewBrief};
use velo_agents::domain::{LOCAL_TENANT, LOCAL_USER, ProjectEvent, ProjectId};
use velo_engine::events;

use crate::support::{Server, read};

#[tokio::test]
async fn a_project_is_created_as_documented_and_found_under_its_location() {
    let server = Server::start().await;
    let body = json!({ "name": "Tea", "description": "  A shop for tea\n" });
    let request = server.http.post(server.url("/api/project/create"));
    let response = request.json(&body).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, made) = read(response).await;
    assert_eq!(status, 201);
    assert_eq!(
        (&made["name"], &made["description"], &made["status"]),
        (&json!("Tea"), &json!("A shop for tea"), &json!("planning"))
    );
    assert_eq!(server.get(&location).await, (200, made.clone()));
    let (_, list) = server.get("/api/project/list").await;
    assert_eq!(list, json!({ "items": [made], "next_cursor": null }));
}

#[tokio::test]
async fn a_new_project_begins_its_stream_with_its_creation() {
    let server = Server::start().await;
    let (_, made) = server
        .create(&json!({ "brief": "A shop for tea" }), None)
        .await;
    assert_eq!(made["name"], "A shop for tea");
    let id: ProjectId = made["id"].as_str().unwrap().parse().unwrap();
    let told = events::read(server.pool(), &ProjectEvent::stream(id), 0, 10)
        .await
        .unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].seq, told[0].kind.as_str()), (1, "project_created"));
    assert_eq!(
        told[0].body,
        json!({ "project_id": id, "project_name": "A shop for tea", "status": "planning" })
    );
}

#[tokio::test]
async fn requests_with_one_key_make_one_project_even_all_at_once() {
    let server = Server::start().await;
    let body = json!({ "description": "A shop for tea" });
    let requests = (0..12).map(|_| server.create(&body, Some("key-1")));
    let answers = join_all(requests).await;
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
        assert_eq!(answer.0, 201);
    }
    let events: i64 = sqlx::query_scalar("select count(*) from velo.event")
        .fetch_one(server.pool())
        .await
        .unwrap();
    assert_eq!(events, 1);
    let (_, other) = server.create(&body, Some("key-2")).await;
    assert_ne!(other["id"], answers[0].1["id"]);
}

#[tokio::test]
async fn a_key_that_comes_again_with_another_brief_is_a_conflict() {
    let server = Server::start().await;
    let (_, first) = server
        .create(&json!({ "description": "Tea" }), Some("k"))
        .await;
    let (status, problem) = server
        .create(&json!({ "description": "Coffee" }), Some("k"))
        .await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains(first["id"].as_str().unwrap())
    );
    let error = server
        .agency
        .create_project(
            LOCAL_TENANT,
            LOCAL_USER,
            &NewBrief::new("Coffee"),
            Some("k"),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, AgencyError::KeyReused { .. }) && !error.is_transient());
}

#[tokio::test]
async fn a_brief_that_cannot_be_worked_on_is_refused_with_what_to_do() {
    let server = Server::start().await;
    for (body, advice) in [
        (json!({ "description": " \n" }), "say what is to be built"),
        (json!({ "description": "a\u{0}b" }), "plain text"),
        (
            json!({ "description": "x".repeat(MAX_BRIEF + 1) }),
            "shorten it",
        ),
        (
            json!({ "description": "x", "name": "n".repeat(201) }),
            "shorten it",
        ),
    ] {
        let (status, problem) = server.create(&body, None).await;
        assert_eq!(status, 422, "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(advice),
            "{problem}"
        );
    }
    let (status, _) = server
        .create(&json!({ "description": "x" }), Some(&"k".repeat(256)))
        .await;
    assert_eq!(status, 422);
    assert_eq!(server.get("/api/project/list").await.1["items"], json!([]));
}

#[tokio::test]
async fn a_body_that_is_not_the_expected_json_is_refused_with_its_place() {
    let server = Server::start().await;
    for (body, reason) in [
        ("{\"description\":", "line 1 column 15"),
        ("{\n  \"name\": 7}", "line 2 column"),
        ("{}", "missing field `description`"),
        (
            "{\"description\":\"x\",\"nmae\":\"y\"}",
            "unknown field `nmae`",
        ),
        ("{\"description\":\"x\",\"brief\":\"y\"}", "duplicate field"),
    ] {
        let request = server
            .http
            .post(server.url("/api/project/create"))
            .header("content-type", "application/json")
            .body(body);
        let (status, problem) = read(request.send().await.unwrap()).await;
        assert_eq!(status, 400, "{body}");
        assert!(
            problem["detail"].as_str().unwrap().contains(reason),
            "{body}: {problem}"
        );
    }
}
