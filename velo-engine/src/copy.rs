//! Copies of runs and threads, and forks by who has no code of the graph.

use serde_json::json;
use uuid::Uuid;

use crate::engine::{Engine, EngineError};
use crate::rebind::{self, RebindError};
use crate::run_id::RunId;
use crate::start::is_taken;
use crate::store;
use crate::store::copy::{Copied, NewCopy};

/// Most runs of a thread that is copied.
pub const COPY_MAX: usize = 1_000;
/// Draws of an id before chance is no longer believed in.
const DRAWS_MAX: u32 = 8;

const COPYING: &str = "copy the run";
const COPYING_THREAD: &str = "copy the thread";
const FORKING: &str = "fork the run";

impl Engine {
    /// Copies a run with all of its history, under a new id, which is returned; into `thread`, if one is
    /// given. The original is only read, and may be at work.
    ///
    /// Kept results, finished tasks, open questions, messages that were not used, and events come along, so
    /// that what was done is not done again. A copy does not go on by itself: one whose original waits for
    /// answers or messages waits for its own, and any other that has not ended is paused, to be
    /// [resumed](Self::resume). Child runs are not copied: a node that waits for one starts another. Under a
    /// [codec](crate::codec) payloads are opened here and sealed as the copy's own; otherwise nothing leaves the
    /// server. Large values are named by the copy, and not copied.
    ///
    /// To go on from an earlier step, [`fork`](Self::fork).
    ///
    /// # Errors
    /// [`EngineError::NoRun`], [`EngineError::ThreadBusy`] when the thread has a live run and the original
    /// has not ended, [`EngineError::Sealed`] when a payload does not open, or the database's.
    ///
    /// # Cancel safety
    /// All of it is copied or nothing. Dropped half-way, or when the answer is lost, a copy may be there
    /// under an id that nobody knows.
    pub async fn copy(&self, run: RunId, thread: Option<&str>) -> Result<RunId, EngineError> {
        let (id, copied) = drawn(COPYING, async |id| {
            let copy = NewCopy {
                source: run,
                id,
                nonce: nonce(),
                thread,
            };
            if !self.vault().is_sealing() {
                return Ok(store::copy::run(self.pool(), copy, &under_way()).await?);
            }
            let mut tx = store::begin(self.pool()).await?;
            let copied = store::copy::run(&mut *tx, copy, &under_way()).await?;
            if copied.is_copied {
                self.vault().rebind(&mut tx, whole(copy)).await?;
            }
            tx.commit().await?;
            Ok(copied)
        })
        .await?;
        self.done(run, id, copied, thread).await
    }

    /// Copies all runs of the thread `from`, as [`copy`](Self::copy) does, into the thread `to`, which must
    /// have none; returns the copies, oldest first. A thread without runs is copied to one without runs.
    ///
    /// # Errors
    /// [`EngineError::Sealed`] when a payload does not open, [`EngineError::ThreadNotEmpty`],
    /// [`EngineError::ThreadTooLong`] when there are more than [`COPY_MAX`] runs, or the database's: one that [is transient](EngineError::is_transient) when somebody began a run
    /// in `to` at this moment.
    ///
    /// # Cancel safety
    /// All of it is copied or nothing; dropped half-way, `to` may have the copies.
    pub async fn copy_thread(&self, from: &str, to: &str) -> Result<Vec<RunId>, EngineError> {
        let failed = EngineError::on;
        // One moment for all runs.
        let begin = self
            .pool()
            .begin_with("begin isolation level repeatable read");
        let mut tx = begin.await.map_err(failed(COPYING_THREAD))?;
        let limit = i64::try_from(COPY_MAX + 1).unwrap_or(i64::MAX);
        let runs = store::copy::thread_runs(&mut tx, from, limit).await;
        let runs = runs.map_err(failed(COPYING_THREAD))?;
        if runs.len() > COPY_MAX {
            return Err(EngineError::ThreadTooLong {
                thread: from.to_owned(),
                most: COPY_MAX,
            });
        }
        let mut ids: Vec<RunId> = runs.iter().map(|_| RunId::random()).collect();
        // As their originals, the copies are in the order of their ids.
        ids.sort_unstable();
        let Some(newest) = ids.last() else {
            return Ok(ids);
        };
        let taken = || EngineError::ThreadNotEmpty(to.to_owned());
        let reserved = store::copy::reserve(&mut tx, to, *newest).await;
        if !reserved.map_err(failed(COPYING_THREAD))? {
            return Err(taken());
        }
        let others = store::copy::thread_runs(&mut tx, to, 1).await;
        if !others.map_err(failed(COPYING_THREAD))?.is_empty() {
            return Err(taken());
        }
        for (source, id) in runs.into_iter().zip(&ids) {
            let copy = NewCopy {
                source,
                id: *id,
                nonce: nonce(),
                thread: Some(to),
            };
            let copied = store::copy::run(&mut *tx, copy, &under_way()).await;
            if !copied.map_err(failed(COPYING_THREAD))?.is_copied {
                return Err(taken());
            }
            if self.vault().is_sealing() {
                let rebound = self.vault().rebind(&mut tx, whole(copy)).await;
                rebound.map_err(RebindError::on(COPYING_THREAD))?;
            }
        }
        tx.commit().await.map_err(failed(COPYING_THREAD))?;
        Ok(ids)
    }

