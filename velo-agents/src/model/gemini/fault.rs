//! What a failed HTTP request means, from its status, headers and body.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::secret::Secret;
use crate::model::{ModelError, ModelErrorKind, Usage};

/// Characters of a foreign text that an error message quotes.
const MAX_QUOTE_CHARS: usize = 200;
/// A provider that asks to wait longer than this has run out of a quota, not of breath.
const LONGEST_RATE_LIMIT: Duration = Duration::from_secs(300);

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: ModelError,
    /// How long the provider asks to wait.
    pub(super) advice: Option<Duration>,
    /// Whether the credentials were refused in a way that a fresh token may mend.
    pub(super) is_unauthorized: bool,
    /// What the attempt consumed, as far as is known.
    pub(super) usage: Usage,
}

impl Fault {
    pub(super) fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self {
            error: ModelError::new(kind, message),
            advice: None,
            is_unauthorized: false,
            usage: Usage::default(),
        }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ModelErrorKind::Unavailable, message)
    }

    pub(super) fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.error.source = Some(source.into());
        self
    }
}

impl From<ModelError> for Fault {
    fn from(error: ModelError) -> Self {
        let usage = error.usage();
        Self {
            error,
            advice: None,
            is_unauthorized: false,
            usage,
        }
    }
}

/// Whom a request was made to, for messages that say what to do.
#[derive(Debug, Clone)]
pub(super) struct Asked<'a> {
    pub(super) model: &'a str,
    pub(super) is_vertex: bool,
    /// The credential that was sent, so that it can be blotted out of quotes.
    pub(super) secret: Secret,
}

impl Asked<'_> {
    /// The beginning of `text` in one line, without the credential.
    pub(super) fn quote(&self, text: &str) -> String {
        let words: Vec<&str> = text.split_whitespace().take(MAX_QUOTE_CHARS).collect();
        let blotted = self.secret.blot(&words.join(" "));
        match blotted.char_indices().nth(MAX_QUOTE_CHARS) {
            Some((end, _)) => format!("{}…", &blotted[..end]),
            None => blotted,
        }
    }

    fn credential(&self) -> &'static str {
        if self.is_vertex {
            "access token"
        } else {
            "API key"
        }
    }

    fn check_credential(&self) -> &'static str {
        if self.is_vertex {
            "check GOOGLE_APPLICATION_CREDENTIALS or run `gcloud auth application-default login`"
        } else {
            "check GEMINI_API_KEY"
        }
    }

    fn check_access(&self) -> &'static str {
        if self.is_vertex {
            "check that the account has the role Vertex AI User in GOOGLE_CLOUD_PROJECT and that the API is enabled there"
        } else {
            "check that GEMINI_API_KEY may use the Gemini API and that no restriction excludes this machine"
        }
    }
}

/// The provider's account of an error, as far as it could be read.
#[derive(Debug, Default)]
struct Account {
    status: String,
    message: String,
    reasons: Vec<String>,
    retry_delay: Option<Duration>,
    quota_ids: Vec<String>,
    has_zero_quota: bool,
}

impl Account {
    /// Reads `{"error": …}`, alone or in an array; anything else is no account.
    fn read(body: &Value) -> Option<Self> {
        let body = body.as_array().map_or(Some(body), |list| list.first())?;
        let error = body.get("error")?.as_object()?;
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut account = Self {
            status: text("status").to_owned(),
            message: text("message").to_owned(),
            ..Self::default()
        };
        account.has_zero_quota = says_limit_zero(&account.message);
        for detail in error
            .get("details")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            account.read_detail(detail);
        }
        Some(account)
    }

    fn read_detail(&mut self, detail: &Value) {
        let kind = detail
            .get("@type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "ErrorInfo" => {
                let reason = detail.get("reason").and_then(Value::as_str);
                self.reasons.extend(reason.map(str::to_owned));
            }
            "RetryInfo" => {
                self.retry_delay = detail
                    .get("retryDelay")
                    .and_then(Value::as_str)
                    .and_then(parse_delay);
            }
            "QuotaFailure" => {
                let violations = detail.get("violations").and_then(Value::as_array);
                for violation in violations.into_iter().flatten() {
                    let text = |key: &str| violation.get(key).and_then(Value::as_str);
                    self.quota_ids.extend(text("quotaId").map(str::to_owned));
                    self.has_zero_quota |= text("quotaValue") == Some("0");
                }
            }
            _ => {}
        }
    }

    fn refuses_key(&self) -> bool {
        self.reasons
            .iter()
            .any(|reason| reason == "API_KEY_INVALID")
            || self.message.contains("API key not valid")
            || self.message.contains("API key expired")
    }

    fn is_out_of_quota(&self) -> bool {
        let is_daily = |id: &String| {
            let id = id.to_ascii_lowercase();
            id.contains("perday") || id.contains("daily")
        };
        self.has_zero_quota
            || self.quota_ids.iter().any(is_daily)
            || self
                .retry_delay
                .is_some_and(|delay| delay > LONGEST_RATE_LIMIT)
    }
}

