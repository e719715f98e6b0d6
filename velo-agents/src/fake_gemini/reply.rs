//! The bytes of a reply, as data: nothing here writes to a connection.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::hold::Hold;
use super::received::{Method, Outcome, Received};
use super::refusal::Refusal;
use super::usage::prompt_tokens;

/// A reply, ready to be written.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) retry_after: Option<u64>,
    pub(super) frames: Vec<Frame>,
    /// What became of the request once all frames are written.
    pub(super) outcome: Outcome,
}

/// What happens next on the connection.
#[derive(Debug)]
pub(super) enum Frame {
    Write(Bytes),
    Wait(Hold),
    /// The connection breaks.
    Break,
}

impl Frame {
    pub(super) fn write(bytes: impl Into<Bytes>) -> Self {
        Self::Write(bytes.into())
    }
}

impl Reply {
    /// An error.
    pub(super) fn refused(refusal: &Refusal, is_vertex: bool) -> Self {
        Self {
            status: refusal.status,
            content_type: "application/json; charset=UTF-8",
            retry_after: refusal.retry_after.map(|delay| delay.as_secs()),
            frames: vec![Frame::write(pretty(&refusal.body(is_vertex)))],
            outcome: Outcome::Failed(refusal.status),
        }
    }

    /// A body that is what the script says, under the status 200.
    pub(super) fn spoilt(method: Method, bytes: impl Into<Bytes>) -> Self {
        let mut reply = Self::good(method, vec![Frame::write(bytes)]);
        reply.outcome = Outcome::Cut;
        reply
    }

    /// No reply: the connection breaks.
    pub(super) fn broken() -> Self {
        let mut reply = Self::good(Method::Generate, vec![Frame::Break]);
        reply.outcome = Outcome::Cut;
        reply
    }

    /// The number of tokens of the request.
    pub(super) fn count(received: &Received) -> Self {
        let tokens = prompt_tokens(received);
        let details = json!([{"modality": "TEXT", "tokenCount": tokens}]);
        let mut count = json!({"totalTokens": tokens, "promptTokensDetails": details});
        if received.is_vertex() {
            let turns = received.turns.iter().map(|turn| turn.text.as_str());
            let chars: usize = turns
                .chain([received.system.as_str()])
                .map(|text| text.chars().filter(|c| !c.is_whitespace()).count())
                .sum();
            count["totalBillableCharacters"] = chars.into();
        }
        Self::good(received.method, vec![Frame::write(pretty(&count))])
    }

    /// Status 200 with these frames.
    pub(super) fn good(method: Method, frames: Vec<Frame>) -> Self {
        Self {
            status: 200,
            content_type: match method {
                Method::Stream => "text/event-stream",
                Method::Generate | Method::StreamArray | Method::Count => {
                    "application/json; charset=UTF-8"
                }
            },
            retry_after: None,
            frames,
            outcome: Outcome::Answered,
        }
    }

    /// The same bytes in pieces of these lengths, then the rest. Empty pieces are left out: on the
    /// wire, one would end the body.
    pub(super) fn in_pieces(mut self, lengths: &[usize]) -> Self {
        let mut written = Vec::new();
        let mut others = Vec::new();
        for frame in self.frames {
            match frame {
                Frame::Write(bytes) => written.extend_from_slice(&bytes),
                Frame::Wait(_) => {}
                Frame::Break => others.push(Frame::Break),
            }
        }
        let mut rest = Bytes::from(written);
        let mut frames = Vec::new();
        for length in lengths {
            let piece = rest.split_to((*length).min(rest.len()));
            frames.extend((!piece.is_empty()).then_some(Frame::Write(piece)));
        }
        frames.extend((!rest.is_empty()).then_some(Frame::Write(rest)));
        frames.append(&mut others);
        self.frames = frames;
        self
    }
}

/// A body of JSON, as Google lays it out.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
