//! What is said on a socket.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use velo_agents::domain::activity::ActivityStatus;
use velo_agents::domain::{ProjectEvent, ProjectId, TaskId};
use velo_api::{MAX_MESSAGE, MAX_SUBSCRIPTIONS};
use velo_engine::events;

use crate::support::Server;

#[tokio::test]
async fn the_four_messages_are_as_documented_with_a_place_added() {
    let server = Server::start().await;
    let project = server.project().await;
    let task_id = TaskId::new();
    for event in [
        ProjectEvent::AgentActivity {
            project_id: project.id,
            agent_name: "Oracle".to_owned(),
            action: "Generating PRD".to_owned(),
            status: ActivityStatus::InProgress,
        },
        ProjectEvent::TaskCreated {
            project_id: project.id,
            task_id,
            title: "Implement authentication".to_owned(),
            assigned_agent: Some("Neuron".to_owned()),
        },
        ProjectEvent::ProjectStatus {
            project_id: project.id,
            status: "ready".to_owned(),
            message: "Planning phase completed with 15 tasks".to_owned(),
        },
    ] {
        let mut conn = server.pool().acquire().await.unwrap();
        let stream = ProjectEvent::stream(project.id);
        events::append(&mut conn, &stream, event.kind(), &event.body())
            .await
            .unwrap();
    }
    let mut socket = server.connect().await;
    socket.subscribe(&project, None).await;
    let id = project.id;
    for expected in [
        json!({
            "type": "project_created", "project_id": id, "project_name": "A tea shop",
            "status": "planning", "seq": 1,
        }),
        json!({
            "type": "agent_activity", "project_id": id, "agent_name": "Oracle",
            "action": "Generating PRD", "status": "in_progress", "seq": 2,
        }),
        json!({
            "type": "task_created", "project_id": id, "task_id": task_id,
            "title": "Implement authentication", "assigned_agent": "Neuron", "seq": 3,
        }),
        json!({
            "type": "project_status", "project_id": id, "status": "ready",
            "message": "Planning phase completed with 15 tasks", "seq": 4,
        }),
    ] {
        let mut message = socket.next().await;
        let at = message
            .as_object_mut()
            .unwrap()
            .remove("timestamp")
            .unwrap();
        assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
        at.as_str()
            .unwrap()
            .parse::<chrono::DateTime<chrono::Utc>>()
            .unwrap();
        assert_eq!(message, expected);
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_nonsense_leaves_the_socket_open() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    socket.say(&json!({ "type": "shout" })).await;
    assert_eq!(socket.next().await["code"], "bad_message");
    socket
        .say(&json!({ "type": "subscribe", "project_id": ProjectId::new() }))
        .await;
    assert_eq!(socket.next().await["code"], "unknown_project");
    socket
        .say(&json!({ "type": "ping", "timestamp": "2025-11-24T12:00:00Z" }))
        .await;
    assert_eq!(
        socket.next().await,
        json!({ "type": "pong", "timestamp": "2025-11-24T12:00:00Z" })
    );
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_socket() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    let ping = |length: usize| json!({ "type": "ping", "timestamp": "x".repeat(length) });
    let frame = ping(0).to_string().len();
    socket.say(&ping(MAX_MESSAGE - frame)).await;
    assert_eq!(socket.next().await["type"], "pong");
    socket.say(&ping(MAX_MESSAGE - frame + 1)).await;
    assert_eq!(socket.try_next().await, None);
}

#[tokio::test]
async fn a_socket_watches_many_projects_up_to_the_limit() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    let mut projects = Vec::new();
    for _ in 0..MAX_SUBSCRIPTIONS {
        let project = server.project().await;
        // Beyond the only event, so that nothing is sent but the answers.
        socket.subscribe(&project, Some(1)).await;
        projects.push(project);
    }
    let one_more = server.project().await;
    socket
        .say(&json!({ "type": "subscribe", "project_id": one_more.id }))
        .await;
    assert_eq!(socket.next().await["code"], "too_many_subscriptions");
    socket.subscribe(&projects[0], Some(0)).await;
    socket.expect(&projects[0], 1, 1).await;
    server.append_up_to(&projects[31], 2).await;
    socket.expect(&projects[31], 2, 2).await;
}

#[tokio::test]
async fn a_server_that_stops_closes_its_sockets_and_takes_no_more() {
    let server = Server::start().await;
    let project = server.project().await;
    let mut watching = server.connect().await;
    watching.subscribe(&project, None).await;
    let mut idle = server.connect().await;
    idle.say(&json!({ "type": "ping" })).await;
    idle.next().await;
    let address = server.address;
    let (stopped, one, other) = tokio::join!(server.stop(), watching.closed(), idle.closed());
    stopped.unwrap();
    assert_eq!((one, other), (Some(CloseCode::Away), Some(CloseCode::Away)));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_that_says_goodbye_is_answered() {
    use futures::{SinkExt as _, StreamExt as _};
    let server = Server::start().await;
    let mut socket = server.connect().await;
    socket.0.send(Message::Close(None)).await.unwrap();
    assert!(matches!(socket.0.next().await, Some(Ok(Message::Close(_)))));
    assert!(socket.0.next().await.is_none());
}
