//! Waiting for whichever of several things comes first.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scene::lock;
use super::wait::NewAsk;
use super::{Context, Scene, Seen};
use crate::error::{NodeError, NodeErrorKind};
use crate::failpoint;
use crate::json_schema;
use crate::state::State;
use crate::store::select::{Decided, Spot};
use crate::store::wait::StoredSignal;
use crate::store::{self, Backoff};
use crate::wait::{NewWait, Until, WaitKind};

type Read<O> = Box<dyn FnOnce(Value) -> Result<O, serde_json::Error> + Send>;

/// Things of which one is waited for. Await it; see [`Context::select`].
#[must_use = "nothing is waited for before it is awaited"]
pub struct Select<O> {
    scene: Arc<Scene>,
    name: String,
    branches: Vec<Branch<O>>,
}

struct Branch<O> {
    name: String,
    kind: Kind<O>,
}

enum Kind<O> {
    Signal(Read<O>),
    Ask {
        question: Result<Value, String>,
        schema: Value,
        read: Read<O>,
    },
    Timer(Until, O),
}

/// What won, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Winner {
    Signal { name: String, id: i64 },
    Timer,
}

impl<S: State, I> Context<S, I> {
    /// Waits for whichever of several things comes first, without holding a worker: messages, answers, a
    /// time. `name` is unique in the node; each thing that may come is made an `O`.
    ///
    /// There is one winner, which is decided in the database: however often the node runs again after that,
    /// it is the same one, with the same message. What has lost is left alone: its messages are there for
    /// later, and its questions are closed. An answer that was accepted always wins; of what else has come
    /// when the node looks, what is named first.
    ///
    /// `tokio::select!` of the waits themselves has one winner too, but may have another one when the node
    /// runs again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { note: String }
    /// enum Came { Paid(u64), Called(String), Nothing }
    ///
    /// async fn wait(cx: Context<Order>) -> NodeResult<Order> {
    ///     let came = cx
    ///         .select("payment")
    ///         .signal("paid", Came::Paid)
    ///         .ask("called", &"did the customer call?", Came::Called)
    ///         .after(Duration::from_secs(3 * 24 * 3600), Came::Nothing);
    ///     let note = match came.await? {
    ///         Came::Paid(cents) => format!("paid {cents}"),
    ///         Came::Called(said) => said,
    ///         Came::Nothing => "reminded".to_owned(),
    ///     };
    ///     Ok(Order::update().note(note).into())
    /// }
    /// ```
    pub fn select<O>(&self, name: impl Into<String>) -> Select<O> {
        Select {
            scene: Arc::clone(&self.scene),
            name: name.into(),
            branches: Vec::new(),
        }
    }
}

impl<O> Select<O> {
    /// Or a message of this name.
    pub fn signal<T: DeserializeOwned>(
        self,
        name: impl Into<String>,
        make: impl FnOnce(T) -> O + Send + 'static,
    ) -> Self {
        self.or(name.into(), Kind::Signal(reading(make)))
    }

    /// Or an answer to this question.
    pub fn ask<T: DeserializeOwned + JsonSchema>(
        self,
        name: impl Into<String>,
        question: &impl Serialize,
        make: impl FnOnce(T) -> O + Send + 'static,
    ) -> Self {
        let kind = Kind::Ask {
            question: serde_json::to_value(question).map_err(|error| error.to_string()),
            schema: json_schema::of::<T>(),
            read: reading(make),
        };
        self.or(name.into(), kind)
    }

    /// Or this much time, counted from the first attempt by the database's clock. Of several times the last
    /// one counts.
    pub fn after(self, time: Duration, made: O) -> Self {
        self.until(Until::After(time), made)
    }

    /// Or this point in time. Of several times the last one counts.
    pub fn at(self, time: DateTime<Utc>, made: O) -> Self {
        self.until(Until::At(time), made)
    }

    fn until(mut self, until: Until, made: O) -> Self {
        let is_other = |branch: &Branch<O>| !matches!(branch.kind, Kind::Timer(..));
        self.branches.retain(is_other);
        let name = self.name.clone();
        self.or(name, Kind::Timer(until, made))
    }

    fn or(mut self, name: String, kind: Kind<O>) -> Self {
        self.branches.push(Branch { name, kind });
        self
    }

