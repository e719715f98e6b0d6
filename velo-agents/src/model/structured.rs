//! A typed reply from a model that only writes text.
//!
//! [`Structured`] is pure: it holds the request that is to be sent next and is shown each reply.
//! Whoever sends can therefore keep every paid reply (`cx.step`) and never pay for one twice.
//!
//! A reply is parsed strictly, else mended where the mending is certain ([`repair`]), and then
//! held against the JSON Schema, the type and the caller's own checks. What is wrong is sent back
//! at most [`MAX_REASKS`] times. A reply that was cut is never taken for a whole one: the cap is
//! doubled once instead. Nothing is ever made up in place of a reply.

mod finding;
mod repair;

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use finding::Finding;
pub use repair::repair;

use super::{
    ChatReply, ChatRequest, Finish, ModelError, ModelErrorKind, Role, Turn, Usage, schema,
};
use crate::prompt::{self, Prompt};

/// How often a reply that is not right is sent back.
pub const MAX_REASKS: u32 = 2;
/// Most calls that one answer can take: the first, the sent back ones, and one with a higher cap.
pub const MAX_CALLS: u32 = 1 + MAX_REASKS + 1;
/// Most problems that are told to the model at once.
const MAX_TOLD: usize = 30;
/// Most bytes of a wrong reply that are shown to the model again.
const MAX_SHOWN_BYTES: usize = 200_000;
/// Most problems that an error message names.
const MAX_NAMED: usize = 3;

type Checks<T> = Box<dyn Fn(&T) -> Vec<Finding> + Send + Sync>;

/// An answer of type `T` in the making.
///
/// ```
/// use schemars::JsonSchema;
/// use serde::Deserialize;
/// use velo_agents::model::structured::{Finding, Progress, Structured};
/// use velo_agents::model::{ChatReply, ChatRequest, Finish, Role, Tier, Turn, Usage};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Verdict {
///     reason: String,
///     score: u32,
/// }
///
/// let request = ChatRequest {
///     agent: "verdict".into(),
///     purpose: "judge".into(),
///     tier: Tier::Flash,
///     system: "You judge.".into(),
///     turns: vec![Turn { role: Role::User, text: "How good is it?".into() }],
///     schema: None,
///     temperature: None,
///     max_output_tokens: 500,
/// };
/// let mut asked = Structured::<Verdict>::new(request, |verdict| {
///     let is_high = verdict.score > 100;
///     is_high.then(|| Finding::new("/score", "must be at most 100")).into_iter().collect()
/// });
/// let reply = |text: &str| ChatReply {
///     text: text.into(),
///     model: "some-model".into(),
///     finish: Finish::Stop,
///     usage: Usage::default(),
/// };
///
/// let first = asked.take(&reply(r#"{"reason": "fine", "score": 900}"#));
/// assert!(matches!(first, Progress::Ask));
/// let problems = &asked.request().turns.last().expect("the model is asked again").text;
/// assert!(problems.contains("/score: must be at most 100"));
///
/// let second = asked.take(&reply(r#"{"reason": "fine", "score": 90}"#));
/// assert!(matches!(second, Progress::Done(Verdict { score: 90, .. })));
/// ```
pub struct Structured<T> {
    request: ChatRequest,
    /// The conversation without what was sent back.
    asked: Vec<Turn>,
    schema: Value,
    checks: Checks<T>,
    repair: &'static Prompt,
    reasks: u32,
    calls: u32,
    is_raised: bool,
    usage: Usage,
}

/// What a reply led to.
#[derive(Debug)]
pub enum Progress<T> {
    /// The answer.
    Done(T),
    /// [`Structured::request`] is to be sent next.
    Ask,
    /// There will be no answer: [`ModelErrorKind::InvalidOutput`], saying what was wrong.
    Failed(ModelError),
}

impl<T: DeserializeOwned + JsonSchema> Structured<T> {
    /// An answer to `request` that has the shape of `T` and in which `checks` find nothing.
    /// The request's schema is replaced by that of `T`.
    #[must_use]
    pub fn new(
        mut request: ChatRequest,
        checks: impl Fn(&T) -> Vec<Finding> + Send + Sync + 'static,
    ) -> Self {
        let schema = schema::root::<T>();
        request.schema = Some(schema.clone());
        Self {
            asked: request.turns.clone(),
            request,
            schema,
            checks: Box::new(checks),
            repair: prompt::repair(),
            reasks: 0,
            calls: 0,
            is_raised: false,
            usage: Usage::default(),
        }
    }

    /// Has wrong replies sent back with the words of `prompt`, which has the one placeholder
    /// `problems` and whose purpose the new request takes over.
    #[must_use]
    pub fn with_repair(mut self, prompt: &'static Prompt) -> Self {
        self.repair = prompt;
        self
    }