/// What an HTTP error means.
pub(super) fn from_response(
    asked: &Asked<'_>,
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
) -> Fault {
    let json = serde_json::from_slice::<Value>(body).ok();
    let account = json.as_ref().and_then(Account::read);
    let quoted = match &account {
        Some(account) if !account.message.is_empty() => asked.quote(&account.message),
        _ => asked.quote(&String::from_utf8_lossy(body)),
    };
    let advice = account
        .as_ref()
        .and_then(|account| account.retry_delay)
        .or_else(|| retry_after.and_then(|text| parse_retry_after(text, Utc::now())));
    fault(asked, status, &account.unwrap_or_default(), &quoted, advice)
}

/// What an error inside a reply that began well means; `None` when `piece` is no error.
pub(super) fn from_piece(asked: &Asked<'_>, piece: &Value) -> Option<Fault> {
    let account = Account::read(piece)?;
    let error = piece
        .as_array()
        .and_then(|list| list.first())
        .unwrap_or(piece);
    let code = error["error"]["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let quoted = asked.quote(&account.message);
    let advice = account.retry_delay;
    Some(fault(asked, code.unwrap_or(500), &account, &quoted, advice))
}

fn fault(
    asked: &Asked<'_>,
    status: u16,
    account: &Account,
    quoted: &str,
    advice: Option<Duration>,
) -> Fault {
    let model = asked.model;
    let said = if account.status.is_empty() {
        format!("{status}")
    } else {
        format!("{status} {}", account.status)
    };
    let (kind, message) = match status {
        401 => (
            ModelErrorKind::Auth,
            format!(
                "the model refused the {} ({status}): {}",
                asked.credential(),
                asked.check_credential()
            ),
        ),
        400 if account.refuses_key() => (
            ModelErrorKind::Auth,
            format!(
                "the model refused the {} ({status}): {}",
                asked.credential(),
                asked.check_credential()
            ),
        ),
        403 => (
            ModelErrorKind::Auth,
            format!(
                "the model denied access ({said}): {}; it said: {quoted}",
                asked.check_access()
            ),
        ),
        404 => (
            ModelErrorKind::BadRequest,
            format!(
                "the model {model} was not found ({said}): it may be retired or not served in this location, set VELO_MODEL_PRO and VELO_MODEL_FLASH to current models; it said: {quoted}"
            ),
        ),
        429 if account.is_out_of_quota() => (
            ModelErrorKind::QuotaExhausted,
            format!(
                "the quota for {model} is used up ({said}): wait for it to refill, raise it or use another model; it said: {quoted}"
            ),
        ),
        429 => (
            ModelErrorKind::RateLimited {
                retry_after: advice,
            },
            format!("the model {model} had too many requests ({said}): {quoted}"),
        ),
        300..=399 => (
            ModelErrorKind::BadRequest,
            format!(
                "the model's address answered with a redirect ({status}), which is not followed: check the base URL"
            ),
        ),
        408 | 499 | 500..=599 => (
            ModelErrorKind::Unavailable,
            format!("the model {model} could not answer ({said}): {quoted}"),
        ),
        _ => (
            ModelErrorKind::BadRequest,
            format!(
                "the model {model} refused the request ({said}): the same request would fail again, change it; it said: {quoted}"
            ),
        ),
    };
    let mut fault = Fault::new(kind, message);
    fault.advice = advice;
    fault.is_unauthorized = status == 401;
    fault
}

/// Reads `38s`, `0.539477544s` and `900ms`.
fn parse_delay(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * unit).ok()
}

/// Reads a `Retry-After` header: seconds, or a date.
fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some(
        (date.with_timezone(&Utc) - now)
            .to_std()
            .unwrap_or_default(),
    )
}

