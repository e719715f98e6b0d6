//! Errors in the shape that Google gives them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::model::{ModelError, ModelErrorKind};

/// An HTTP error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    details: Vec<Value>,
    pub(super) retry_after: Option<Duration>,
    /// What Vertex AI says besides, in the older form.
    reason: &'static str,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            details: Vec::new(),
            retry_after: None,
            reason: reason(status),
        }
    }

    /// A request that cannot be read or obeyed.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// A field that is not known, with its place in the provider's spelling.
    pub(super) fn unknown_field(name: &str, place: &str) -> Self {
        let at = if place.is_empty() {
            String::new()
        } else {
            format!(" at '{place}'")
        };
        let message = format!(
            "Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field."
        );
        let violation = json!({"field": place, "description": message});
        Self::invalid(message).with("BadRequest", json!({"fieldViolations": [violation]}))
    }

    pub(super) fn invalid_key() -> Self {
        Self::invalid("API key not valid. Please pass a valid API key.").with(
            "ErrorInfo",
            json!({
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }),
        )
    }

    pub(super) fn no_key() -> Self {
        Self::new(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). \
             Please use API Key or other form of API consumer identity to call this API.",
        )
    }

    /// Credentials that are missing, unknown or past their end, as `reason` says.
    pub(super) fn unauthorized(reason: &str) -> Self {
        Self::new(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, \
             login cookie or other valid authentication credential.",
        )
        .with(
            "ErrorInfo",
            json!({"reason": reason, "domain": "googleapis.com"}),
        )
    }

    /// Too many requests a minute. Only the API-key endpoint names the quota.
    pub(super) fn rate_limited(
        model: &str,
        is_vertex: bool,
        retry_info: Option<Duration>,
        retry_after: Option<Duration>,
    ) -> Self {
        let mut refusal = if is_vertex {
            Self::new(429, "Resource exhausted. Please try again later.")
        } else {
            let message = match retry_info {
                Some(delay) => format!("{QUOTA_EXCEEDED} Please retry in {}.", seconds(delay)),
                None => QUOTA_EXCEEDED.to_owned(),
            };
            Self::new(429, message).with(
                "QuotaFailure",
                violation(
                    "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
                    model,
                ),
            )
        };
        if let Some(delay) = retry_info {
            refusal = refusal.with("RetryInfo", json!({"retryDelay": seconds(delay)}));
        }
        refusal.retry_after = retry_after;
        refusal
    }

    /// The quota of a day is used up; the advice to retry soon is there nevertheless, as it is in
    /// the real reply.
    pub(super) fn daily_quota(model: &str) -> Self {
        let quota = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
        Self::new(429, QUOTA_EXCEEDED)
            .with("QuotaFailure", violation(quota, model))
            .with("RetryInfo", json!({"retryDelay": "33s"}))
    }

    pub(super) fn overloaded() -> Self {
        Self::new(503, "The model is overloaded. Please try again later.")
    }

    pub(super) fn server_error() -> Self {
        Self::new(500, "An internal error has occurred. Please retry.")
    }

    pub(super) fn too_late() -> Self {
        Self::new(
            504,
            "The request timed out. Please try again with a larger deadline.",
        )
    }

    /// What a fallback's error is over HTTP.
    pub(super) fn of_error(error: &ModelError, model: &str, is_vertex: bool) -> Self {
        let message = error.to_string();
        match error.kind {
            ModelErrorKind::Auth => Self::new(403, message),
            ModelErrorKind::RateLimited { retry_after } => {
                Self::rate_limited(model, is_vertex, retry_after, None)
            }
            ModelErrorKind::QuotaExhausted => Self::daily_quota(model),
            ModelErrorKind::Unavailable => Self::new(503, message),
            ModelErrorKind::BadRequest
            | ModelErrorKind::Blocked
            | ModelErrorKind::InvalidOutput => Self::invalid(message),
        }
    }

    fn with(mut self, kind: &str, mut detail: Value) -> Self {
        detail["@type"] = format!("type.googleapis.com/google.rpc.{kind}").into();
        self.details.push(detail);
        self
    }

    /// The body.
    pub(super) fn body(&self, is_vertex: bool) -> Value {
        let mut error = json!({
            "code": self.status,
            "message": self.message,
            "status": status_name(self.status),
        });
        if is_vertex {
            error["errors"] = json!([
                {"message": self.message, "domain": "global", "reason": self.reason}
            ]);
        }
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details.clone());
        }
        json!({"error": error})
    }
}

const QUOTA_EXCEEDED: &str =
    "You exceeded your current quota, please check your plan and billing details.";

fn violation(quota: &str, model: &str) -> Value {
    json!({"violations": [{
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": quota,
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": "50",
    }]})
}

/// A duration as the provider's JSON writes it, such as `7s` and `0.5s`.
fn seconds(delay: Duration) -> String {
    format!("{}s", delay.as_secs_f64())
}

fn status_name(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNKNOWN",
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "badRequest",
        401 => "authError",
        403 => "forbidden",
        404 => "notFound",
        429 => "rateLimitExceeded",
        _ => "backendError",
    }
}