    /// Forks a run as [`fork`](Self::fork) does, without an edit and without the code of its graph: for tools
    /// that look at any run. The new run is of the same version; its first steps are those since the last
    /// time that the whole state was stored, and count against its step limit.
    ///
    /// # Errors
    /// [`EngineError::Sealed`] when a payload does not open, [`EngineError::NoRun`], [`EngineError::NoStep`],
    /// [`EngineError::NothingToDo`], [`EngineError::ThreadBusy`], [`EngineError::Unreadable`], or the database's.
    ///
    /// # Cancel safety
    /// As [`copy`](Self::copy); the fork goes on by itself.
    pub async fn fork_untyped(
        &self,
        run: RunId,
        seq: i32,
        thread: Option<&str>,
    ) -> Result<RunId, EngineError> {
        let step = self.history(run, seq - 1, 1).await?.into_iter().next();
        match step.filter(|step| step.seq == seq) {
            Some(step) if step.next.is_empty() => {
                return Err(EngineError::NothingToDo { run, seq });
            }
            Some(_) => (),
            None => {
                self.run(run).await?;
                return Err(EngineError::NoStep { run, seq });
            }
        }
        let (id, copied) = drawn(FORKING, async |id| {
            let copy = NewCopy {
                source: run,
                id,
                nonce: nonce(),
                thread,
            };
            if !self.vault().is_sealing() {
                return Ok(store::copy::fork(self.pool(), copy, seq, 0).await?);
            }
            let mut tx = store::begin(self.pool()).await?;
            let copied = store::copy::fork(&mut *tx, copy, seq, 0).await?;
            if let Some(base) = copied.base.filter(|_| copied.is_copied) {
                let copy = rebind::Copy {
                    later: base,
                    ..whole(copy)
                };
                self.vault().rebind(&mut tx, copy).await?;
            }
            tx.commit().await?;
            Ok(copied)
        })
        .await?;
        let id = self.done(run, id, copied, thread).await?;
        self.hint();
        Ok(id)
    }

    async fn done(
        &self,
        run: RunId,
        id: RunId,
        copied: Copied,
        thread: Option<&str>,
    ) -> Result<RunId, EngineError> {
        if copied.is_copied {
            return Ok(id);
        }
        let (true, Some(thread)) = (copied.is_found, thread) else {
            return Err(EngineError::NoRun(run));
        };
        let live = store::thread::live_run(self.pool(), thread)
            .await
            .map_err(EngineError::on(COPYING))?;
        match live {
            Some(live) => Err(EngineError::ThreadBusy {
                thread: thread.to_owned(),
                run: live,
            }),
            // It has ended this moment: the thread is free again.
            None => Err(EngineError::on(COPYING)(sqlx::Error::RowNotFound)),
        }
    }
}

/// A copy that counts its steps as its original.
fn whole(copy: NewCopy<'_>) -> rebind::Copy {
    rebind::Copy {
        from: copy.source,
        to: copy.id,
        later: 0,
    }
}

/// Tries with other ids while one is taken by chance.
async fn drawn(
    doing: &'static str,
    copy: impl AsyncFn(RunId) -> Result<Copied, RebindError>,
) -> Result<(RunId, Copied), EngineError> {
    let mut draws = 1;
    loop {
        let id = RunId::random();
        match copy(id).await {
            Ok(copied) => return Ok((id, copied)),
            Err(RebindError::Database(error)) if is_taken(&error) && draws < DRAWS_MAX => {
                draws += 1;
            }
            Err(error) => return Err(RebindError::on(doing)(error)),
        }
    }
}

fn nonce() -> i64 {
    Uuid::new_v4().as_u64_pair().0.cast_signed()
}

/// Why a copy of a run that is under way is paused.
fn under_way() -> serde_json::Value {
    json!({
        "kind": "copied",
        "message": "it was copied while its original was under way: resume it to have it go on too",
    })
}