/// Whether `message` names a quota of nothing: `limit: 0`, but not `limit: 05` or `limit: 0.5`.
fn says_limit_zero(message: &str) -> bool {
    message.match_indices("limit: 0").any(|(at, found)| {
        let mut rest = message[at + found.len()..].chars();
        match rest.next() {
            Some('.') => !rest.next().is_some_and(|c| c.is_ascii_digit()),
            Some(next) => !next.is_ascii_digit(),
            None => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked() -> Asked<'static> {
        Asked {
            model: "gemini-x",
            is_vertex: false,
            secret: Secret::new("AIza-secret"),
        }
    }

    fn answered(status: u16, body: &Value) -> Fault {
        from_response(&asked(), status, None, body.to_string().as_bytes())
    }

    fn detail(kind: &str, mut fields: Value) -> Value {
        fields["@type"] = json!(format!("type.googleapis.com/google.rpc.{kind}"));
        fields
    }

    #[test]
    fn retry_advice_is_read_from_the_body_before_the_header() {
        let retry = detail("RetryInfo", json!({"retryDelay": "38.5s"}));
        let body = json!([{"error": {"code": 429, "message": "slow down", "details": [retry]}}]);
        let fault = from_response(&asked(), 429, Some("7"), body.to_string().as_bytes());
        let wanted = Some(Duration::from_millis(38_500));
        assert_eq!(fault.advice, wanted);
        assert_eq!(
            fault.error.kind,
            ModelErrorKind::RateLimited {
                retry_after: wanted
            }
        );
        let fault = from_response(&asked(), 503, Some("7"), b"<html>busy</html>");
        assert_eq!(fault.advice, Some(Duration::from_secs(7)));
        assert_eq!(fault.error.kind, ModelErrorKind::Unavailable);
        assert!(
            fault.error.message.contains("<html>busy"),
            "{}",
            fault.error
        );
    }

    #[test]
    fn a_quota_that_does_not_refill_soon_is_not_a_rate_limit() {
        let quota = |id: &str, value: &str| {
            detail(
                "QuotaFailure",
                json!({"violations": [{"quotaId": id, "quotaValue": value}]}),
            )
        };
        for (message, details) in [
            (
                "x",
                json!([quota(
                    "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                    "50"
                )]),
            ),
            ("x", json!([quota("GenerateRequestsPerMinute", "0")])),
            (
                "x",
                json!([detail("RetryInfo", json!({"retryDelay": "301s"}))]),
            ),
            ("Quota exceeded, limit: 0, model: m", json!([])),
        ] {
            let fault = answered(
                429,
                &json!({"error": {"message": message, "details": details}}),
            );
            assert_eq!(
                fault.error.kind,
                ModelErrorKind::QuotaExhausted,
                "{details}"
            );
        }
        for message in ["limit: 05", "limit: 0.5", "limit: 10"] {
            let fault = answered(429, &json!({"error": {"message": message}}));
            assert_eq!(
                fault.error.kind,
                ModelErrorKind::RateLimited { retry_after: None },
                "{message}"
            );
        }
    }

    #[test]
    fn an_invalid_key_is_told_apart_from_an_invalid_request() {
        let info = detail("ErrorInfo", json!({"reason": "API_KEY_INVALID"}));
        let fault = answered(
            400,
            &json!({"error": {"message": "bad", "details": [info]}}),
        );
        assert_eq!(fault.error.kind, ModelErrorKind::Auth);
        assert_eq!(
            fault.error.message,
            "the model refused the API key (400): check GEMINI_API_KEY"
        );
        let fault = answered(
            400,
            &json!({"error": {"status": "INVALID_ARGUMENT", "message": "schema"}}),
        );
        assert_eq!(fault.error.kind, ModelErrorKind::BadRequest);
    }

    #[test]
    fn every_status_has_its_meaning() {
        use ModelErrorKind::{Auth, BadRequest, Unavailable};
        for (status, kind) in [
            (302, BadRequest),
            (401, Auth),
            (403, Auth),
            (404, BadRequest),
            (408, Unavailable),
            (413, BadRequest),
            (499, Unavailable),
            (500, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
        ] {
            let fault = answered(status, &json!({"error": {"message": "m"}}));
            assert_eq!(fault.error.kind, kind, "{status}");
            assert_eq!(fault.is_unauthorized, status == 401);
        }
        let gone = answered(404, &json!({"error": {"message": "m"}}))
            .error
            .message;
        assert!(
            gone.contains("gemini-x") && gone.contains("retired"),
            "{gone}"
        );
    }

    #[test]
    fn quotes_are_short_and_do_not_show_the_key() {
        let body = format!("no AIza-secret {}", "x".repeat(5_000));
        let fault = from_response(&asked(), 500, None, body.as_bytes());
        assert!(!fault.error.message.contains("AIza-secret"));
        assert!(fault.error.message.len() < 400, "{}", fault.error);
        let split = format!("{}AIza-secret", "é".repeat(195));
        assert!(!asked().quote(&split).contains("AIza"));
    }

    #[test]
    fn delays_and_dates_are_read() {
        assert_eq!(
            parse_delay("0.539477544s"),
            Some(Duration::from_nanos(539_477_544))
        );
        assert_eq!(parse_delay("900ms"), Some(Duration::from_millis(900)));
        for text in ["", "s", "-1s", "1e400s", "soon", "NaNs"] {
            assert_eq!(parse_delay(text), None, "{text}");
        }
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let header = "Tue, 24 Nov 2026 10:00:30 GMT";
        assert_eq!(
            parse_retry_after(header, now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parse_retry_after("24 Nov 2020 10:00:00 +0000", now),
            Some(Duration::ZERO)
        );
    }
}