    async fn won(mut self) -> Result<O, NodeError> {
        let timer = self.scene.look(&self.name)?;
        if self.branches.is_empty() {
            let name = &self.name;
            return Err(NodeError::permanent(format!(
                "select `{name}` has nothing to wait for: give it a message, a question or a time"
            )));
        }
        let mut answered = None;
        for (index, branch) in self.branches.iter().enumerate() {
            let Kind::Ask { question, .. } = &branch.kind else {
                continue;
            };
            question.as_ref().map_err(NodeError::permanent)?;
            if let Some(Seen {
                answer: Some(answer),
                ..
            }) = self.scene.look(&branch.name)?
            {
                answered = Some((index, answer));
            }
        }
        if let Some(kept) = self.scene.decision(&self.name) {
            return self.take(&kept);
        }
        if let Some((index, answer)) = answered {
            let Branch { name, kind } = self.branches.remove(index);
            if let Kind::Ask {
                question,
                schema,
                read,
            } = kind
            {
                let error = match read(answer) {
                    Ok(made) => return Ok(made),
                    Err(error) => error,
                };
                // What else has come is looked for when the refusal is stored.
                let refused = NewAsk {
                    question: question.map_err(NodeError::permanent)?,
                    schema: Some(schema),
                    within: None,
                    refusal: Some(error.to_string()),
                };
                let refused = NewWait {
                    race: Some(self.name.clone()),
                    ..self.scene.sealed_ask(name, refused)?
                };
                return self.wait(vec![refused]).await;
            }
        }
        let is_due = timer.is_some_and(|timer| timer.is_due);
        while let Some(winner) = self.first(is_due) {
            match self.scene.decide(&self.name, &winner).await? {
                Decided::So(kept) => return self.take(&kept),
                // The message is gone, perhaps by a commit that came late: what else is there?
                Decided::Taken => {}
                Decided::Answered => break,
                Decided::Lost => return self.scene.lose().await,
            }
        }
        self.wait(Vec::new()).await
    }

    /// What has come, if anything has: a message is taken out of what others may take.
    fn first(&self, is_due: bool) -> Option<Winner> {
        self.branches.iter().find_map(|branch| match branch.kind {
            Kind::Signal(_) => {
                let id = self.scene.oldest_signal(&branch.name)?;
                let name = branch.name.clone();
                Some(Winner::Signal { name, id })
            }
            Kind::Timer(..) => is_due.then_some(Winner::Timer),
            Kind::Ask { .. } => None,
        })
    }

    /// Goes on with what was decided for.
    fn take(self, decision: &[u8]) -> Result<O, NodeError> {
        let unreadable = |error| NodeError::of(NodeErrorKind::Permanent, &error);
        let winner: Winner = serde_json::from_slice(decision).map_err(unreadable)?;
        let gone = || {
            let name = &self.name;
            NodeError::permanent(format!(
                "select `{name}` was decided for something that it no longer waits for: was the code changed while the run was under way?"
            ))
        };
        match winner {
            Winner::Timer => {
                let gone = gone();
                let made = self
                    .branches
                    .into_iter()
                    .find_map(|branch| match branch.kind {
                        Kind::Timer(_, made) => Some(made),
                        _ => None,
                    });
                made.ok_or(gone)
            }
            Winner::Signal { name, id } => {
                let gone = gone();
                let payload = self.scene.take_kept_signal(&name, id).ok_or_else(|| {
                    NodeError::permanent(format!(
                        "the message `{name}` that was decided for is gone"
                    ))
                })?;
                let read = self
                    .branches
                    .into_iter()
                    .find_map(|branch| match branch.kind {
                        Kind::Signal(read) if branch.name == name => Some(read),
                        _ => None,
                    });
                read.ok_or(gone)?(payload).map_err(unreadable)
            }
        }
    }

