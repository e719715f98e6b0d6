//! The HTTP server: reads requests, asks the other files what to do, and does it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Form, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::Utc;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::check;
use super::fallback::Fallback;
use super::hold::Hold;
use super::log::{Entry, Log};
use super::received::{Endpoint, Method, Outcome, Received};
use super::refusal::Refusal;
use super::reply::{Answer, Frame, Reply};
use super::script::{Act, Script, Text};
use super::scripts::Scripts;
use super::tokens::Tokens;
use super::usage::Meter;
use crate::model::ModelErrorKind;

/// Longest request body, in bytes, as on Google's side.
const MAX_BODY_BYTES: usize = 20 * 1024 * 1024;
/// Headers that carry credentials.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "x-goog-api-key",
    "cookie",
    "proxy-authorization",
];
const FLAVOR_HEADER: &str = "metadata-flavor";
const FLAVOR: &str = "Google";

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
    /// Counts the times that everything that waits was let through.
    pub(super) releases: watch::Sender<u64>,
    /// Whether the server stops: nobody can release what waits then.
    pub(super) stopping: watch::Sender<bool>,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/models/{call}", post(by_key_v1))
        .route("/v1beta/models/{call}", post(by_key_v1beta))
        .route(
            "/{version}/projects/{project}/locations/{location}/publishers/google/models/{call}",
            post(on_vertex),
        )
        .route("/token", post(token))
        .route(
            "/computeMetadata/v1/instance/service-accounts/default/token",
            get(machine_token),
        )
        .fallback(nothing_here)
        .with_state(shared)
}

/// What a handler is given of a request for a model.
struct Request {
    call: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Body,
}

async fn by_key_v1(
    state: State<Arc<Shared>>,
    Path(call): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    by_key(
        state,
        "v1",
        Request {
            call,
            query,
            headers,
            body,
        },
    )
    .await
}

async fn by_key_v1beta(
    state: State<Arc<Shared>>,
    Path(call): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    by_key(
        state,
        "v1beta",
        Request {
            call,
            query,
            headers,
            body,
        },
    )
    .await
}

async fn by_key(State(shared): State<Arc<Shared>>, version: &str, request: Request) -> Response {
    let endpoint = Endpoint::ApiKey {
        version: version.to_owned(),
    };
    model_call(&shared, endpoint, request).await
}

