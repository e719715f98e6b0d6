use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use tokio::time::timeout;
use tracing::Instrument as _;
use uuid::Uuid;
use velo_engine::trace::TraceContext;

use super::{Problem, REQUEST_TIME};

/// Why there is an answer but no handler's.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no answer began within {} s", REQUEST_TIME.as_secs())]
    Late,
    #[error("the handler panicked; the panic itself was printed before")]
    Panicked,
}

/// Sees to it that every request has an id, a limit of time and an answer.
pub(crate) async fn answer(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7();
    let span = tracing::info_span!(
        "request",
        request.id = %id,
        http.method = %request.method(),
        http.path = request.uri().path(),
    );
    let trace = request.headers().get("traceparent");
    let trace: Option<TraceContext> = trace.and_then(|header| header.to_str().ok()?.parse().ok());
    // Runs that the request starts belong to its trace.
    let run = async {
        match trace {
            Some(trace) => trace.scope(next.run(request)).await,
            None => next.run(request).await,
        }
    };
    let handled = AssertUnwindSafe(timeout(REQUEST_TIME, run));
    let answered = handled.catch_unwind().instrument(span.clone()).await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            Problem::unavailable(Unanswered::Late.to_string(), Unanswered::Late).into_response()
        }
        Err(_) => Problem::internal(Unanswered::Panicked).into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        span.in_scope(|| problem.render(&mut response, id));
    }
    let id = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    response.headers_mut().insert("x-request-id", id);
    response
}
