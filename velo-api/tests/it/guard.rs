use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use velo_api::MAX_BODY;

use crate::support::{Server, read, soon};

#[tokio::test]
async fn a_body_over_the_limit_is_refused_as_too_large() {
    let server = Server::start().await;
    let request = |length: usize| {
        let body = format!("{{\"description\":\"{}\"}}", "x".repeat(length - 18));
        assert_eq!(body.len(), length);
        let request = server.http.post(server.url("/api/project/create"));
        request
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    let (status, problem) = read(request(MAX_BODY).await.unwrap()).await;
    assert_eq!(
        status, 422,
        "read, and found too long for a brief: {problem}"
    );
    let (status, _) = read(request(MAX_BODY + 1).await.unwrap()).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_body_that_a_form_could_send_is_refused() {
    let server = Server::start().await;
    let request = server.http.post(server.url("/api/project/create"));
    let request = request
        .header("content-type", "text/plain")
        .body("{\"description\":\"x\"}");
    assert_eq!(read(request.send().await.unwrap()).await.0, 415);
}

#[tokio::test]
async fn a_method_that_is_not_possible_is_refused_with_those_that_are() {
    let server = Server::start().await;
    let response = server
        .http
        .delete(server.url("/api/project/create"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(read(response).await.0, 405);
    assert_eq!(server.get("/api/project/create").await.0, 405);
    let response = server
        .http
        .post(server.url("/healthz"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    assert_eq!(read(response).await.0, 405);
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_not_found() {
    let server = Server::start().await;
    for path in [
        "/",
        "/api",
        "/api/project",
        "/api/project/list/x",
        "/nothing",
    ] {
        assert_eq!(server.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_can_neither_send_a_request_nor_open_a_socket() {
    let server = Server::start().await;
    let own = format!("http://{}", server.address);
    for (origin, status) in [
        (own.as_str(), 201),
        ("http://evil.example", 403),
        ("null", 403),
    ] {
        let request = server.http.post(server.url("/api/project/create"));
        let request = request
            .header("origin", origin)
            .json(&serde_json::json!({ "description": "x" }));
        assert_eq!(
            read(request.send().await.unwrap()).await.0,
            status,
            "{origin}"
        );

        let mut handshake = format!("ws://{}/ws", server.address)
            .into_client_request()
            .unwrap();
        handshake
            .headers_mut()
            .insert("origin", origin.parse().unwrap());
        match tokio_tungstenite::connect_async(handshake).await {
            Ok(_) => assert_eq!(status, 201, "{origin}"),
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{origin}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_foreign_host_name_that_points_to_the_server_is_not_answered() {
    let server = Server::start().await;
    let request = server.http.get(server.url("/api/project/list"));
    let request = request.header("host", format!("evil.example:{}", server.address.port()));
    assert_eq!(read(request.send().await.unwrap()).await.0, 421);
}

#[tokio::test]
async fn the_socket_asks_for_an_upgrade() {
    let server = Server::start().await;
    assert_eq!(server.get("/ws").await.0, 426);
}

#[tokio::test]
async fn health_is_the_databases_health_and_failures_do_not_tell_their_cause() {
    let server = Server::start().await;
    let (status, health) = server.get("/healthz").await;
    assert_eq!((status, &health["status"]), (200, &"ok".into()));
    sqlx::query("drop table velo.agent_activities, velo.tasks, velo.artifacts cascade")
        .execute(server.pool())
        .await
        .unwrap();
    let project = server.project().await;
    let (status, problem) = server
        .get(&format!("/api/project/{}/tasks", project.id))
        .await;
    assert_eq!(status, 500);
    assert!(!problem.to_string().contains("velo."), "{problem}");
    server.pool().close().await;
    let (status, problem) = server.get("/healthz").await;
    assert_eq!(status, 503);
    assert!(
        problem["detail"].as_str().unwrap().contains("database"),
        "{problem}"
    );
    assert_eq!(server.get("/api/project/list").await.0, 503);
}

#[tokio::test]
async fn a_database_that_never_answers_is_reported_in_time_and_keeps_no_server_from_stopping() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(silent.local_addr().unwrap().port());
    let server = Server::over(sqlx::PgPool::connect_lazy_with(options)).await;
    let (status, problem) = soon(server.get("/healthz")).await;
    assert_eq!(status, 503);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("did not answer within"), "{detail}");
    server.stop().await.unwrap();
}
