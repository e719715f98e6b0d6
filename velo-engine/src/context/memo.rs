//! Side effects whose results outlive the attempt that made them.

use std::fmt;
use std::future::Future;
use std::sync::PoisonError;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, Scene};
use crate::error::{NodeError, NodeErrorKind};
use crate::failpoint;
use crate::run_id::RunId;
use crate::state::State;
use crate::store::{self, Backoff};

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
    /// Results that are errors are not kept.
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
    /// # Errors
    /// That of `work`. A permanent error when the name is used twice by one attempt, when the result
    /// has no JSON form, or when the kept one does not fit `T`.
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
        let bytes = serde_json::to_vec(&value)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
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
        if name.is_empty() || name.contains('\0') {
            return Err(NodeError::permanent(
                "the name of a step must not be empty and has no NUL",
            ));
        }
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        if !memos.used.insert(name.to_owned()) {
            let node = &self.node;
            return Err(NodeError::permanent(format!(
                "the step name `{name}` is used twice in node `{node}`: give each step of a node its own name"
            )));
        }
        Ok(memos.kept.get(name).cloned())
    }

    fn release(&self, name: &str) {
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        memos.used.remove(name);
    }

    /// Keeps a result, however long the database takes to come back while the lease may still hold:
    /// the effect was had, perhaps paid for. Returns the one that counts, when another was there already.
    async fn keep(&self, name: &str, value: Vec<u8>) -> Result<Option<Vec<u8>>, NodeError> {
        failpoint::hit("memo.before");
        let mut backoff = Backoff::default();
        let earlier = loop {
            match self.try_keep(name, &value).await {
                Ok(Some(earlier)) => break earlier,
                Ok(None) => return self.lose().await,
                // The connection that it waits for may be its own, or those of others that wait too.
                Err(sqlx::Error::PoolTimedOut) if self.has_transaction() => {
                    return Err(NodeError::transient(format!(
                        "could not keep the result of step `{name}`: the pool has no connection left while \
                         the node's own transaction holds one; call step before tx, or have a larger pool"
                    )));
                }
                Err(error) if store::is_transient(&error) => {
                    tracing::warn!(run.id = %self.lease.run, step.name = name, %error, "could not keep a result yet");
                    backoff.wait().await;
                }
                Err(error) => return Err(NodeError::of(NodeErrorKind::Permanent, &error)),
            }
        };
        failpoint::hit("memo.after");
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        memos
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
