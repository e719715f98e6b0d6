//! Asking a run for an update.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::engine::{Engine, EngineError, PAGE_MAX, RunStatus};
use crate::handlers::UpdateKey;
use crate::run_id::RunId;
use crate::state::State;
use crate::store;
use crate::store::update::{Asked, Found, OPEN_UPDATES_MAX};
use crate::updated::Refusal;
use crate::vault::Home;

pub use crate::store::update::RunUpdate;

const ASKING: &str = "ask the run for the update";
const READING: &str = "read the answer to the update";
/// How long an answer is waited for, unless it is said.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Longest id of an update, in bytes.
const ID_MAX: usize = 500;

impl Engine {
    /// Asks a run to change its state as its graph allows, and waits for the answer: await what is returned.
    ///
    /// The graph's [handler](crate::GraphBuilder::on_update) accepts or refuses it, in the worker that has the run
    /// or, when it waits, in any. The answer is durable when it is returned, and so is what was written: the state
    /// [has](Self::state) it. What the run waits for, it goes on waiting for. One that is at work answers after
    /// the step that is under way.
    ///
    /// The update happens once for each [`id`](UpdateRequest::id): asked again with the same id, as after an answer
    /// that was lost, the answer is the same, also when the run has ended since.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::{UpdateKey, prelude::*};
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { items: u32 }
    /// const CHANGE: UpdateKey<Order, u32, u64> = UpdateKey::new("change");
    ///
    /// # async fn example(engine: &Engine, run: RunId) -> Result<(), EngineError> {
    /// match engine.update(run, CHANGE, 3).id("click-9").await {
    ///     Ok(cents) => println!("that makes {cents}"),
    ///     Err(EngineError::UpdateRefused { refusal, .. }) => println!("{refusal}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<S: State, In: Serialize, Out: DeserializeOwned>(
        &self,
        run: RunId,
        key: UpdateKey<S, In, Out>,
        request: In,
    ) -> UpdateRequest<'_, Out> {
        UpdateRequest {
            engine: self,
            run,
            name: key.name(),
            request: self.storable("request", &request),
            id: None,
            within: PATIENCE,
            answer: PhantomData,
        }
    }

    /// The answer to an update that was asked for with this id; `None` while it is open.
    ///
    /// # Errors
    /// [`EngineError::UpdateRefused`]; [`EngineError::NoUpdate`] when it was never asked for;
    /// [`EngineError::Ended`] when the run ended before it came to the update; [`EngineError::NoRun`];
    /// [`EngineError::UpdateIdTaken`] when the id is that of another update; or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn update_answer<S: State, In, Out: DeserializeOwned>(
        &self,
        run: RunId,
        key: UpdateKey<S, In, Out>,
        id: &str,
    ) -> Result<Option<Out>, EngineError> {
        let found = store::update::get(self.pool(), run, id).await;
        let found = found.map_err(EngineError::on(READING))?;
        let found = found.ok_or(EngineError::NoRun(run))?;
        if !found.is_there {
            return Err(EngineError::NoUpdate {
                run,
                id: id.to_owned(),
            });
        }
        self.told_answer(run, key.name(), id, None, found)
    }

    /// The updates that a run was asked for, in that order, with their answers; at most `limit` and
    /// [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's, or [`EngineError::Sealed`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn updates(&self, run: RunId, limit: i64) -> Result<Vec<RunUpdate>, EngineError> {
        const LISTING: &str = "list the run's updates";
        let mut updates = store::update::list(self.pool(), run, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on(LISTING))?;
        for update in &mut updates {
            let home = |what| Home::named_of_run(run, what, &update.id);
            let mut opened = self
                .vault()
                .open_json(home("update request"), &mut update.request);
            if let Some(answer) = &mut update.answer {
                opened =
                    opened.and_then(|()| self.vault().open_json(home("update answer"), answer));
            }
            opened.map_err(EngineError::sealed(LISTING))?;
        }
        Ok(updates)
    }

    /// The answer, once there is one, to a request that is there. With `request`, only if that was asked for.
    fn told_answer<Out: DeserializeOwned>(
        &self,
        run: RunId,
        name: &str,
        id: &str,
        request: Option<&Value>,
        mut found: Found,
    ) -> Result<Option<Out>, EngineError> {
        let sealed = EngineError::sealed(READING);
        let home = |what| Home::named_of_run(run, what, id);
        let mut stored = found.request.take().unwrap_or_default();
        let mut opened = self.vault().open_json(home("update request"), &mut stored);
        if let Some(answer) = &mut found.answer {
            opened = opened.and_then(|()| self.vault().open_json(home("update answer"), answer));
        }
        opened.map_err(sealed)?;
        if found.name != name || request.is_some_and(|request| *request != stored) {
            return Err(EngineError::UpdateIdTaken {
                run,
                id: id.to_owned(),
            });
        }
        let unreadable = |source: serde_json::Error| EngineError::Unreadable {
            run,
            source: Box::new(source),
        };
        let answer = found.answer.unwrap_or_default();
        match found.verdict.as_deref() {
            Some("accepted") => serde_json::from_value(answer).map(Some).map_err(unreadable),
            Some(_) => Err(EngineError::UpdateRefused {
                run,
                name: name.to_owned(),
                refusal: Box::new(serde_json::from_value::<Refusal>(answer).map_err(unreadable)?),
            }),
            // Nobody will answer it any more.
            None if found.is_ended => Err(EngineError::Ended(run)),
            None => Ok(None),
        }
    }
}

