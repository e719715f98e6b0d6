//! The reply of a model, from its text to the frames.

use serde_json::{Value, json};

use super::received::Outcome;
use super::received::{Method, Received};
use super::refusal::Refusal;
use super::reply::{Frame, Reply, pretty};
use super::script::{End, Script};
use super::usage::Meter;

/// Pieces that a text is streamed in, unless it is very short or very long.
const TEXT_PIECES: usize = 4;
/// Most characters of a piece.
const MAX_PIECE_CHARS: usize = 400;
/// A thought signature: opaque to the client, which must tolerate it.
const SIGNATURE: &str = "c2lnbmF0dXJl";
const MID_STREAM_MESSAGE: &str = "The service ended the reply before it was whole.";

/// A reply in the making.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) received: &'a Received,
    pub(super) meter: Meter,
}

impl Answer<'_> {
    /// The reply with `text`, ended as `script` says.
    pub(super) fn of_text(&self, text: &str, script: &Script) -> Reply {
        let fitting = self.meter.fitting(text, self.received.max_output_tokens);
        let end = match script.end {
            End::Stop if fitting.len() < text.len() => End::MaxTokens,
            end => end,
        };
        match self.received.method {
            Method::Generate | Method::Count => self.unary(fitting, end),
            Method::Stream | Method::StreamArray => self.streamed(fitting, end, script),
        }
    }

    /// A prompt that a filter has blocked.
    pub(super) fn blocked(&self) -> Reply {
        self.without_text(json!({
            "promptFeedback": {
                "blockReason": "SAFETY",
                "safetyRatings": [{
                    "category": "HARM_CATEGORY_DANGEROUS_CONTENT",
                    "probability": "HIGH",
                    "blocked": true,
                }],
            },
        }))
    }

    /// A reply with no candidate.
    pub(super) fn empty(&self) -> Reply {
        self.without_text(json!({}))
    }

    /// Valid JSON up to its middle, and then nothing.
    pub(super) fn malformed(&self) -> Reply {
        let whole = self.piece(Some("Velo"), Some("STOP"), 4).to_string();
        let half = &whole[..whole.len() / 2];
        Reply::spoilt(
            self.received.method,
            match self.received.method {
                Method::Stream => format!("data: {half}\r\n\r\n"),
                Method::Generate | Method::StreamArray | Method::Count => half.to_owned(),
            },
        )
    }

    fn without_text(&self, mut piece: Value) -> Reply {
        self.sign(&mut piece, self.meter.prompt_only());
        let method = self.received.method;
        let frames = match method {
            Method::Generate | Method::Count => vec![pretty(&piece)],
            Method::Stream | Method::StreamArray => framed(method, &[piece]),
        };
        Reply::good(method, frames.into_iter().map(Frame::write).collect())
    }

    fn unary(&self, text: &str, end: End) -> Reply {
        let finish = match end {
            End::Error { status, .. } => {
                let refusal = Refusal::new(status, MID_STREAM_MESSAGE);
                return Reply::refused(&refusal, self.received.is_vertex());
            }
            End::Early { .. } => None,
            End::Cut { .. } | End::Stop => Some("STOP"),
            End::MaxTokens => Some("MAX_TOKENS"),
            End::Safety => Some("SAFETY"),
        };
        let body = pretty(&self.piece(Some(text), finish, text.chars().count()));
        let method = self.received.method;
        match end {
            End::Cut { .. } => {
                let half = body.as_bytes()[..body.len() / 2].to_vec();
                let mut reply = Reply::good(method, vec![Frame::write(half), Frame::Break]);
                reply.outcome = Outcome::Cut;
                reply
            }
            End::Early { .. } => Reply::spoilt(method, body),
            _ => Reply::good(method, vec![Frame::write(body)]),
        }
    }

    fn streamed(&self, text: &str, end: End, script: &Script) -> Reply {
        let texts = split(text);
        let (sent, is_whole) = match end {
            End::Cut { after_chunks }
            | End::Early { after_chunks }
            | End::Error { after_chunks, .. } => (texts.len().min(after_chunks), false),
            End::Stop | End::MaxTokens | End::Safety => (texts.len(), true),
        };
        let mut chars = 0;
        let mut pieces = Vec::new();
        for text in &texts[..sent] {
            chars += text.chars().count();
            pieces.push(self.piece(Some(text), None, chars));
        }
        if is_whole {
            let reason = match end {
                End::MaxTokens => "MAX_TOKENS",
                End::Safety => "SAFETY",
                _ => "STOP",
            };
            pieces.push(self.piece(None, Some(reason), chars));
        }
        let method = self.received.method;
        let mut texts = framed(method, &pieces);
        let is_broken = matches!(end, End::Cut { .. } | End::Error { .. });
        if is_broken && method == Method::StreamArray {
            texts.pop().expect("the end of the array is a piece");
        }
        let mut frames: Vec<Frame> = texts.into_iter().map(Frame::write).collect();
        if let Some(pause) = &script.pause {
            let at = pause.after_chunks.min(frames.len());
            frames.insert(at, Frame::Wait(pause.hold.clone()));
        }
        match end {
            End::Cut { .. } => frames.push(Frame::Break),
            End::Error { status, .. } => {
                let refusal = Refusal::new(status, MID_STREAM_MESSAGE);
                frames.push(Frame::write(pretty(
                    &refusal.body(self.received.is_vertex()),
                )));
            }
            End::Early { .. } | End::Stop | End::MaxTokens | End::Safety => {}
        }
        let mut reply = Reply::good(method, frames);
        if !is_whole {
            reply.outcome = Outcome::Cut;
        }
        reply
    }

    /// One `GenerateContentResponse`, with which so many characters are written. The last piece of a stream has a signature and no text.
    fn piece(&self, text: Option<&str>, finish: Option<&str>, chars: usize) -> Value {
        let mut part = json!({"text": text.unwrap_or_default()});
        let mut candidate = json!({"index": 0});
        if let Some(finish) = finish {
            part["thoughtSignature"] = SIGNATURE.into();
            candidate["finishReason"] = finish.into();
        }
        candidate["content"] = json!({"parts": [part], "role": "model"});
        let mut piece = json!({"candidates": [candidate]});
        self.sign(&mut piece, self.meter.after(chars));
        piece
    }

    /// Adds what every piece has.
    fn sign(&self, piece: &mut Value, usage: Value) {
        piece["usageMetadata"] = usage;
        piece["modelVersion"] = self.received.model.clone().into();
        piece["responseId"] = format!("fake-{}", self.received.n).into();
        if self.received.is_vertex() {
            piece["createTime"] = self.received.at.to_rfc3339().into();
        }
    }
}

/// The pieces as events, or as items of one array with its end as a piece of its own.
fn framed(method: Method, pieces: &[Value]) -> Vec<String> {
    if method == Method::Stream {
        return pieces
            .iter()
            .map(|piece| format!("data: {piece}\r\n\r\n"))
            .collect();
    }
    let mut framed: Vec<String> = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| {
            let lead = if index == 0 { "[" } else { "," };
            format!("{lead}{piece}\r\n")
        })
        .collect();
    framed.push("]".to_owned());
    framed
}

/// Cuts a text into pieces, never within a character.
fn split(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let length = chars.len().div_ceil(TEXT_PIECES).clamp(1, MAX_PIECE_CHARS);
    chars
        .chunks(length)
        .map(|piece| piece.iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_text_is_split_without_loss() {
        for text in ["", "a", "Hello", "héllo 🦀 wörld", &"long ".repeat(2_000)] {
            assert_eq!(split(text).concat(), text);
        }
        assert_eq!(split("Hello"), ["He", "ll", "o"]);
    }
}