    /// The request that is to be sent next.
    #[must_use]
    pub fn request(&self) -> &ChatRequest {
        &self.request
    }

    /// Replies seen so far; a name for the next call that is the same when a node runs again.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// What all replies so far consumed.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The prompt that sends back, while [`request`](Self::request) is one that does.
    #[must_use]
    pub fn repair_prompt(&self) -> Option<&'static Prompt> {
        (self.reasks > 0).then_some(self.repair)
    }

    /// Reads the reply to [`request`](Self::request). The same replies always lead to the same
    /// requests.
    pub fn take(&mut self, reply: &ChatReply) -> Progress<T> {
        self.calls += 1;
        self.usage += reply.usage;
        if reply.finish == Finish::MaxTokens {
            return self.raise();
        }
        match self.read(&reply.text) {
            Ok(answer) => Progress::Done(answer),
            Err(problems) if self.reasks < MAX_REASKS => self.send_back(&reply.text, &problems),
            Err(problems) => Progress::Failed(self.gave_up(&problems)),
        }
    }

    fn read(&self, text: &str) -> Result<T, Vec<String>> {
        let value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(strict) => {
                repair(text).ok_or_else(|| vec![format!("(the whole): is not JSON: {strict}")])?
            }
        };
        let problems = schema::problems(&value, &self.schema);
        if !problems.is_empty() {
            return Err(problems);
        }
        let answer: T = serde_json::from_value(value)
            .map_err(|typed| vec![format!("(the whole): does not fit: {typed}")])?;
        let findings = (self.checks)(&answer);
        if findings.is_empty() {
            return Ok(answer);
        }
        Err(findings.iter().map(ToString::to_string).collect())
    }

    /// The same request with room for twice as long a reply, once.
    fn raise(&mut self) -> Progress<T> {
        if self.is_raised {
            return Progress::Failed(ModelError::new(
                ModelErrorKind::InvalidOutput,
                format!(
                    "could not get the whole answer for `{}`: the reply was cut at {} tokens, twice the first cap; ask for less at once or raise the cap",
                    self.request.purpose, self.request.max_output_tokens
                ),
            ));
        }
        self.is_raised = true;
        self.request.max_output_tokens = self.request.max_output_tokens.saturating_mul(2);
        Progress::Ask
    }

    /// Only the last wrong reply is shown again: older ones would cost tokens and mislead.
    fn send_back(&mut self, text: &str, problems: &[String]) -> Progress<T> {
        self.reasks += 1;
        let mut told: Vec<String> = problems
            .iter()
            .take(MAX_TOLD)
            .map(|problem| format!("- {problem}"))
            .collect();
        if problems.len() > MAX_TOLD {
            told.push(format!("- and {} more", problems.len() - MAX_TOLD));
        }
        let told = told.join("\n");
        let words = match self.repair.user(&[("problems", &told)]) {
            Ok(words) => words,
            Err(wrong) => {
                return Progress::Failed(
                    ModelError::new(
                        ModelErrorKind::InvalidOutput,
                        format!("could not ask again for `{}`", self.request.purpose),
                    )
                    .with_source(wrong),
                );
            }
        };
        self.request.turns.clone_from(&self.asked);
        self.request.turns.push(Turn {
            role: Role::Model,
            text: shown(text),
        });
        self.request.turns.push(Turn {
            role: Role::User,
            text: words,
        });
        if let Some(purpose) = self.repair.purpose() {
            purpose.clone_into(&mut self.request.purpose);
        }
        Progress::Ask
    }

    fn gave_up(&self, problems: &[String]) -> ModelError {
        let named: Vec<&str> = problems
            .iter()
            .take(MAX_NAMED)
            .map(String::as_str)
            .collect();
        let more = match problems.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        ModelError::new(
            ModelErrorKind::InvalidOutput,
            format!(
                "could not use the model's answer for `{}`, also after asking again {} times: {}{more}; look at the reply and answer in its place, or try another model",
                self.request.purpose,
                self.reasks,
                named.join("; ")
            ),
        )
    }
}

/// A provider refuses a turn without text, and a very long one is paid for again.
fn shown(text: &str) -> String {
    if text.trim().is_empty() {
        return "(no text)".to_owned();
    }
    if text.len() <= MAX_SHOWN_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_SHOWN_BYTES);
    format!("{}\n(the rest is not shown)", &text[..end])
}

impl<T> fmt::Debug for Structured<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Structured")
            .field("request", &self.request)
            .field("reasks", &self.reasks)
            .field("calls", &self.calls)
            .field("is_raised", &self.is_raised)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