    /// Notes all that is waited for, and never returns.
    async fn wait(self, mut waits: Vec<NewWait>) -> Result<O, NodeError> {
        let race = self.name;
        for branch in self.branches {
            let plain = |kind| NewWait {
                name: branch.name.clone(),
                kind,
                refusal: None,
                race: None,
            };
            let wait = match branch.kind {
                Kind::Signal(_) => plain(WaitKind::Signal),
                Kind::Timer(until, _) => plain(WaitKind::Sleep { until }),
                Kind::Ask {
                    question, schema, ..
                } => {
                    let ask = NewAsk {
                        question: question.map_err(NodeError::permanent)?,
                        schema: Some(schema),
                        within: None,
                        refusal: None,
                    };
                    self.scene.sealed_ask(branch.name, ask)?
                }
            };
            waits.push(NewWait {
                race: Some(race.clone()),
                ..wait
            });
        }
        self.scene.wait_for(waits).await
    }
}

fn reading<T: DeserializeOwned, O>(make: impl FnOnce(T) -> O + Send + 'static) -> Read<O> {
    Box::new(move |value| serde_json::from_value(value).map(make))
}

impl<O: Send + 'static> IntoFuture for Select<O> {
    type Output = Result<O, NodeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    /// A permanent error when a name is used twice by one attempt, a question has no JSON form, the message
    /// that has won is no `T`, or there is nothing to wait for.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.won())
    }
}

impl<O> fmt::Debug for Select<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.branches.iter().map(|branch| branch.name.as_str());
        f.debug_struct("Select")
            .field("name", &self.name)
            .field("branches", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Scene {
    /// What an earlier attempt has decided.
    fn decision(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.memos).kept.get(name).cloned()
    }

    fn oldest_signal(&self, name: &str) -> Option<i64> {
        let signals = lock(&self.signals);
        let mut of_name = signals.iter();
        let signal = of_name.find(|signal| signal.name == name && signal.kept.is_none())?;
        Some(signal.id)
    }

    /// Takes the message that was decided for, for this attempt. In a run that was imported it has another
    /// id.
    fn take_kept_signal(&self, name: &str, id: i64) -> Option<Value> {
        let is_kept = |signal: &StoredSignal| signal.name == name && signal.kept == Some(self.task);
        let mut signal = self
            .remove_signal(|signal| signal.id == id)
            .or_else(|| self.remove_signal(is_kept))?;
        signal.kept = Some(self.task);
        let payload = signal.payload.clone();
        lock(&self.waits).taken.push(signal);
        Some(payload)
    }

    /// Decides in the database, however long that takes to come back while the lease may still hold.
    async fn decide(&self, name: &str, winner: &Winner) -> Result<Decided, NodeError> {
        let decision = serde_json::to_vec(winner)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
        let signal = match winner {
            Winner::Signal { id, .. } => Some(*id),
            Winner::Timer => None,
        };
        // No other attempt of the step may take it meanwhile.
        if let Some(id) = signal {
            self.keep_signal(id, true);
        }
        let spot = Spot {
            lease: self.lease,
            seq: self.seq,
            task: self.task,
            name,
        };
        let home = self.home("memo", name);
        let sealed = self.vault.seal_copy(home, &decision);
        let sealed = sealed.map_err(|error| error.of_node())?;
        failpoint::hit("memo.before");
        let mut backoff = Backoff::default();
        let mut decided = loop {
            match store::select::decide(&self.pool, spot, &sealed, signal).await {
                Ok(decided) => break decided,
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %self.lease.run, select.name = name, %error, "could not decide yet");
                    backoff.wait().await;
                }
                Err(error) => return Err(NodeError::of(NodeErrorKind::Permanent, &error)),
            }
        };
        failpoint::hit("memo.after");
        if let Decided::So(kept) = &mut decided {
            let opened = self.vault.open(home, kept);
            opened.map_err(|error| error.of_node())?;
        }
        match (&decided, signal) {
            (Decided::So(kept), signal) => {
                lock(&self.memos).kept.insert(name.to_owned(), kept.clone());
                if let Some(id) = signal.filter(|_| *kept != decision) {
                    self.keep_signal(id, false);
                }
            }
            (Decided::Taken, Some(id)) => drop(self.remove_signal(|signal| signal.id == id)),
            (Decided::Answered | Decided::Lost, Some(id)) => self.keep_signal(id, false),
            (_, None) => (),
        }
        Ok(decided)
    }

    fn keep_signal(&self, id: i64, is_kept: bool) {
        let mut signals = lock(&self.signals);
        if let Some(signal) = signals.iter_mut().find(|signal| signal.id == id) {
            signal.kept = is_kept.then_some(self.task);
        }
    }
}
