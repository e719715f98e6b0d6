//! Waiting for people, times and messages, without holding a worker.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::scene::lock;
use super::{Context, Scene};
use crate::codec::SealError;
use crate::error::{NodeError, NodeErrorKind};
use crate::failpoint;
use crate::json_schema;
use crate::state::State;
use crate::storable;
use crate::store::question::Closed;
use crate::store::wait::StoredSignal;
use crate::store::{self, Backoff};
use crate::wait::{NewWait, Until, WaitKind};

/// A question about to be asked. Await it; see [`Context::ask`].
#[must_use = "nothing is asked before it is awaited"]
#[derive(Debug)]
pub struct Ask<T> {
    scene: Arc<Scene>,
    name: String,
    question: Result<Value, String>,
    schema: Option<Value>,
    default: Option<(Duration, T)>,
    answer: PhantomData<fn() -> T>,
}

impl<S: State, I> Context<S, I> {
    /// Asks somebody outside, and waits for the answer without holding a worker: once nothing else of
    /// the node is under way, the node is dropped, the run waits in the database, and the node runs
    /// again from its beginning when [`Engine::answer`](crate::Engine::answer) has come. What must not
    /// happen again belongs into [`step`](Self::step).
    ///
    /// Questions are told apart by their names, which are unique in a node; several may be open at
    /// once. The JSON Schema of `T` is stored with the question. An answer that does not fit it is refused
    /// when it is given; one that is no `T` all the same, when the node sees it. Either way the question
    /// stays open.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Report { draft: String, approved: bool }
    /// async fn review(cx: Context<Report>) -> NodeResult<Report> {
    ///     let approved: bool = cx.ask("approve", &cx.state().draft).await?;
    ///     Ok(Report::update().approved(approved).into())
    /// }
    /// ```
    pub fn ask<T: DeserializeOwned + JsonSchema>(
        &self,
        name: impl Into<String>,
        question: &impl Serialize,
    ) -> Ask<T> {
        self.ask_without_schema(name, question)
            .schema(json_schema::of::<T>())
    }

    /// As [`ask`](Self::ask), for an answer whose type has no JSON Schema: what is no `T` is refused when the
    /// node sees it.
    pub fn ask_without_schema<T: DeserializeOwned>(
        &self,
        name: impl Into<String>,
        question: &impl Serialize,
    ) -> Ask<T> {
        Ask {
            scene: Arc::clone(&self.scene),
            name: name.into(),
            question: storable::to_value("question", question).map_err(|error| error.to_string()),
            schema: None,
            default: None,
            answer: PhantomData,
        }
    }

    /// Waits for a time without holding a worker; `name` is unique in the node. The time is counted
    /// from the first attempt, by the database's clock.
    ///
    /// # Errors
    /// A permanent error when the name is used twice by one attempt.
    ///
    /// # Cancel safety
    /// Nothing is lost: slept time counts.
    pub async fn sleep(
        &self,
        name: impl Into<String>,
        duration: Duration,
    ) -> Result<(), NodeError> {
        self.until(name.into(), Until::After(duration)).await
    }

    /// Waits until a point in time; otherwise as [`sleep`](Self::sleep).
    ///
    /// # Errors
    /// As [`sleep`](Self::sleep).
    ///
    /// # Cancel safety
    /// As [`sleep`](Self::sleep).
    pub async fn sleep_until(
        &self,
        name: impl Into<String>,
        time: DateTime<Utc>,
    ) -> Result<(), NodeError> {
        self.until(name.into(), Until::At(time)).await
    }

    async fn until(&self, name: String, until: Until) -> Result<(), NodeError> {
        match self.scene.look(&name)? {
            Some(Seen { is_due: true, .. }) => Ok(()),
            _ => self.scene.wait(name, WaitKind::Sleep { until }, None).await,
        }
    }

    /// Takes the oldest message of this name that no step has used, or waits for one without holding a
    /// worker. It counts as used when the step is committed, and only then.
    ///
    /// Messages come by [`Engine::signal`](crate::Engine::signal), also before anybody waits for them. To
    /// wait for one and something else, whichever comes first, see [`select`](Self::select).
    ///
    /// # Errors
    /// A permanent error when the message is no `T`.
    ///
    /// # Cancel safety
    /// A message that was not returned is not used.
    pub async fn signal<T: DeserializeOwned>(
        &self,
        name: impl Into<String>,
    ) -> Result<T, NodeError> {
        let name = name.into();
        match self.scene.take_signal(&name) {
            Some(payload) => serde_json::from_value(payload)
                .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error)),
            // Not a wait of its own: any number of takes may wait for the same name.
            None => self.scene.wait(name, WaitKind::Signal, None).await,
        }
    }
}

impl<T: DeserializeOwned> Ask<T> {
    /// Tells the person another JSON Schema of the answer than that of `T`, such as one with titles.
    pub fn schema(mut self, schema: Value) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Goes on with `default` when there is no answer within `time`, counted from the first attempt by the
    /// database's clock. Between an answer and the end of that time there is one winner: an answer that was
    /// accepted counts, and a later one is refused.
    pub fn or_after(mut self, time: Duration, default: T) -> Self {
        self.default = Some((time, default));
        self
    }

