//! Threads: one live run at a time, what becomes of what comes meanwhile, and a state that lasts from run to
//! run.

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError};
use crate::graph::Graph;
use crate::run_id::RunId;
use crate::start::Start;
use crate::state::State;
use crate::store;
use crate::store::run::RunStatus;
use crate::store::thread::Locked;

/// Most runs that wait for their turn on one thread.
pub const LINE_MAX: usize = 1_000;

/// What becomes of a start whose thread has a run that has not ended: one that is at work, waits or is paused.
///
/// All of it is one transaction, under the thread's row: of two starts at once, the second sees what the
/// first has made of the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IfBusy {
    /// It is refused, with [`EngineError::ThreadBusy`].
    #[default]
    Reject,
    /// It starts nothing, and returns the live run.
    UseExisting,
    /// Its run waits until all before it on the thread have ended, at most [`LINE_MAX`]; it is started by the
    /// transaction that ends the one before.
    Enqueue,
    /// The live run is stopped at its next step boundary, with the state that it has then, and the new one is
    /// started after it. What waits in line is cancelled.
    Interrupt,
    /// The live run is cancelled, and counts as never having been: the new one begins from the state that the
    /// thread had before it. What it has done outside of its state stays done; its history stays until it is
    /// deleted. What waits in line is cancelled.
    Rollback,
    /// The live run is terminated at once, in the middle of a step too, and the new one is started after it.
    /// What waits in line is cancelled.
    Terminate,
}

/// What becomes of a start whose thread has had a run, all of which have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IfClosed {
    /// It starts a run.
    #[default]
    Allow,
    /// It starts a run if the last one was cancelled or terminated; one that has completed refuses it.
    AllowIfCancelled,
    /// It is refused, with [`EngineError::ThreadClosed`].
    Reject,
    /// It starts nothing, and returns the last run.
    UseExisting,
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Its newest run that is not in line.
    pub run: RunId,
    /// How that stands; `None` when it was deleted.
    pub status: Option<RunStatus>,
    /// Whether that has not ended.
    pub is_busy: bool,
    /// The run in whose state the thread is; `None` when the only one was rolled back.
    pub head: Option<RunId>,
    /// Runs that wait for their turn, first one first.
    pub waiting: Vec<RunId>,
}

impl Engine {
    /// Starts a run of `graph` on a thread, from the state in which the thread's last run has left it: `update`
    /// is written to that, through the reducers, and the graph begins at its start. A new thread begins with
    /// the default state. Await what is returned, or say first what becomes of it if the thread is busy.
    ///
    /// The state is that after the last committed step, whether the run has completed, was cancelled or was
    /// [interrupted](IfBusy::Interrupt); not that of a run that was [rolled back](IfBusy::Rollback).
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::{IfBusy, prelude::*};
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Chat { #[state(append)] messages: Vec<String> }
    /// # async fn said(engine: &Engine, graph: &Graph<Chat>) -> Result<(), EngineError> {
    /// let said = Chat::update().messages(vec!["and in winter?".to_owned()]);
    /// let run = engine.input(graph, "chat/7", said).if_busy(IfBusy::Enqueue).await?;
    /// engine.wait(run).await?;
    /// let chat: Chat = engine.state(run).await?; // with all that was said before
    /// # let _ = chat;
    /// # Ok(())
    /// # }
    /// ```
    pub fn input<'a, S: State + Default>(
        &'a self,
        graph: &'a Graph<S>,
        thread: impl Into<String>,
        update: S::Update,
    ) -> Start<'a, S> {
        use crate::state::Update as _;
        let fresh = update.clone().into_state();
        Start::of_input(self, graph, update, fresh).thread(thread)
    }

    /// How a thread stands; `None` when it has had no run, or its runs were deleted. Names at most
    /// [`LINE_MAX`] runs in line.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn thread(&self, name: &str) -> Result<Option<Thread>, EngineError> {
        let limit = i64::try_from(LINE_MAX).unwrap_or(i64::MAX);
        let found = store::thread::get(self.pool(), name, limit)
            .await
            .map_err(EngineError::on("read the thread"))?;
        Ok(found.map(|found| Thread {
            name: found.name,
            run: found.run,
            status: found.status,
            is_busy: found.is_live,
            head: found.head,
            waiting: found.waiting.into_iter().map(RunId::from_i64).collect(),
        }))
    }
}

