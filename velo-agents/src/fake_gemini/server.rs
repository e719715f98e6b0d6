//! The HTTP server: reads requests, asks the other files what to do, and does it.

mod perform;
mod tokens;
mod write;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::Utc;
use serde_json::Value;
use tokio::sync::watch;

use super::check;
use super::fallback::Fallback;
use super::hold::Hold;
use super::log::Log;
use super::received::{Endpoint, Method, Outcome, Received};
use super::refusal::Refusal;
use super::reply::Reply;
use super::scripts::Scripts;
use super::tokens::Tokens;
use perform::Waits;

/// Longest request body, in bytes, as on Google's side.
const MAX_BODY_BYTES: usize = 20 * 1024 * 1024;
/// Headers that carry credentials.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "x-goog-api-key",
    "cookie",
    "proxy-authorization",
];

/// What all connections share.
pub(super) struct Shared {
    pub(super) key: String,
    /// Models that are served besides those that are listed.
    pub(super) models: Vec<String>,
    pub(super) log: Arc<Log>,
    pub(super) scripts: Scripts,
    pub(super) fallback: Box<dyn Fallback>,
    pub(super) tokens: Tokens,
    /// Where requests for tokens wait, if anywhere.
    pub(super) token_hold: Mutex<Option<Hold>>,
    /// How many requests for tokens are still to fail.
    pub(super) token_failures: AtomicUsize,
    /// Counts the times that everything that waits was let through.
    pub(super) releases: watch::Sender<u64>,
    /// Whether the server stops: nobody can release what waits then.
    pub(super) stopping: watch::Sender<bool>,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{version}/models/{call}", post(by_key))
        .route(
            "/{version}/projects/{project}/locations/{location}/publishers/google/models/{call}",
            post(on_vertex),
        )
        .route("/token", post(tokens::token))
        .route(
            "/computeMetadata/v1/instance/service-accounts/default/token",
            get(tokens::machine_token),
        )
        .fallback(nothing_here)
        .with_state(shared)
}

async fn by_key(
    State(shared): State<Arc<Shared>>,
    Path((version, call)): Path<(String, String)>,
    request: Request,
) -> Response {
    if !["v1", "v1beta"].contains(&version.as_str()) {
        return nothing_here().await;
    }
    model_call(&shared, Endpoint::ApiKey { version }, &call, request).await
}

async fn on_vertex(
    State(shared): State<Arc<Shared>>,
    Path((version, project, location, call)): Path<(String, String, String, String)>,
    request: Request,
) -> Response {
    if !["v1", "v1beta1"].contains(&version.as_str()) {
        return nothing_here().await;
    }
    let endpoint = Endpoint::Vertex { project, location };
    model_call(&shared, endpoint, &call, request).await
}

async fn nothing_here() -> Response {
    let refusal = Refusal::new(404, "The requested URL was not found on this server.");
    (StatusCode::NOT_FOUND, Json(refusal.body(false))).into_response()
}

async fn model_call(shared: &Shared, endpoint: Endpoint, call: &str, request: Request) -> Response {
    let Some((model, method)) = parse_call(call, request.uri().query()) else {
        return nothing_here().await;
    };
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let Ok(bytes) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        let refusal = Refusal::invalid("Request payload size exceeds the limit: 20971520 bytes.");
        return (StatusCode::BAD_REQUEST, Json(refusal.body(false))).into_response();
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str::<Value>(&text);
    let mut received = Received {
        n: 0,
        at: Utc::now(),
        endpoint,
        model,
        method,
        agent: header(&headers, "x-velo-agent"),
        purpose: header(&headers, "x-velo-purpose"),
        system: String::new(),
        turns: Vec::new(),
        schema: None,
        max_output_tokens: None,
        temperature: None,
        body: text,
        headers: shown(&headers),
        outcome: Outcome::Open,
        thinks: false,
    };
    if let Ok(body) = &body {
        received.read_body(body);
    }
    // Subscribed before anybody can see the request, so that no release is missed.
    let mut waits = Waits {
        releases: shared.releases.subscribe(),
        stopping: shared.stopping.subscribe(),
    };
    let entry = shared.log.open(&mut received);
    let checked = shared
        .check_credentials(&received, &headers)
        .and_then(|()| check::model(&received, &shared.models))
        .and_then(|()| match &body {
            Ok(body) => check::body(&received, body),
            Err(error) => Err(Refusal::invalid(format!(
                "Invalid JSON payload received. {error}"
            ))),
        });
    let reply = match checked {
        Ok(()) => shared.reply(&received, &entry, &mut waits).await,
        Err(refusal) => Reply::refused(&refusal, received.is_vertex()),
    };
    write::write(reply, entry, waits.stopping)
}

/// Waits until the server stops; for ever when it has been dropped without.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending().await
    }
}

/// Reads `gemini-x:generateContent` and the like.
fn parse_call(call: &str, query: Option<&str>) -> Option<(String, Method)> {
    let (model, method) = call.rsplit_once(':')?;
    let mut fields = query.unwrap_or_default().split('&');
    let is_sse = fields.any(|field| field == "alt=sse");
    let method = match method {
        "generateContent" => Method::Generate,
        "streamGenerateContent" if is_sse => Method::Stream,
        "streamGenerateContent" => Method::StreamArray,
        "countTokens" => Method::Count,
        _ => return None,
    };
    Some((model.to_owned(), method))
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| !SECRET_HEADERS.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

impl Shared {
    fn check_credentials(&self, received: &Received, headers: &HeaderMap) -> Result<(), Refusal> {
        if received.is_vertex() {
            let sent = header(headers, "authorization");
            let Some(token) = sent
                .as_deref()
                .and_then(|sent| sent.strip_prefix("Bearer "))
            else {
                return Err(Refusal::unauthorized("CREDENTIALS_MISSING"));
            };
            return if self.tokens.is_good(token, Instant::now()) {
                Ok(())
            } else {
                Err(Refusal::unauthorized("ACCESS_TOKEN_EXPIRED"))
            };
        }
        match header(headers, "x-goog-api-key") {
            Some(key) if key == self.key => Ok(()),
            Some(_) => Err(Refusal::invalid_key()),
            None => Err(Refusal::no_key()),
        }
    }
}
