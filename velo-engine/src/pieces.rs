//! What nodes say while they are at work, on its way to the database.
//!
//! It is for those who watch: nothing here may hold a run up, and what cannot be kept is counted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics;
use crate::run_id::RunId;
use crate::store::piece::{self, NewPiece, PieceKind};
use crate::vault::Vault;

/// How long a piece waits for others before it is written.
const LINGER: Duration = Duration::from_millis(50);
/// Most bytes that wait to be written, of all runs together.
const BUFFER_MAX: usize = 1024 * 1024;
/// Most pieces that wait to be written.
const PIECES_MAX: usize = 4_096;
/// Most bytes of text in one piece.
const PIECE_MAX: usize = 16 * 1024;
/// Longest time that one write may take.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// Longest time that an attempt's end waits for what it has said.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Before the next write after one that has failed.
const WRITE_AGAIN: Duration = Duration::from_millis(200);
/// Most runs of which it is known that something was lost.
const LOST_RUNS_MAX: usize = 4_096;
/// Between two looks for pieces that nobody needs any more.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Writes what the nodes of a worker say, all of it together. Cheap to clone; the last one ends it.
#[derive(Clone)]
pub struct Pieces {
    shared: Arc<Shared>,
    _writer: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    pool: PgPool,
    vault: Vault,
    buffer: Mutex<Buffer>,
    /// There is something to write.
    filled: Notify,
    /// Somebody waits for what is there.
    hurry: Notify,
    /// How many pushes have been written, or given up.
    done: watch::Sender<u64>,
}

#[derive(Default)]
struct Buffer {
    pieces: Vec<NewPiece>,
    bytes: usize,
    /// Where the newest piece of a run is in the list.
    newest: HashMap<RunId, usize>,
    /// The newest piece that could not be kept since the last that could, and how many those are.
    lost: HashMap<RunId, NewPiece>,
    pushes: u64,
}