    async fn answered(self) -> Result<T, NodeError> {
        let question = self.question.map_err(NodeError::permanent)?;
        let mut answer = None;
        let within = self.default.as_ref().map(|(time, _)| *time);
        if let Some(seen) = self.scene.look(&self.name)? {
            answer = seen.answer;
            if let (None, Some((_, default))) = (&answer, self.default) {
                if seen.is_closed {
                    return Ok(default);
                }
                if seen.is_due {
                    match self.scene.close_question(&self.name).await? {
                        Closed::Unanswered => return Ok(default),
                        Closed::Answered(came) => answer = Some(came),
                    }
                }
            }
        }
        let refusal = match answer.map(serde_json::from_value) {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        };
        let ask = NewAsk {
            question,
            schema: self.schema,
            within,
            refusal,
        };
        let wait = self.scene.sealed_ask(self.name, ask)?;
        self.scene.wait_for([wait]).await
    }
}

/// A question before it is sealed.
pub(super) struct NewAsk {
    pub(super) question: Value,
    pub(super) schema: Option<Value>,
    pub(super) within: Option<Duration>,
    /// Why the answer that was there could not be used.
    pub(super) refusal: Option<String>,
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Ask<T> {
    type Output = Result<T, NodeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    /// A permanent error when the name is used twice by one attempt, or the question has no JSON form.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.answered())
    }
}

/// A wait that an earlier attempt has left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) answer: Option<Value>,
    pub(crate) is_due: bool,
    pub(crate) is_closed: bool,
}

impl Seen {
    pub(crate) fn has_come(&self) -> bool {
        self.answer.is_some() || self.is_due || self.is_closed
    }
}

impl Scene {
    /// What there is of a wait of this name; takes the name for this attempt.
    pub(super) fn look(&self, name: &str) -> Result<Option<Seen>, NodeError> {
        self.reserve_name(name)?;
        Ok(lock(&self.waits).seen.get(name).cloned())
    }

    fn take_signal(&self, name: &str) -> Option<Value> {
        let signal = self.remove_signal(|signal| signal.name == name && signal.kept.is_none())?;
        let payload = signal.payload.clone();
        lock(&self.waits).taken.push(signal);
        Some(payload)
    }

    /// The oldest message of which it is so, which no other attempt gets then.
    pub(super) fn remove_signal(
        &self,
        is_wanted: impl Fn(&StoredSignal) -> bool,
    ) -> Option<StoredSignal> {
        let mut signals = lock(&self.signals);
        let place = signals.iter().position(is_wanted)?;
        Some(signals.remove(place))
    }

    /// Closes a question whose time has passed, however long the database takes to come back while the
    /// lease may still hold.
    async fn close_question(&self, name: &str) -> Result<Closed, NodeError> {
        failpoint::hit("memo.before");
        let mut backoff = Backoff::default();
        let closed = loop {
            let (pool, lease) = (&self.pool, self.lease);
            match store::question::close(pool, lease, self.seq, self.task, name).await {
                Ok(Some(closed)) => break closed,
                Ok(None) => return self.lose().await,
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %lease.run, question.name = name, %error, "could not close a question yet");
                    backoff.wait().await;
                }
                Err(error) => return Err(NodeError::of(NodeErrorKind::Permanent, &error)),
            }
        };
        failpoint::hit("memo.after");
        match closed {
            Closed::Unanswered => Ok(Closed::Unanswered),
            Closed::Answered(mut answer) => {
                let opened = self.vault.open_json(self.home("answer", name), &mut answer);
                opened.map_err(|error| error.of_node())?;
                Ok(Closed::Answered(answer))
            }
        }
    }

    /// A question as it is stored.
    pub(super) fn sealed_ask(&self, name: String, ask: NewAsk) -> Result<NewWait, NodeError> {
        let limits = self.vault.limits();
        let fits = limits.check_json(&name, Some(&self.node), &ask.question);
        fits.map_err(|error| error.of_node())?;
        let home = |what| self.home(what, &name);
        let sealed = || {
            let schema = ask.schema;
            let schema = schema.map(|schema| self.vault.seal_json(home("schema"), schema));
            let refusal = ask.refusal;
            let refusal = refusal.map(|why| self.vault.seal_text(home("refusal"), &why));
            let kind = WaitKind::Ask {
                question: self.vault.seal_json(home("question"), ask.question)?,
                schema: schema.transpose()?,
                within: ask.within,
            };
            Ok((kind, refusal.transpose()?))
        };
        let (kind, refusal) = sealed().map_err(|error: SealError| error.of_node())?;
        Ok(NewWait {
            name,
            kind,
            refusal,
            race: None,
        })
    }

    /// Notes what is waited for, and never returns: once nothing else of the attempt is under way, it
    /// is dropped.
    pub(super) async fn wait<T>(&self, name: String, kind: WaitKind, refusal: Option<String>) -> T {
        let wait = NewWait {
            name,
            kind,
            refusal,
            race: None,
        };
        self.wait_for([wait]).await
    }

    pub(super) async fn wait_for<T>(&self, waits: impl IntoIterator<Item = NewWait>) -> T {
        lock(&self.waits).new.extend(waits);
        self.asked.notify_one();
        std::future::pending().await
    }
}