async fn on_vertex(
    State(shared): State<Arc<Shared>>,
    Path((version, project, location, call)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !["v1", "v1beta1"].contains(&version.as_str()) {
        return nothing_here().await;
    }
    let endpoint = Endpoint::Vertex { project, location };
    model_call(
        &shared,
        endpoint,
        Request {
            call,
            query,
            headers,
            body,
        },
    )
    .await
}

async fn nothing_here() -> Response {
    let refusal = Refusal::new(404, "The requested URL was not found on this server.");
    (StatusCode::NOT_FOUND, Json(refusal.body(false))).into_response()
}

async fn model_call(shared: &Shared, endpoint: Endpoint, request: Request) -> Response {
    let Some((model, method)) = parse_call(&request) else {
        return nothing_here().await;
    };
    let Ok(bytes) = axum::body::to_bytes(request.body, MAX_BODY_BYTES).await else {
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
        agent: header(&request.headers, "x-velo-agent"),
        purpose: header(&request.headers, "x-velo-purpose"),
        system: String::new(),
        turns: Vec::new(),
        schema: None,
        max_output_tokens: None,
        temperature: None,
        body: text,
        headers: shown(&request.headers),
        outcome: Outcome::Open,
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
        .check_credentials(&received, &request.headers)
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
    write(reply, entry, waits.stopping)
}

/// What ends a wait besides its hold.
struct Waits {
    releases: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

/// Waits until the server stops; for ever when it has been dropped without.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending().await
    }
}

/// Reads `gemini-x:generateContent` and the like.
fn parse_call(request: &Request) -> Option<(String, Method)> {
    let (model, method) = request.call.rsplit_once(':')?;
    let is_sse = request
        .query
        .as_deref()
        .is_some_and(|query| query.split('&').any(|field| field == "alt=sse"));
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

    /// Does what the script of a good request says.
    async fn reply(&self, received: &Received, entry: &Entry, waits: &mut Waits) -> Reply {
        if received.method == Method::Count {
            return Reply::count(received);
        }
        let script = self.scripts.take(received);
        if !script.delay.is_zero() {
            tokio::time::sleep(script.delay).await;
        }
        let is_hanging = matches!(script.act, Act::Hang);
        if is_hanging || script.hold.is_some() {
            entry.note(Outcome::Held);
            let passed = async {
                match &script.hold {
                    Some(hold) => hold.pass().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                _ = waits.releases.changed() => {}
                () = stopped(waits.stopping.clone()) => return Reply::broken(),
            }
            entry.note(Outcome::Open);
        }
        let reply = self.act(received, &script).await;
        if script.pieces.is_empty() {
            reply
        } else {
            reply.in_pieces(&script.pieces)
        }
    }

    async fn act(&self, received: &Received, script: &Script) -> Reply {
        let answer = Answer {
            received,
            meter: Meter::new(received, received.body.contains("thinkingLevel")),
        };
        let is_vertex = received.is_vertex();
        let refusal = match &script.act {
            Act::Reply(Text::Fixed(text)) => return answer.of_text(text, script),
            Act::Reply(Text::With(write)) => return answer.of_text(&write(received), script),
            Act::Reply(Text::Fallback) => match self.fallback.answer(received).await {
                Ok(text) => return answer.of_text(&text, script),
                Err(error) if error.kind == ModelErrorKind::Blocked => return answer.blocked(),
                Err(error) => Refusal::of_error(&error, &received.model, is_vertex),
            },
            Act::SafetyBlock => return answer.blocked(),
            Act::EmptyCandidates => return answer.empty(),
            Act::MalformedJson => return answer.malformed(),
            Act::Garbage(bytes) => return Reply::spoilt(received.method, bytes.clone()),
            Act::RateLimited {
                retry_info,
                retry_after,
            } => Refusal::rate_limited(&received.model, is_vertex, *retry_info, *retry_after),
            Act::DailyQuota => Refusal::daily_quota(&received.model),
            Act::Overloaded => Refusal::overloaded(),
            Act::ServerError => Refusal::server_error(),
            Act::Unauthorized => Refusal::unauthorized("ACCESS_TOKEN_EXPIRED"),
            Act::Hang => Refusal::too_late(),
        };
        Reply::refused(&refusal, is_vertex)
    }

    /// Waits where requests for tokens wait.
    async fn pass_token_hold(&self) {
        let hold = self
            .token_hold
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(hold) = hold {
            tokio::select! {
                () = hold.pass() => {}
                () = stopped(self.stopping.subscribe()) => {}
            }
        }
    }
}

/// Sends `reply`; its outcome is noted when the last of it has been handed on.
fn write(reply: Reply, entry: Entry, stopping: watch::Receiver<bool>) -> Response {
    let outcome = reply.outcome;
    let frames = frames(reply.frames, entry, outcome, stopping);
    let mut response = Response::new(Body::from_stream(frames));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(reply.content_type);
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(seconds) = reply.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn frames(
    frames: Vec<Frame>,
    entry: Entry,
    outcome: Outcome,
    stopping: watch::Receiver<bool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let begin = (frames.into_iter(), Some(entry));
    stream::unfold(begin, move |(mut frames, mut entry)| {
        let stopping = stopping.clone();
        async move {
            loop {
                // The server sends what it has when it must wait: each piece goes out on its own.
                tokio::task::yield_now().await;
                match frames.next() {
                    Some(Frame::Write(bytes)) => return Some((Ok(bytes), (frames, entry))),
                    Some(Frame::Wait(hold)) => {
                        if let Some(entry) = &entry {
                            entry.note(Outcome::Held);
                        }
                        tokio::select! {
                            () = hold.pass() => {}
                            () = stopped(stopping.clone()) => return Some((Err(cut()), ended())),
                        }
                        if let Some(entry) = &entry {
                            entry.note(Outcome::Open);
                        }
                    }
                    Some(Frame::Break) => {
                        if let Some(entry) = entry.take() {
                            entry.settle(outcome);
                        }
                        return Some((Err(cut()), ended()));
                    }
                    None => {
                        entry.take()?.settle(outcome);
                        return None;
                    }
                }
            }
        }
    })
}

/// A stream of which nothing is left.
fn ended() -> (std::vec::IntoIter<Frame>, Option<Entry>) {
    (Vec::new().into_iter(), None)
}

fn cut() -> io::Error {
    io::Error::other("the script cuts the reply here")
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    shared.pass_token_hold().await;
    match shared.tokens.exchange(&form) {
        Ok(token) => granted(&shared, &token).into_response(),
        Err(denied) => {
            let status = StatusCode::from_u16(denied.status).unwrap_or(StatusCode::BAD_REQUEST);
            let body = json!({"error": denied.code, "error_description": denied.description});
            (status, Json(body)).into_response()
        }
    }
}

async fn machine_token(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let flavor = [(FLAVOR_HEADER, FLAVOR)];
    if header(&headers, FLAVOR_HEADER).as_deref() != Some(FLAVOR) {
        let reason = "Missing required header \"Metadata-Flavor\": \"Google\"";
        return (StatusCode::FORBIDDEN, flavor, reason).into_response();
    }
    shared.pass_token_hold().await;
    let token = shared.tokens.of_machine();
    (flavor, granted(&shared, &token)).into_response()
}

fn granted(shared: &Shared, token: &str) -> Json<Value> {
    Json(json!({
        "access_token": token,
        "expires_in": shared.tokens.lifetime.as_secs(),
        "token_type": "Bearer",
    }))
}
