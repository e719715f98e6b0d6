//! A server with a database of its own for each test, and clients of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use velo_agents::agency::{Agency, NewBrief};
use velo_agents::blob::Blobs;
use velo_agents::domain::project::Project;
use velo_agents::domain::{self, LOCAL_TENANT, LOCAL_USER, ProjectEvent};
use velo_agents::model::offline::OfflineModel;
use velo_api::Bind;
use velo_engine::{Engine, events, test_kit};

/// How long a test waits for what must come before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `future` comes to, or a failure instead of an endless wait.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("what the test waits for never came")
}

/// A new database with all tables.
async fn migrated() -> PgPool {
    let pool = test_kit::database().await;
    velo_engine::migrate(&pool).await.unwrap();
    domain::migrate(&pool).await.unwrap();
    pool
}

/// A running server. It stops when dropped.
pub(crate) struct Server {
    pub(crate) agency: Agency,
    pub(crate) folder: TempDir,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) http: reqwest::Client,
    shutdown: DropGuard,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::over(migrated().await).await
    }

    /// A server over any database, or none.
    pub(crate) async fn over(pool: PgPool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agency = Agency::new(
            Engine::connect(pool),
            Blobs::local(folder.path()).unwrap(),
            Arc::new(OfflineModel),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = velo_api::serve(
            listener,
            Bind::LoopbackOnly,
            agency.clone(),
            shutdown.clone(),
        );
        Self {
            folder,
            agency,
            address,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            shutdown: shutdown.drop_guard(),
            task: tokio::spawn(serving),
        }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.agency.pool()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The status and the JSON at `path`.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        read(self.http.get(self.url(path)).send().await.unwrap()).await
    }

    /// The status and the JSON that a request to create a project is answered with.
    pub(crate) async fn create(&self, body: &Value, key: Option<&str>) -> (u16, Value) {
        let mut request = self.http.post(self.url("/api/project/create")).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        read(request.send().await.unwrap()).await
    }

    /// A project, made without HTTP. Its first event is that it was created.
    pub(crate) async fn project(&self) -> Project {
        self.agency
            .create_project(LOCAL_TENANT, LOCAL_USER, &NewBrief::new("A tea shop"), None)
            .await
            .unwrap()
    }

    /// Appends the events from the second to the one of place `last`, each in its transaction.
    pub(crate) async fn append_up_to(&self, project: &Project, last: i64) {
        append_up_to(self.pool(), project, last).await;
    }

    pub(crate) async fn connect(&self) -> Socket {
        let url = format!("ws://{}/ws", self.address);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Socket(socket)
    }

    /// Tells the server to stop and waits until it has.
    pub(crate) async fn stop(self) -> io::Result<()> {
        drop(self.shutdown);
        soon(self.task).await.unwrap()
    }
}

/// Appends the events from the next to the one of place `last`, each in its own transaction.
pub(crate) async fn append_up_to(pool: &PgPool, project: &Project, last: i64) {
    loop {
        let mut tx = pool.begin().await.unwrap();
        let seq = append(&mut tx, project).await;
        tx.commit().await.unwrap();
        if seq >= last {
            return;
        }
    }
}

/// Appends one event and returns its place.
pub(crate) async fn append(conn: &mut sqlx::PgConnection, project: &Project) -> i64 {
    let event = ProjectEvent::ProjectStatus {
        project_id: project.id,
        status: "planning".to_owned(),
        message: "Going on".to_owned(),
    };
    let stream = ProjectEvent::stream(project.id);
    events::append(conn, &stream, event.kind(), &event.body())
        .await
        .unwrap()
}

/// The status and the body of an answer, which must be JSON and have a request id.
pub(crate) async fn read(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let (media, id) = (header("content-type"), header("x-request-id"));
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    if status >= 400 {
        assert_eq!(media.as_deref(), Some("application/problem+json"));
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"].as_str(), id.as_deref());
        for field in ["type", "title", "detail"] {
            assert!(!body[field].as_str().unwrap().is_empty(), "{body}");
        }
    } else {
        assert_eq!(media.as_deref(), Some("application/json"));
    }
    assert!(id.is_some());
    (status, body)
}

/// A client's WebSocket.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn say(&mut self, message: &Value) {
        let text = Message::text(message.to_string());
        self.0.send(text).await.unwrap();
    }

    /// The next message; `None` when the server closed the socket or it broke.
    pub(crate) async fn try_next(&mut self) -> Option<Value> {
        // The whole loop, because pings come for ever.
        soon(async {
            loop {
                match self.0.next().await?.ok()? {
                    Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                    Message::Close(_) => return None,
                    _ => {}
                }
            }
        })
        .await
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.try_next().await.expect("the socket is open")
    }

    /// The code with which the server closes the socket, whatever it says before.
    pub(crate) async fn closed(&mut self) -> Option<CloseCode> {
        soon(async {
            loop {
                if let Message::Close(frame) = self.0.next().await?.ok()? {
                    return frame.map(|frame| frame.code);
                }
            }
        })
        .await
    }

    /// Subscribes and reads the confirmation.
    pub(crate) async fn subscribe(&mut self, project: &Project, after: Option<i64>) {
        let mut message = json!({ "type": "subscribe", "project_id": project.id });
        if let Some(after) = after {
            message["after"] = after.into();
        }
        self.say(&message).await;
        let subscribed = json!({
            "type": "subscribed",
            "project_id": project.id,
            "after": after.unwrap_or(0),
        });
        assert_eq!(self.next().await, subscribed);
    }

    /// Reads the events of the places `from` to `to` of one project, and nothing else.
    pub(crate) async fn expect(&mut self, project: &Project, from: i64, to: i64) {
        for seq in from..=to {
            let event = self.next().await;
            assert_eq!(event["project_id"], json!(project.id), "{event}");
            assert_eq!(event["seq"], seq, "{event}");
        }
    }
}
