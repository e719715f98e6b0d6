//! Side effects whose results outlive the attempt that made them.

use std::fmt;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::scene::lock;
use super::{Context, Scene};
use crate::error::{NodeError, NodeErrorKind};
use crate::failpoint;
use crate::run_id::RunId;
use crate::state::State;
use crate::storable;
use crate::store::{self, Backoff};
use crate::vault::Home;

/// The same text each time the same side effect is tried: an idempotency key for whoever carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKey {
    run: RunId,
    seq: i32,
    task: i32,
    name: String,
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "velo-{}-{}-{}-{}",
            self.run, self.seq, self.task, self.name
        )
    }
}

impl<S: State, I> Context<S, I> {
    /// Does `work` and keeps its result: when this node runs again, after a failure or in another
    /// process, the result is read back and `work` is not called.
    ///
    /// A process that dies after `work` has had its effect and before the result is kept calls it
    /// again, with the same [`StepKey`]: hand that to the other side, so that it can tell.
    /// Results that are errors are not kept: the next attempt calls `work` again, also with the same
    /// key. A refusal that is final, such as a declined card, is better a value than an error, so
    /// that it is kept and the node can route on it.
    ///
    /// The result is kept for this node in this step of the run: a node that a loop comes back to does
    /// its steps anew, under other keys.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { receipt: String }
    /// # async fn pay(key: String) -> std::io::Result<String> { Ok(key) }
    /// async fn charge(cx: Context<Order>) -> NodeResult<Order> {
    ///     let receipt = cx.step("pay", |key| pay(key.to_string())).await?;
    ///     Ok(Order::update().receipt(receipt).into())
    /// }
    /// ```
    ///
    /// The key is moved into `work`: to lend it to what is called, make `work` an async closure. One
    /// whose body is written in place names its error type, since `?` fits any:
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { receipt: String }
    /// # async fn pay(key: &str) -> std::io::Result<String> { Ok(key.to_owned()) }
    /// async fn charge(cx: Context<Order>) -> NodeResult<Order> {
    ///     let receipt = cx.step("pay", async |key| pay(&key.to_string()).await).await?;
    ///     let place = cx.step("draw a place", async |_| Ok::<_, NodeError>(7_u32)).await?;
    ///     Ok(Order::update().receipt(format!("{receipt} {place}")).into())
    /// }
    /// ```
    ///
    /// # Errors
    /// That of `work`. A permanent error when the name is used twice by one attempt, when the result
    /// has no JSON form that can be read back, when it is too large, or when the kept one does not fit `T`.
    ///
    /// # Cancel safety
    /// Dropped half-way, `work` may have had its effect without its result being kept.
    pub async fn step<T, E, F, Fut>(&self, name: impl Into<String>, work: F) -> Result<T, NodeError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<NodeError>,
        F: FnOnce(StepKey) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let name = name.into();
        if self.scene.has_transaction() {
            return Err(NodeError::permanent(format!(
                "step `{name}` comes after the node has opened its transaction: keep results before, \
                 or both would wait for each other's connection when the pool is in use"
            )));
        }
        if let Some(kept) = self.scene.reserve(&name)? {
            return serde_json::from_slice(&kept)
                .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error));
        }
        let key = StepKey {
            run: self.scene.lease.run,
            seq: self.scene.seq,
            task: self.scene.task,
            name: name.clone(),
        };
        let value = match work(key).await {
            Ok(value) => value,
            Err(error) => {
                self.scene.release(&name);
                return Err(error.into());
            }
        };
        let bytes = storable::to_vec("result", &value)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
        let limits = self.scene.vault.limits();
        let fits = limits.check_value(&name, Some(&self.scene.node), bytes.len());
        fits.map_err(|error| error.of_node())?;
        match self.scene.keep(&name, bytes).await? {
            None => Ok(value),
            Some(earlier) => serde_json::from_slice(&earlier)
                .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error)),
        }
    }
}

impl Scene {
    /// Takes the name for this attempt; returns what is kept under it.
    fn reserve(&self, name: &str) -> Result<Option<Vec<u8>>, NodeError> {
        self.reserve_name(name)?;
        Ok(lock(&self.memos).kept.get(name).cloned())
    }

    /// Takes the name for this attempt, so that nothing else of it has the same.
    pub(super) fn reserve_name(&self, name: &str) -> Result<(), NodeError> {
        if name.is_empty() || name.contains('\0') {
            return Err(NodeError::permanent(
                "the name of a step must not be empty and has no NUL",
            ));
        }
        if !lock(&self.memos).used.insert(name.to_owned()) {
            let node = &self.node;
            return Err(NodeError::permanent(format!(
                "the name `{name}` is used twice in node `{node}`: give each step, question and sleep of a node its own name"
            )));
        }
        Ok(())
    }

    /// Where something of this task is stored under this name.
    pub(super) fn home<'a>(&self, what: &'static str, name: &'a str) -> Home<'a> {
        Home::of_task(self.lease.run, self.seq, self.task, what, name)
    }

    fn release(&self, name: &str) {
        lock(&self.memos).used.remove(name);
    }

    /// Keeps a result, however long the database takes to come back while the lease may still hold:
    /// the effect was had, perhaps paid for. Returns the one that counts, when another was there already.
    async fn keep(&self, name: &str, value: Vec<u8>) -> Result<Option<Vec<u8>>, NodeError> {
        let home = self.home("memo", name);
        let sealed = self.vault.seal_copy(home, &value);
        let sealed = sealed.map_err(|error| error.of_node())?;
        failpoint::hit("memo.before");
        let mut backoff = Backoff::default();
        let mut earlier = loop {
            match self.try_keep(name, &sealed).await {
                Ok(Some(earlier)) => break earlier,
                Ok(None) => return self.lose().await,
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %self.lease.run, step.name = name, %error, "could not keep a result yet");
                    backoff.wait().await;
                }
                Err(error) => return Err(NodeError::of(NodeErrorKind::Permanent, &error)),
            }
        };
        failpoint::hit("memo.after");
        if let Some(earlier) = &mut earlier {
            let opened = self.vault.open(home, earlier);
            opened.map_err(|error| error.of_node())?;
        }
        self.pulse.beat();
        drop(sealed);
        lock(&self.memos)
            .kept
            .insert(name.to_owned(), earlier.clone().unwrap_or(value));
        Ok(earlier)
    }

    /// `Some` with the result that was there already, if one was; `None` when the lease is gone.
    async fn try_keep(
        &self,
        name: &str,
        value: &[u8],
    ) -> Result<Option<Option<Vec<u8>>>, sqlx::Error> {
        let (pool, lease) = (&self.pool, self.lease);
        let kept = store::memo::keep(pool, lease, self.seq, self.task, name, value).await?;
        Ok(match kept {
            None => None,
            Some(true) => Some(None),
            Some(false) => {
                let earlier = store::memo::get(pool, lease.run, self.seq, self.task, name).await?;
                Some(Some(earlier))
            }
        })
    }
}
