//! The token endpoint and the metadata server.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Shared, header, stopped};

const FLAVOR_HEADER: &str = "metadata-flavor";
const FLAVOR: &str = "Google";

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if shared.pass_tokens().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match shared.tokens.exchange(&form) {
        Ok(token) => granted(&shared, &token).into_response(),
        Err(denied) => {
            let status = StatusCode::from_u16(denied.status).unwrap_or(StatusCode::BAD_REQUEST);
            let body = json!({"error": denied.code, "error_description": denied.description});
            (status, Json(body)).into_response()
        }
    }
}

pub(super) async fn machine_token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Response {
    let flavor = [(FLAVOR_HEADER, FLAVOR)];
    if header(&headers, FLAVOR_HEADER).as_deref() != Some(FLAVOR) {
        let reason = "Missing required header \"Metadata-Flavor\": \"Google\"";
        return (StatusCode::FORBIDDEN, flavor, reason).into_response();
    }
    if shared.pass_tokens().await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, flavor).into_response();
    }
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

impl Shared {
    /// Waits where requests for tokens wait; an error when this one is to fail.
    async fn pass_tokens(&self) -> Result<(), usize> {
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
        let relaxed = Ordering::Relaxed;
        let fails = self
            .token_failures
            .fetch_update(relaxed, relaxed, |left| left.checked_sub(1));
        match fails {
            Ok(left) => Err(left),
            Err(_) => Ok(()),
        }
    }
}
