//! The attempts of a step that are at work.

use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};

use super::attempt::Ended;
use crate::state::State;

/// The attempts of a step that are at work: a sole one in the turn's own task, so that it costs no switch of
/// tasks, and several in tasks of their own, so that they use several processors.
///
/// Dropped, it ends them where they are.
pub(super) struct AtWork<S: State> {
    sole: Option<BoxFuture<'static, Ended<S>>>,
    others: JoinSet<Ended<S>>,
}

impl<S: State> AtWork<S> {
    pub(super) fn new() -> Self {
        Self {
            sole: None,
            others: JoinSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.sole.is_some()) + self.others.len()
    }

    /// Begins an attempt; `is_sole` if none else can begin before it has ended.
    pub(super) fn begin(
        &mut self,
        attempt: impl Future<Output = Ended<S>> + Send + 'static,
        is_sole: bool,
    ) {
        if is_sole && self.len() == 0 {
            self.sole = Some(attempt.boxed());
        } else {
            self.others.spawn(attempt);
        }
    }

    /// The next one that ends; `None` when none is at work. A panic of the sole one, which can only be one of
    /// dropping what a node had, is the caller's.
    ///
    /// # Cancel safety
    /// None is lost.
    pub(super) async fn next(&mut self) -> Option<Result<Ended<S>, JoinError>> {
        match &mut self.sole {
            Some(attempt) => {
                let ended = attempt.await;
                self.sole = None;
                Some(Ok(ended))
            }
            None => self.others.join_next().await,
        }
    }

    /// One that has ended already.
    pub(super) fn ended(&mut self) -> Option<Result<Ended<S>, JoinError>> {
        self.others.try_join_next()
    }

    /// Ends all of them where they are.
    pub(super) async fn shutdown(&mut self) {
        self.sole = None;
        self.others.shutdown().await;
    }
}
