//! How one request is answered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::hold::Hold;
use super::received::Received;

/// How one request is answered: well, or with one of the ways in which the real server fails.
///
/// How an answer ends ([`cut_after`](Self::cut_after) and its like) matters to scripts that have
/// text: [`answer`](Self::answer), [`answer_with`](Self::answer_with) and [`fallback`](Self::fallback).
///
/// ```
/// use std::time::Duration;
/// use velo_agents::fake_gemini::{FakeGemini, Script};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let fake = FakeGemini::start().await?;
/// fake.next(Script::rate_limited(Some(Duration::from_secs(7)), None));
/// fake.next(Script::answer("hello"));
/// fake.always_of("oracle", "draft_prd", Script::answer_with(|asked| asked.system.clone()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) act: Act,
    pub(super) end: End,
    pub(super) delay: Duration,
    pub(super) hold: Option<Hold>,
    pub(super) pause: Option<Pause>,
    pub(super) pieces: Vec<usize>,
}

/// A stop in the middle of a streamed reply.
#[derive(Debug, Clone)]
pub(super) struct Pause {
    pub(super) after_chunks: usize,
    pub(super) hold: Hold,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Reply(Text),
    RateLimited {
        retry_info: Option<Duration>,
        retry_after: Option<Duration>,
    },
    DailyQuota,
    Overloaded,
    ServerError,
    Unauthorized,
    Hang,
    MalformedJson,
    Garbage(Vec<u8>),
    SafetyBlock,
    EmptyCandidates,
}

/// Where the text of a reply comes from.
#[derive(Clone)]
pub(super) enum Text {
    Fixed(String),
    With(Arc<dyn Fn(&Received) -> String + Send + Sync>),
    Fallback,
}

/// How a reply that has text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    MaxTokens,
    Safety,
    Cut { after_chunks: usize },
    Early { after_chunks: usize },
    Error { after_chunks: usize, status: u16 },
}

impl Script {
    fn new(act: Act) -> Self {
        Self {
            act,
            end: End::Stop,
            delay: Duration::ZERO,
            hold: None,
            pause: None,
            pieces: Vec::new(),
        }
    }

    /// Answers with `text`, or with as much of it as the request's token limit allows.
    #[must_use]
    pub fn answer(text: impl Into<String>) -> Self {
        Self::new(Act::Reply(Text::Fixed(text.into())))
    }

    /// Answers with what `write` makes of the request.
    #[must_use]
    pub fn answer_with(write: impl Fn(&Received) -> String + Send + Sync + 'static) -> Self {
        Self::new(Act::Reply(Text::With(Arc::new(write))))
    }

    /// Leaves the answer to the server's [`Fallback`](super::Fallback); to be held or delayed, or
    /// to let some requests pass before another script.
    #[must_use]
    pub fn fallback() -> Self {
        Self::new(Act::Reply(Text::Fallback))
    }

    /// 429, too many requests a minute, with the time to wait in the body (`RetryInfo`), in the
    /// header `Retry-After` (in whole seconds), in both or in none.
    #[must_use]
    pub fn rate_limited(retry_info: Option<Duration>, retry_after: Option<Duration>) -> Self {
        Self::new(Act::RateLimited {
            retry_info,
            retry_after,
        })
    }

    /// 429, the quota of a day is used up.
    #[must_use]
    pub fn daily_quota() -> Self {
        Self::new(Act::DailyQuota)
    }

    /// 503, the model is overloaded.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(Act::Overloaded)
    }

    /// 500.
    #[must_use]
    pub fn server_error() -> Self {
        Self::new(Act::ServerError)
    }

    /// 401, whatever credentials came.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Act::Unauthorized)
    }

    /// Takes the request and never answers. [`FakeGemini::release`](super::FakeGemini::release)
    /// ends it with 504.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Act::Hang)
    }

    /// 200 with JSON that breaks off.
    #[must_use]
    pub fn malformed_json() -> Self {
        Self::new(Act::MalformedJson)
    }

    /// 200 with these bytes as body.
    #[must_use]
    pub fn garbage(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Act::Garbage(bytes.into()))
    }

    /// Blocks the prompt.
    #[must_use]
    pub fn safety_block() -> Self {
        Self::new(Act::SafetyBlock)
    }

    /// A reply without any candidate.
    #[must_use]
    pub fn empty_candidates() -> Self {
        Self::new(Act::EmptyCandidates)
    }

    /// The same answer, ended by the token limit: all of its text arrives, and the client is told
    /// that there would have been more.
    #[must_use]
    pub fn at_token_limit(self) -> Self {
        self.ending(End::MaxTokens)
    }

    /// The same answer, broken off by a safety filter once its text has been written.
    #[must_use]
    pub fn stopped_by_filter(self) -> Self {
        self.ending(End::Safety)
    }

    /// The same answer, but the connection breaks after `after_chunks` pieces of its text. A unary
    /// reply breaks in the middle.
    #[must_use]
    pub fn cut_after(self, after_chunks: usize) -> Self {
        self.ending(End::Cut { after_chunks })
    }

    /// The same answer, but after `after_chunks` pieces of its text it ends in good order and
    /// without a reason to end.
    #[must_use]
    pub fn ended_after(self, after_chunks: usize) -> Self {
        self.ending(End::Early { after_chunks })
    }

    /// The same answer, but after `after_chunks` pieces of its text comes an error with this
    /// `status`, as bare JSON in the stream. A unary request gets the error alone.
    #[must_use]
    pub fn error_after(self, after_chunks: usize, status: u16) -> Self {
        self.ending(End::Error {
            after_chunks,
            status,
        })
    }

    fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// The same, but not before `delay` is over.
    #[must_use]
    pub fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, but not before the returned [`Hold`] is released; until then the request is
    /// [`Held`](super::Outcome::Held) in the log.
    #[must_use]
    pub fn held(mut self) -> (Self, Hold) {
        let hold = self.hold.get_or_insert_default().clone();
        (self, hold)
    }

    /// The same, but what comes after `after_chunks` pieces of a streamed reply waits for the
    /// returned [`Hold`].
    #[must_use]
    pub fn paused_after(mut self, after_chunks: usize) -> (Self, Hold) {
        let hold = Hold::new();
        self.pause = Some(Pause {
            after_chunks,
            hold: hold.clone(),
        });
        (self, hold)
    }

    /// The same, with the bytes of the body written in pieces of these lengths, then the rest at once.
    /// Takes the place of [`paused_after`](Self::paused_after).
    #[must_use]
    pub fn in_pieces(mut self, lengths: impl Into<Vec<usize>>) -> Self {
        self.pieces = lengths.into();
        self
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed",
            Self::With(_) => "With",
            Self::Fallback => "Fallback",
        })
    }
}
