//! Does what the script of a request says.

use tokio::sync::watch;

use super::{Shared, stopped};
use crate::fake_gemini::answer::Answer;
use crate::fake_gemini::log::Entry;
use crate::fake_gemini::received::{Method, Outcome, Received};
use crate::fake_gemini::refusal::Refusal;
use crate::fake_gemini::reply::Reply;
use crate::fake_gemini::script::{Act, Script, Text};
use crate::fake_gemini::usage::Meter;
use crate::model::ModelErrorKind;

/// What ends a wait besides its hold.
pub(super) struct Waits {
    pub(super) releases: watch::Receiver<u64>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Shared {
    /// The reply to a request that was found good.
    pub(super) async fn reply(
        &self,
        received: &Received,
        entry: &Entry,
        waits: &mut Waits,
    ) -> Reply {
        if received.method == Method::Count {
            return Reply::count(received);
        }
        let script = self.scripts.take(received);
        if !script.delay.is_zero() {
            tokio::time::sleep(script.delay).await;
        }
        let is_hanging = matches!(script.act, Act::Hang);
        if is_hanging || script.hold.is_some() {
            entry.note(Outcome::Held);
            let passed = async {
                match &script.hold {
                    Some(hold) => hold.pass().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                _ = waits.releases.changed() => {}
                () = stopped(waits.stopping.clone()) => return Reply::broken(),
            }
            entry.note(Outcome::Open);
        }
        let reply = self.act(received, &script).await;
        if script.pieces.is_empty() {
            reply
        } else {
            reply.in_pieces(&script.pieces)
        }
    }

    async fn act(&self, received: &Received, script: &Script) -> Reply {
        let answer = Answer {
            received,
            meter: Meter::new(received),
        };
        let is_vertex = received.is_vertex();
        let refusal = match &script.act {
            Act::Reply(Text::Fixed(text)) => return answer.of_text(text, script),
            Act::Reply(Text::With(write)) => return answer.of_text(&write(received), script),
            Act::Reply(Text::Fallback) => match self.fallback.answer(received).await {
                Ok(text) => return answer.of_text(&text, script),
                Err(error) if error.kind == ModelErrorKind::Blocked => return answer.blocked(),
                Err(error) => Refusal::of_error(&error, &received.model, is_vertex),
            },
            Act::SafetyBlock => return answer.blocked(),
            Act::EmptyCandidates => return answer.empty(),
            Act::MalformedJson => return answer.malformed(),
            Act::Garbage(bytes) => return Reply::spoilt(received.method, bytes.clone()),
            Act::RateLimited {
                retry_info,
                retry_after,
            } => Refusal::rate_limited(&received.model, is_vertex, *retry_info, *retry_after),
            Act::DailyQuota => Refusal::daily_quota(&received.model),
            Act::Overloaded => Refusal::overloaded(),
            Act::ServerError => Refusal::server_error(),
            Act::Unauthorized => Refusal::unauthorized("ACCESS_TOKEN_EXPIRED"),
            Act::Hang => Refusal::too_late(),
        };
        Reply::refused(&refusal, is_vertex)
    }
}