impl Pieces {
    /// Starts to write into the database of `pool`, as the engine keeps payloads.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn start(pool: &PgPool, vault: &Vault) -> Self {
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            vault: vault.clone(),
            buffer: Mutex::default(),
            filled: Notify::new(),
            hurry: Notify::new(),
            done: watch::Sender::new(0),
        });
        let writer = tokio::spawn(Arc::clone(&shared).write());
        Self {
            shared,
            _writer: Arc::new(AbortOnDropHandle::new(writer)),
        }
    }

    /// Takes a piece to be written soon, or counts it as lost when too much waits already.
    pub(crate) fn push(&self, piece: NewPiece) {
        let is_first = {
            let mut buffer = self.shared.lock();
            buffer.push(piece);
            buffer.pieces.len() == 1
        };
        if is_first {
            self.shared.filled.notify_one();
        }
    }

    /// Waits until what was pushed before is written or given up, and no longer than [`SETTLE_MAX`].
    pub(crate) async fn settle(&self) {
        let pushes = self.shared.lock().pushes;
        let mut done = self.shared.done.subscribe();
        self.shared.hurry.notify_one();
        let settled = done.wait_for(|done| *done >= pushes);
        // It fails only when the writer has ended, with the worker.
        let _ = tokio::time::timeout(SETTLE_MAX, settled).await;
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

impl Buffer {
    fn push(&mut self, piece: NewPiece) {
        self.pushes += 1;
        let bytes = piece.body.len();
        if self.bytes + bytes > BUFFER_MAX || self.pieces.len() >= PIECES_MAX {
            self.lose(piece);
            return;
        }
        self.bytes += bytes;
        let newest = self.newest.get(&piece.run).copied();
        if let Some(last) = newest.and_then(|place| self.pieces.get_mut(place))
            && last.goes_on_with(&piece)
        {
            last.body.push_str(&piece.body);
            return;
        }
        self.newest.insert(piece.run, self.pieces.len());
        let lost = self.lost.remove(&piece.run).map_or(0, |lost| lost.lost);
        self.pieces.push(NewPiece { lost, ..piece });
    }

    /// What is to be written, and how many pushes that is. A run that has said nothing since it lost
    /// something says that with an empty piece.
    fn take(&mut self) -> (Vec<NewPiece>, u64) {
        self.newest.clear();
        self.bytes = 0;
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.extend(self.lost.drain().map(|(_, lost)| lost));
        (pieces, self.pushes)
    }

    fn lose(&mut self, piece: NewPiece) {
        let is_said = i32::from(!piece.body.is_empty());
        if is_said > 0 {
            metrics::piece_lost();
        }
        let lost = piece.lost + is_said + self.lost.get(&piece.run).map_or(0, |lost| lost.lost);
        if self.lost.len() < LOST_RUNS_MAX || self.lost.contains_key(&piece.run) {
            let body = String::new();
            self.lost.insert(
                piece.run,
                NewPiece {
                    lost,
                    body,
                    ..piece
                },
            );
        }
    }
}

impl NewPiece {
    /// Whether the other one is text that comes right after this one's.
    fn goes_on_with(&self, other: &Self) -> bool {
        let length = i64::try_from(self.body.len()).unwrap_or(i64::MAX);
        self.kind == PieceKind::Text
            && other.kind == PieceKind::Text
            && (self.seq, self.task, self.attempt, self.fence)
                == (other.seq, other.task, other.attempt, other.fence)
            && self.name == other.name
            && self.start.checked_add(length) == Some(other.start)
            && self.body.len() + other.body.len() <= PIECE_MAX
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the pieces were written.
    async fn try_write(&self, pieces: &[NewPiece]) -> bool {
        let mut stored = Cow::Borrowed(pieces);
        if pieces.iter().any(|piece| self.vault.alters(&piece.body)) {
            let mut seal = stored.to_mut().iter_mut();
            if let Err(error) = seal.try_for_each(|piece| self.vault.seal_piece(piece)) {
                tracing::warn!(%error, "could not seal what nodes have said");
                return false;
            }
        }
        let written = tokio::time::timeout(WRITE_MAX, piece::add(&self.pool, &stored));
        matches!(written.await, Ok(Ok(())))
    }

    async fn write(self: Arc<Self>) {
        let mut prune_at = Instant::now();
        loop {
            // Whoever hurries may have come before the first piece was noticed, or without one.
            tokio::select! {
                () = self.hurry.notified() => (),
                () = self.filled.notified() => {
                    tokio::select! {
                        () = self.hurry.notified() => (),
                        () = tokio::time::sleep(LINGER) => (),
                    }
                }
            }
            let (pieces, pushes) = self.lock().take();
            if !pieces.is_empty() && !self.try_write(&pieces).await {
                tracing::debug!(
                    pieces = pieces.len(),
                    "could not keep what nodes have said: watchers are told of a gap"
                );
                pieces.into_iter().for_each(|piece| self.lock().lose(piece));
                self.done.send_replace(pushes);
                tokio::time::sleep(WRITE_AGAIN).await;
                self.filled.notify_one();
                continue;
            }
            self.done.send_replace(pushes);
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + PRUNE_EVERY;
                if let Err(error) = piece::prune(&self.pool).await {
                    tracing::debug!(%error, "could not remove old pieces yet");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(run: i64, name: &str, start: i64, body: &str) -> NewPiece {
        NewPiece {
            run: RunId::from_i64(run),
            fence: 1,
            seq: 1,
            task: 0,
            attempt: 1,
            node: "work".to_owned(),
            kind: PieceKind::Text,
            name: name.to_owned(),
            start,
            body: body.to_owned(),
            lost: 0,
        }
    }

    #[test]
    fn text_that_follows_text_is_one_piece_and_other_names_and_runs_are_not() {
        let mut buffer = Buffer::default();
        for piece in [
            piece(1, "a", 0, "on"),
            piece(2, "a", 0, "else"),
            piece(1, "a", 2, "e "),
            piece(1, "b", 0, "two"),
            piece(1, "a", 4, "three"),
        ] {
            buffer.push(piece);
        }
        let (pieces, pushes) = buffer.take();
        let told: Vec<_> = pieces.iter().map(|piece| piece.body.as_str()).collect();
        assert_eq!(told, ["one ", "else", "two", "three"]);
        assert_eq!(pushes, 5);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_with_the_next_piece() {
        let mut buffer = Buffer::default();
        let long = "x".repeat(BUFFER_MAX);
        buffer.push(piece(1, "a", 0, &long));
        buffer.push(piece(1, "a", 0, "lost"));
        buffer.push(piece(1, "a", 0, "lost"));
        let (pieces, _) = buffer.take();
        let told: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.body.len(), piece.lost))
            .collect();
        assert_eq!(told, [(BUFFER_MAX, 0), (0, 2)]);
        // The write fails.
        pieces.into_iter().for_each(|piece| buffer.lose(piece));
        buffer.push(piece(1, "a", 9, "kept"));
        let (pieces, _) = buffer.take();
        assert_eq!((pieces[0].body.as_str(), pieces[0].lost), ("kept", 3));
        assert_eq!(pieces.len(), 1);
    }
}
