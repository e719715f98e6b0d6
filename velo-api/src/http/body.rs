use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;

use super::{Kind, MAX_BODY, Problem};

/// The body of a request, as JSON.
///
/// It must say that it is JSON: a form on a page of another origin can send text, but not that.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !says_json(request.headers()) {
            let detail = "send the body as JSON, with the header `content-type: application/json`";
            return Err(Problem::new(Kind::MediaType, detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let detail = format!("a body has at most {MAX_BODY} bytes: shorten it");
                Problem::new(Kind::BodyTooLarge, detail)
            } else {
                Problem::new(Kind::Malformed, "the body ended before it was complete")
            }
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let detail = format!("could not read the body as the JSON of this request: {error}");
            Problem::new(Kind::Malformed, detail)
        })
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
