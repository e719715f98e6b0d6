use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;
use velo_agents::agency::AgencyError;
use velo_agents::blob::BlobError;
use velo_agents::domain::StoreError;

/// The longest detail that is sent, in characters: parts of a request may be quoted in it.
const MAX_DETAIL: usize = 500;

/// Seconds after which a client may try again what failed for now.
const TRY_AGAIN: HeaderValue = HeaderValue::from_static("1");

/// A request that was not done, as RFC 9457 describes it. As a response it is only a status until
/// [`render`](Self::render) writes it, because a handler does not know the request's id.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Malformed,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    KeyReused,
    BodyTooLarge,
    MediaType,
    Misdirected,
    Refused,
    NotAnUpgrade,
    Internal,
    Unavailable,
}

impl Kind {
    const fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "malformed",
                "The request is malformed",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "foreign-origin",
                "The request comes from a page of another origin",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not possible here",
            ),
            Self::KeyReused => (
                StatusCode::CONFLICT,
                "idempotency-key-reused",
                "The idempotency key belongs to another request",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
            ),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body is not declared to be JSON",
            ),
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected",
                "The request is meant for another host",
            ),
            Self::Refused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused",
                "The request was understood and refused",
            ),
            Self::NotAnUpgrade => (
                StatusCode::UPGRADE_REQUIRED,
                "websocket-required",
                "Only a WebSocket can be opened here",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The server failed",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The server cannot do this now",
            ),
        }
    }
}

impl Problem {
    /// A problem that the client is told all about.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            cause: None,
        }
    }

    /// A failure whose cause is for the log alone.
    pub(crate) fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        let detail = "this is not the request's fault: tell the operator its request_id";
        Self::new(Kind::Internal, detail).because(cause)
    }

    /// A failure that may pass; its cause is for the log alone.
    pub(crate) fn unavailable(
        detail: impl Into<String>,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::new(Kind::Unavailable, detail).because(cause)
    }

    fn because(self, cause: impl Error + Send + Sync + 'static) -> Self {
        Self {
            cause: Some(Arc::new(cause)),
            ..self
        }
    }

    /// Writes the problem into `response`, whose status and other headers stay, and logs it if it
    /// is the server's.
    pub(crate) fn render(&self, response: &mut Response, request: Uuid) {
        let (status, slug, title) = self.kind.describe();
        if status.is_server_error() {
            let cause = self.cause.as_deref().map(chain).unwrap_or_default();
            match self.kind {
                Kind::Unavailable => tracing::warn!(detail = self.detail, cause, "request put off"),
                _ => tracing::error!(detail = self.detail, cause, "request failed"),
            }
        }
        let body = json!({
            "type": format!("urn:velo:problem:{slug}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail.chars().take(MAX_DETAIL).collect::<String>(),
            "request_id": request,
        });
        *response.body_mut() = Body::from(body.to_string());
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.describe().0.into_response();
        if self.kind == Kind::Unavailable {
            response.headers_mut().insert(RETRY_AFTER, TRY_AGAIN);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            Self::unavailable("the database does not answer: try again later", error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        if error.is_transient() {
            Self::unavailable("the artifact store does not answer: try again later", error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<AgencyError> for Problem {
    fn from(error: AgencyError) -> Self {
        match error {
            AgencyError::Store(error) => error.into(),
            AgencyError::Start(error) if error.is_transient() => {
                Self::unavailable("the database does not answer: try again later", error)
            }
            AgencyError::Start(error) => Self::internal(error),
            AgencyError::KeyReused { .. } => Self::new(Kind::KeyReused, error.to_string()),
            refusal => Self::new(Kind::Refused, refusal.to_string()),
        }
    }
}

/// An error and all its causes, in one line.
fn chain(error: &(dyn Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_internal_failure_says_nothing_about_its_cause() {
        let problem = Problem::internal(std::io::Error::other("password is hunter2"));
        let mut response = problem.clone().into_response();
        problem.render(&mut response, Uuid::nil());
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("hunter2"));
    }

    #[tokio::test]
    async fn a_detail_is_cut_at_the_limit() {
        let problem = Problem::new(Kind::Malformed, "é".repeat(MAX_DETAIL + 1));
        let mut response = problem.clone().into_response();
        problem.render(&mut response, Uuid::nil());
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], "é".repeat(MAX_DETAIL));
    }
}
