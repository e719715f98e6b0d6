//! One HTTP request and its reply.

use std::future::Future;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::fault::{self, Asked, Fault};
use super::reply::ReplyParts;
use super::sse::EventReader;
use super::wire::{Piece, TokenCount};
use crate::model::{ChatReply, Progress};

/// Longest unary reply, in bytes.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// What is read of an error's body; the rest is not needed to understand it.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) http: &'a Client,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) asked: Asked<'a>,
    pub(super) deadline: Instant,
    pub(super) idle_timeout: Duration,
}

impl Call<'_> {
    /// Asks for a reply in one piece.
    pub(super) async fn unary(
        self,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<ChatReply, Fault> {
        let piece = self.json().await?;
        let mut parts = ReplyParts::new(self.asked.model);
        self.take(piece, &mut parts, &mut |_| ())?;
        let reply = parts.finish()?;
        progress(Progress::Text(&reply.text));
        Ok(reply)
    }

    /// Asks for a reply as a stream of events, handing on the text as it arrives.
    pub(super) async fn streamed(
        self,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<ChatReply, Fault> {
        let mut response = self.send().await?;
        let mut events = EventReader::default();
        let mut parts = ReplyParts::new(self.asked.model);
        let read = self
            .read_events(&mut response, &mut events, &mut parts, progress)
            .await;
        let read = read.and_then(|()| {
            let last = events.end().map_err(unreadable)?;
            last.map_or(Ok(()), |last| self.event(&last, &mut parts, progress))
        });
        match read {
            Ok(()) => parts.finish(),
            Err(mut fault) => {
                fault.usage = parts.usage();
                Err(fault)
            }
        }
    }

    /// Asks how many tokens the request has.
    pub(super) async fn count(self) -> Result<u64, Fault> {
        let counted: TokenCount = serde_json::from_value(self.json().await?).map_err(|error| {
            Fault::unavailable("the model's count of tokens has an unknown form").caused_by(error)
        })?;
        Ok(counted.total_tokens)
    }

    async fn read_events(
        &self,
        response: &mut Response,
        events: &mut EventReader,
        parts: &mut ReplyParts<'_>,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(), Fault> {
        // The model thinks before the first piece: only the deadline bounds that silence.
        let mut silence_ends = self.deadline;
        while let Some(bytes) = self.until(silence_ends, response.chunk()).await? {
            for event in events.push(&bytes).map_err(unreadable)? {
                self.event(&event, parts, progress)?;
            }
            silence_ends = self.deadline.min(Instant::now() + self.idle_timeout);
        }
        Ok(())
    }

    fn event(
        &self,
        event: &str,
        parts: &mut ReplyParts<'_>,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(), Fault> {
        let value: Value = serde_json::from_str(event).map_err(|error| {
            let quoted = self.asked.quote(event);
            Fault::unavailable(format!("the model's reply is not JSON: {quoted}")).caused_by(error)
        })?;
        self.take(value, parts, progress)
    }

    /// Takes a piece of a reply, or several in an array.
    fn take(
        &self,
        value: Value,
        parts: &mut ReplyParts<'_>,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(), Fault> {
        if let Some(fault) = fault::from_piece(&self.asked, &value) {
            return Err(fault);
        }
        let pieces = match value {
            Value::Array(pieces) => pieces,
            piece => vec![piece],
        };
        for piece in pieces {
            let piece: Piece = serde_json::from_value(piece).map_err(|error| {
                Fault::unavailable("the model's reply has an unknown form").caused_by(error)
            })?;
            let text = parts.push(piece)?;
            if !text.is_empty() {
                progress(Progress::Text(text));
            }
        }
        Ok(())
    }

    /// Sends the request and reads a JSON reply.
    async fn json(&self) -> Result<Value, Fault> {
        let mut response = self.send().await?;
        let body = self.read(&mut response, MAX_BODY_BYTES).await?;
        if body.len() > MAX_BODY_BYTES {
            return Err(Fault::unavailable(format!(
                "the model's reply is longer than {MAX_BODY_BYTES} bytes"
            )));
        }
        serde_json::from_slice(&body).map_err(|error| {
            let quoted = self.asked.quote(&String::from_utf8_lossy(&body));
            Fault::unavailable(format!("the model's reply is not JSON: {quoted}")).caused_by(error)
        })
    }

    /// Sends the request; errors of the HTTP status are faults.
    async fn send(&self) -> Result<Response, Fault> {
        let sent = self
            .http
            .post(&self.url)
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(self.body.clone())
            .send();
        let mut response = self.until(self.deadline, sent).await?;
        let status = response.status().as_u16();
        if response.status().is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // An error whose body does not arrive is still the error that its status says.
        let body = match self.read(&mut response, MAX_ERROR_BYTES).await {
            Ok(body) => body,
            Err(unread) => unread.error.message.into_bytes(),
        };
        Err(fault::from_response(
            &self.asked,
            status,
            retry_after.as_deref(),
            &body,
        ))
    }

    /// Reads the body up to a little more than `limit`.
    async fn read(&self, response: &mut Response, limit: usize) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        while body.len() <= limit
            && let Some(bytes) = self.until(self.deadline, response.chunk()).await?
        {
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    async fn until<T>(
        &self,
        end: Instant,
        work: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, Fault> {
        match timeout_at(end, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(lost(error)),
            Err(_) if end < self.deadline => Err(Fault::unavailable(format!(
                "the model's reply stopped arriving for {} s",
                self.idle_timeout.as_secs_f32()
            ))),
            Err(_) => Err(Fault::unavailable("the model did not answer in time")),
        }
    }
}

fn unreadable(error: super::sse::SseError) -> Fault {
    Fault::unavailable("the model's reply could not be read to its end").caused_by(error)
}

/// A failure below HTTP. The URL is left out: it may name an internal host.
fn lost(error: reqwest::Error) -> Fault {
    let message = if error.is_connect() {
        "could not connect to the model: check the network and the base URL"
    } else if error.is_timeout() {
        "the model did not answer in time"
    } else {
        "the connection to the model was lost"
    };
    Fault::unavailable(message).caused_by(error.without_url())
}
