//! What a node says to those who watch, while it is at work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Context, Scene};
use crate::error::{NodeError, NodeErrorKind};
use crate::pieces::Pieces;
use crate::state::State;
use crate::store::piece::{NewPiece, PieceKind};

/// Most bytes of one thing that is shown.
const SHOWN_MAX: usize = 64 * 1024;

/// What an attempt has said so far.
#[derive(Debug)]
pub(crate) struct Voice {
    pieces: Pieces,
    /// Bytes of text, by name.
    said: Mutex<BTreeMap<String, i64>>,
    has_spoken: AtomicBool,
}

impl Voice {
    pub(crate) fn new(pieces: &Pieces) -> Self {
        Self {
            pieces: pieces.clone(),
            said: Mutex::default(),
            has_spoken: AtomicBool::new(false),
        }
    }

    /// Waits until what was said is where others can read it, and not for long: what an attempt has said
    /// comes before its end.
    pub(crate) async fn settle(&self) {
        if self.has_spoken.load(Ordering::Relaxed) {
            self.pieces.settle().await;
        }
    }

    /// Where text of this length begins under this name.
    fn begin(&self, name: &str, bytes: usize) -> i64 {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let length = said.entry(name.to_owned()).or_default();
        let start = *length;
        *length += i64::try_from(bytes).unwrap_or(0);
        start
    }
}

impl Scene {
    fn speak(&self, kind: PieceKind, name: &str, start: i64, body: String) {
        self.pulse.beat();
        self.voice.has_spoken.store(true, Ordering::Relaxed);
        self.voice.pieces.push(NewPiece {
            run: self.lease.run,
            fence: self.lease.fence,
            seq: self.seq,
            task: self.task,
            attempt: i32::try_from(self.attempt).unwrap_or(i32::MAX),
            node: self.node.clone(),
            kind,
            name: name.to_owned(),
            start,
            body,
            lost: 0,
        });
    }
}

impl<S: State, I> Context<S, I> {
    /// Says a piece of text, such as a token of a model, to whoever [streams](crate::Engine::stream) the
    /// run, in whatever process; `name` tells several texts of one attempt apart. It is seen within
    /// about a tenth of a second, whether or not the attempt succeeds: what a failed attempt has said
    /// is told by its number, and one that died with its process by its fence.
    ///
    /// This never waits and never fails. It is no part of the run's history: the newest thousand pieces
    /// are kept, for an hour, and a crash of the database takes them; a reader is told of a gap.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Essay { text: String }
    /// async fn write(cx: Context<Essay>) -> NodeResult<Essay> {
    ///     let mut text = String::new();
    ///     for token in ["Once ", "upon ", "a time"] {
    ///         cx.say("draft", token);
    ///         text.push_str(token);
    ///     }
    ///     Ok(Essay::update().text(text).into())
    /// }
    /// ```
    pub fn say(&self, name: &str, text: &str) {
        // An empty piece tells of something that was lost.
        if text.is_empty() {
            return;
        }
        let text = text.replace('\0', "\u{fffd}");
        let start = self.scene.voice.begin(name, text.len());
        self.scene.speak(PieceKind::Text, name, start, text);
    }

    /// Shows something to whoever streams the run with
    /// [`custom`](crate::StreamBuilder::custom), now and perhaps; otherwise as [`say`](Self::say). What
    /// must not be missed is [emitted](Self::emit) instead.
    ///
    /// # Errors
    /// A permanent error when `body` has no JSON form, or one of more than 64 KiB.
    pub fn show(&self, kind: &str, body: &impl Serialize) -> Result<(), NodeError> {
        let body = serde_json::to_string(body)
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))?;
        if body.len() > SHOWN_MAX {
            return Err(NodeError::permanent(format!(
                "`{kind}` is too long to be shown: it has {} bytes, and at most {SHOWN_MAX} are kept",
                body.len()
            )));
        }
        self.scene.speak(PieceKind::Custom, kind, 0, body);
        Ok(())
    }
}
