//! Waiting for people, times and messages, without holding a worker.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::scene::lock;
use super::{Context, Scene};
use crate::codec::SealError;
use crate::error::{NodeError, NodeErrorKind};
use crate::state::State;
use crate::storable;
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
    /// once. An answer that is no `T` is refused, and the question stays open.
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
    pub fn ask<T: DeserializeOwned>(
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
    /// Messages come by [`Engine::signal`](crate::Engine::signal), also before anybody waits for them.
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
    /// Tells the person the JSON Schema of the answer.
    pub fn schema(mut self, schema: Value) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Goes on with `default` when there is no answer within `time`; later answers are refused.
    pub fn or_after(mut self, time: Duration, default: T) -> Self {
        self.default = Some((time, default));
        self
    }

    async fn answered(self) -> Result<T, NodeError> {
        let question = self.question.map_err(NodeError::permanent)?;
        let seen = self.scene.look(&self.name)?;
        let within = self.default.as_ref().map(|(time, _)| *time);
        let mut refusal = None;
        match (seen, self.default) {
            (
                Some(Seen {
                    answer: Some(answer),
                    ..
                }),
                _,
            ) => match serde_json::from_value(answer) {
                Ok(answer) => return Ok(answer),
                Err(error) => refusal = Some(error.to_string()),
            },
            (Some(Seen { is_due: true, .. }), Some((_, default))) => return Ok(default),
            _ => (),
        }
        let (vault, name) = (&self.scene.vault, self.name.as_str());
        let limits = vault.limits();
        let fits = limits.check_json(name, Some(&self.scene.node), &question);
        fits.map_err(|error| error.of_node())?;
        let home = |what| self.scene.home(what, name);
        let sealed = || {
            let schema = self
                .schema
                .map(|schema| vault.seal_json(home("schema"), schema));
            let refusal = refusal.map(|why| vault.seal_text(home("refusal"), &why));
            let ask = WaitKind::Ask {
                question: vault.seal_json(home("question"), question)?,
                schema: schema.transpose()?,
                within,
            };
            Ok((ask, refusal.transpose()?))
        };
        let (ask, refusal) = sealed().map_err(|error: SealError| error.of_node())?;
        self.scene.wait(self.name.clone(), ask, refusal).await
    }
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
}

impl Seen {
    pub(crate) fn has_come(&self) -> bool {
        self.answer.is_some() || self.is_due
    }
}

impl Scene {
    /// What there is of a wait of this name; takes the name for this attempt.
    fn look(&self, name: &str) -> Result<Option<Seen>, NodeError> {
        self.reserve_name(name)?;
        Ok(lock(&self.waits).seen.get(name).cloned())
    }

    fn take_signal(&self, name: &str) -> Option<Value> {
        let signal = {
            let mut signals = lock(&self.signals);
            let place = signals.iter().position(|signal| signal.name == name)?;
            signals.remove(place)
        };
        let payload = signal.payload.clone();
        lock(&self.waits).taken.push(signal);
        Some(payload)
    }

    /// Notes what is waited for, and never returns: once nothing else of the attempt is under way, it
    /// is dropped.
    pub(super) async fn wait<T>(&self, name: String, kind: WaitKind, refusal: Option<String>) -> T {
        lock(&self.waits).new.push(NewWait {
            name,
            kind,
            refusal,
        });
        self.asked.notify_one();
        std::future::pending().await
    }
}