/// An update about to be asked for. Await it, or [`in_tx`](Self::in_tx); see [`Engine::update`].
#[must_use = "nothing is asked for before it is awaited"]
pub struct UpdateRequest<'a, Out> {
    engine: &'a Engine,
    run: RunId,
    name: &'static str,
    request: Result<Value, EngineError>,
    id: Option<String>,
    within: Duration,
    answer: PhantomData<fn() -> Out>,
}

impl<Out: DeserializeOwned> UpdateRequest<'_, Out> {
    /// Makes a request that is sent again the same one: up to 500 bytes. Drawn by chance otherwise.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Waits this long for the answer instead of half a minute.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Asks when the transaction of `conn` commits, and only then; until then the run is neither claimed nor given
    /// back. Returns the id, by which the answer is found later: by the same update with that id, or by
    /// [`Engine::update_answer`].
    ///
    /// # Errors
    /// As when it is awaited, but that nothing is waited for.
    ///
    /// # Cancel safety
    /// Part of the caller's transaction.
    pub async fn in_tx(mut self, conn: &mut PgConnection) -> Result<String, EngineError> {
        let (request, id) = self.checked()?;
        let asked = self.ask(&mut *conn, &id, &request).await?;
        let found = store::update::get(conn, self.run, &id).await;
        self.found(
            &id,
            &request,
            Some(asked),
            found.map_err(EngineError::on(ASKING))?,
        )?;
        Ok(id)
    }

    fn checked(&mut self) -> Result<(Value, String), EngineError> {
        let request = std::mem::replace(&mut self.request, Ok(Value::Null))?;
        let id = self.id.take();
        let id = id.unwrap_or_else(|| Uuid::new_v4().to_string());
        if id.is_empty() || id.len() > ID_MAX || id.contains('\0') {
            return Err(EngineError::BadUpdateId);
        }
        Ok((request, id))
    }

    async fn ask(
        &self,
        db: impl sqlx::PgExecutor<'_>,
        id: &str,
        request: &Value,
    ) -> Result<Asked, EngineError> {
        let home = Home::named_of_run(self.run, "update request", id);
        let sealed = self.engine.vault().seal_json(home, request.clone());
        let sealed = sealed.map_err(EngineError::sealed(ASKING))?;
        let asked = store::update::ask(db, self.run, id, self.name, &sealed).await;
        asked.map_err(EngineError::on(ASKING))
    }

    /// The answer, once there is one.
    fn found(
        &self,
        id: &str,
        request: &Value,
        asked: Option<Asked>,
        found: Option<Found>,
    ) -> Result<Option<Out>, EngineError> {
        let run = self.run;
        let found = found.ok_or(EngineError::NoRun(run))?;
        if found.is_there {
            return self
                .engine
                .told_answer(run, self.name, id, Some(request), found);
        }
        Err(match asked.and_then(|asked| asked.status) {
            None => EngineError::Ended(run),
            Some(RunStatus::Paused) => EngineError::RunPaused(run),
            Some(_) => EngineError::TooManyUpdates {
                run,
                most: OPEN_UPDATES_MAX,
            },
        })
    }

    async fn answered(mut self) -> Result<Out, EngineError> {
        let (request, id) = self.checked()?;
        let until = Instant::now() + self.within;
        let (mut pause, longest) = PAUSES;
        let mut asked = None;
        loop {
            let error = match self.look(&id, &request, &mut asked).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => None,
                Err(error @ EngineError::Database { .. }) if error.is_transient() => Some(error),
                Err(error) => return Err(error),
            };
            if Instant::now() + pause > until {
                return Err(match error {
                    Some(error) => error,
                    None => self.open(id).await,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn look(
        &self,
        id: &str,
        request: &Value,
        asked: &mut Option<Asked>,
    ) -> Result<Option<Out>, EngineError> {
        let pool = self.engine.pool();
        if asked.is_none() {
            let now = self.ask(pool, id, request).await?;
            *asked = Some(now);
            self.engine.hint();
            if now.is_new && now.is_at_work {
                let called = store::update::call(pool).await;
                called.map_err(EngineError::on(ASKING))?;
            }
        }
        let found = store::update::get(pool, self.run, id).await;
        self.found(id, request, *asked, found.map_err(EngineError::on(ASKING))?)
    }

    /// That it was not answered in time, and why.
    async fn open(&self, id: String) -> EngineError {
        let run = self.run;
        let why = match self.engine.why(run).await {
            Ok(why) => why.to_string(),
            Err(error) => error.to_string(),
        };
        EngineError::UpdateOpen { run, id, why }
    }
}

impl<'a, Out: DeserializeOwned + Send + 'static> IntoFuture for UpdateRequest<'a, Out> {
    type Output = Result<Out, EngineError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Asks, and waits for the answer.
    ///
    /// Errors are [`EngineError::UpdateRefused`] with what the handler said; [`EngineError::UpdateOpen`] when it was
    /// not answered in time: it is stored, and may yet be accepted; [`EngineError::RunPaused`], and then nothing is
    /// stored; [`EngineError::Ended`] when the run had ended, or ended before it came to the update;
    /// [`EngineError::NoRun`]; [`EngineError::TooManyUpdates`]; [`EngineError::UpdateIdTaken`];
    /// [`EngineError::BadUpdateId`]; [`EngineError::BadValue`], [`EngineError::TooLarge`] or
    /// [`EngineError::Unstorable`] for what is asked for; or the database's. Dropped half-way, it may or may not be
    /// asked for: the same [`id`](UpdateRequest::id) makes it safe to ask again.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.answered())
    }
}

impl<Out> fmt::Debug for UpdateRequest<'_, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateRequest")
            .field("run", &self.run)
            .field("name", &self.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
