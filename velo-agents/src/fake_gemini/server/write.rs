//! Writes a reply to its connection, piece by piece.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::{Stream, stream};
use tokio::sync::watch;

use super::stopped;
use crate::fake_gemini::log::Entry;
use crate::fake_gemini::received::Outcome;
use crate::fake_gemini::reply::{Frame, Reply};

/// Sends `reply`; its outcome is noted when the last of it has been handed on.
pub(super) fn write(reply: Reply, entry: Entry, stopping: watch::Receiver<bool>) -> Response {
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