/// What a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Makes its run the thread's live one.
    Take,
    /// Has its run wait in line.
    Join,
    /// Has its run wait, and those before it end.
    Displace(End),
    /// Returns that run.
    Use(RunId),
    /// Is refused, since that run has not ended.
    Busy(RunId),
    /// Is refused, since that run has ended so.
    Closed(RunId, RunStatus),
}

/// How a run is ended that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    AtBoundary,
    Undone,
    AtOnce,
}

impl IfBusy {
    /// Whether the live run may have to be ended: then its place in the queue is held before the thread.
    pub(crate) fn ends(self) -> bool {
        matches!(self, Self::Interrupt | Self::Rollback | Self::Terminate)
    }
}

/// What a start does on a thread, `last` being how its newest run stands; `None` when that was deleted.
pub(crate) fn decide(
    seen: Option<&Locked>,
    last: Option<RunStatus>,
    if_busy: IfBusy,
    if_closed: IfClosed,
) -> Decision {
    let Some(seen) = seen else {
        return Decision::Take;
    };
    if seen.is_live {
        return match if_busy {
            IfBusy::Reject => Decision::Busy(seen.run_id),
            IfBusy::UseExisting => Decision::Use(seen.run_id),
            IfBusy::Enqueue => Decision::Join,
            IfBusy::Interrupt => Decision::Displace(End::AtBoundary),
            IfBusy::Rollback => Decision::Displace(End::Undone),
            IfBusy::Terminate => Decision::Displace(End::AtOnce),
        };
    }
    match (if_closed, last) {
        (IfClosed::AllowIfCancelled, Some(RunStatus::Completed)) => {
            Decision::Closed(seen.run_id, RunStatus::Completed)
        }
        (IfClosed::Reject, Some(status)) => Decision::Closed(seen.run_id, status),
        (IfClosed::UseExisting, Some(_)) => Decision::Use(seen.run_id),
        _ => Decision::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(is_live: bool) -> Locked {
        Locked {
            run_id: RunId::from_i64(7),
            is_live,
            is_undone: false,
            before_run: None,
        }
    }

    #[test]
    fn a_new_thread_and_a_free_one_are_taken_whatever_is_said_of_busy_ones() {
        for if_busy in [IfBusy::Reject, IfBusy::Enqueue, IfBusy::Rollback] {
            let decided = decide(None, None, if_busy, IfClosed::Reject);
            assert_eq!(decided, Decision::Take);
            let last = Some(RunStatus::Completed);
            let decided = decide(Some(&seen(false)), last, if_busy, IfClosed::Allow);
            assert_eq!(decided, Decision::Take);
        }
    }

    #[test]
    fn only_a_run_that_has_completed_closes_a_thread_that_allows_cancelled_ones() {
        let run = RunId::from_i64(7);
        let decide = |last, if_closed| decide(Some(&seen(false)), last, IfBusy::Reject, if_closed);
        let (completed, cancelled) = (Some(RunStatus::Completed), Some(RunStatus::Cancelled));
        let closed = Decision::Closed(run, RunStatus::Completed);
        assert_eq!(decide(completed, IfClosed::AllowIfCancelled), closed);
        assert_eq!(
            decide(cancelled, IfClosed::AllowIfCancelled),
            Decision::Take
        );
        assert_eq!(decide(completed, IfClosed::UseExisting), Decision::Use(run));
        assert_eq!(decide(None, IfClosed::Reject), Decision::Take);
    }

    #[test]
    fn the_state_of_a_thread_whose_run_was_rolled_back_is_that_of_the_run_before() {
        let before = Some(RunId::from_i64(3));
        let undone = Locked {
            is_undone: true,
            before_run: before,
            ..seen(false)
        };
        assert_eq!(undone.head(), before);
        assert_eq!(seen(false).head(), Some(RunId::from_i64(7)));
    }
}
