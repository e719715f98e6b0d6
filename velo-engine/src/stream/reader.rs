//! Reading a run and the runs below it, and telling of them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::item::{Level, Lost, StreamItem, StreamMode, Streamed};
use super::order::{Entry, arrange, missed};
use super::parts::{Part, asked, committed, ended, node_of};
use super::position::{BY_STEP, Mark, Position};
use super::replay::Replay;
use crate::engine::{EngineError, RunStatus};
use crate::run_id::RunId;
use crate::state::CodecError;
use crate::store::stream::{Found, FoundChild, FoundFailure, FoundPiece, FoundStep, Look, Wants};
use crate::store::{self, Backoff};
use crate::stored::{Control, StoredTask};
use crate::turn::Serve;
use crate::vault::Vault;

/// Shortest and longest time between two looks at a run of which there is nothing new.
const PAUSES: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(500));
/// How long a database may be away before the reader is told.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most child runs of one run that are looked at in one round: the others have their turn in the next.
const LOOKED_AT_MAX: usize = 32;

pub(super) type Told = Result<StreamItem, EngineError>;

/// What reads for one stream, in a task of its own.
pub(super) struct Reader {
    pub(super) pool: PgPool,
    pub(super) vault: Vault,
    pub(super) modes: BTreeSet<StreamMode>,
    pub(super) graphs: Vec<Arc<dyn Serve>>,
    pub(super) subgraphs: bool,
    pub(super) until_stuck: bool,
    pub(super) position: Position,
    pub(super) told: mpsc::Sender<Told>,
}

/// Why reading ends before the run does.
pub(super) enum Stop {
    /// Nobody reads any more.
    Unread,
    Failed(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

/// A run that is read: the one that was asked for, or one below it.
pub(super) struct Followed {
    run: RunId,
    path: Vec<Level>,
    /// The way to its position.
    ids: Vec<RunId>,
    /// The task of its parent that waits for it.
    task: i32,
    replay: Option<Box<dyn Replay>>,
    /// The tasks of the step that is under way.
    tasks: Vec<StoredTask>,
    children: BTreeMap<RunId, Self>,
    /// The child that was looked at last.
    looked_at: Option<RunId>,
    status: RunStatus,
    is_done: bool,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, Default)]
struct Looked {
    /// Something was told.
    has_news: bool,
    /// All that was there at that moment was told.
    is_all: bool,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Reader {
    /// The run that was asked for, at its position.
    pub(super) async fn open(&mut self, run: RunId, code: &str) -> Result<Followed, EngineError> {
        let mut root = self.followed(run, code, Vec::new(), 0);
        self.prepare(&mut root).await?;
        Ok(root)
    }

    /// Tells of the run until it has ended and everything was told.
    pub(super) async fn read(mut self, mut root: Followed) {
        if let Err(Stop::Failed(error)) = self.read_all(&mut root).await {
            // Nobody listening is no failure.
            let _ = self.told.send(Err(error)).await;
        }
    }

    async fn read_all(&mut self, root: &mut Followed) -> Result<(), Stop> {
        let (shortest, longest) = PAUSES;
        let mut pause = shortest;
        loop {
            let looked = self.look(root).await?;
            if root.is_done {
                return Ok(());
            }
            if looked.has_news {
                pause = shortest;
                continue;
            }
            if self.until_stuck && self.is_stuck(root).await? {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn is_stuck(&self, root: &Followed) -> Result<bool, EngineError> {
        match root.status {
            RunStatus::Paused => Ok(true),
            RunStatus::Waiting => store::child::is_stuck(&self.pool, root.run)
                .await
                .map_err(EngineError::on("read what the run waits for")),
            _ => Ok(false),
        }
    }

    fn followed(&self, run: RunId, code: &str, path: Vec<Level>, task: i32) -> Followed {
        let graph = self.graphs.iter().find(|graph| graph.code() == code);
        let wants = self.modes.contains(&StreamMode::Values);
        Followed {
            run,
            ids: path.iter().map(|level| level.run).collect(),
            path,
            task,
            replay: graph.filter(|_| wants).and_then(|graph| graph.replay()),
            tasks: Vec::new(),
            children: BTreeMap::new(),
            looked_at: None,
            status: RunStatus::Active,
            is_done: false,
        }
    }

    /// Reads what must be known of the steps before the position.
    async fn prepare(&mut self, followed: &mut Followed) -> Result<(), EngineError> {
        let run = followed.run;
        let step = self.at(followed).step;
        if step < 0 {
            return Ok(());
        }
        let reading = EngineError::on("read the run's steps");
        let mut steps = store::origin::steps_at(&self.pool, run, step)
            .await
            .map_err(reading)?;
        self.vault
            .open_steps(run, &mut steps)
            .map_err(EngineError::sealed("read the run's stream"))?;
        let Some(last) = steps.last().filter(|last| last.seq == step) else {
            return Err(EngineError::NoStep { run, seq: step });
        };
        let control = Control::decode(last.control.as_deref().unwrap_or_default());
        followed.tasks = control.map_err(unreadable(run))?.into_tasks();
        if let Some(replay) = &mut followed.replay {
            for (place, step) in steps.iter().enumerate() {
                let replayed = match &step.snapshot {
                    Some(snapshot) if place == 0 => replay.begin(snapshot),
                    _ => replay.apply(&step.delta),
                };
                replayed.map_err(|source| EngineError::Unreadable { run, source })?;
            }
        }
        let places = self.at(followed);
        if places.events == BY_STEP || places.pieces == BY_STEP {
            let found = store::stream::places(&self.pool, run, step)
                .await
                .map_err(EngineError::on("read where the run's events are"))?;
            let (events, pieces) = found.ok_or(EngineError::NoStep { run, seq: step })?;
            let places = self.at(followed);
            (places.events, places.pieces) = (events, pieces);
        }
        Ok(())
    }

    fn at(&mut self, followed: &Followed) -> &mut Position {
        self.position.at_mut(&followed.ids)
    }

    fn has(&self, mode: StreamMode) -> bool {
        self.modes.contains(&mode)
    }

    /// Looks at a run and those below it, and tells what is new.
    fn look<'a>(&'a mut self, followed: &'a mut Followed) -> Boxed<'a, Result<Looked, Stop>> {
        Box::pin(async move {
            let Some(found) = self.found(followed).await? else {
                if followed.ids.is_empty() {
                    return Err(EngineError::NoRun(followed.run).into());
                }
                // Deleted with its parent's leave.
                followed.is_done = true;
                return Ok(Looked {
                    has_news: false,
                    is_all: true,
                });
            };
            followed.status = found.status;
            let has_ended = found.status.is_terminal();
            let mut has_news = self.look_below(followed).await?;
            self.skip_lost(followed, &found).await?;
            let begun = self.at(followed).part.clone();
            let (entries, is_all) = arrange(found, begun.as_ref().map(|(mark, _)| mark));
            has_news |= !entries.is_empty() || !is_all;
            for entry in entries {
                self.take(followed, entry).await?;
            }
            if has_ended && is_all {
                self.drain(followed, None).await?;
                followed.is_done = true;
            }
            Ok(Looked { has_news, is_all })
        })
    }

    /// Tells of what nodes have said that is not there any more.
    async fn skip_lost(&mut self, followed: &mut Followed, found: &Found) -> Result<(), Stop> {
        let Some(lost) = missed(self.at(followed).pieces, found) else {
            return Ok(());
        };
        let next = found.pieces.first();
        let at = next.map_or(found.now, |piece| piece.at);
        self.at(followed).pieces = next.map_or(found.pieces_to, |piece| piece.id - 1);
        self.tell_gap(followed, Lost::Pieces, lost, at).await
    }

    /// What is there of the run beyond its position; asked again while the database is away.
    async fn found(&mut self, followed: &Followed) -> Result<Option<Found>, EngineError> {
        let wants = Wants {
            failures: self.has(StreamMode::Tasks),
            waits: [StreamMode::Tasks, StreamMode::Updates, StreamMode::Values]
                .iter()
                .any(|mode| self.has(*mode)),
            children: self.subgraphs || self.has(StreamMode::Tasks),
            only_awaited: !self.has(StreamMode::Tasks),
            events: self.has(StreamMode::Custom),
            pieces: self.has(StreamMode::Messages) || self.has(StreamMode::Custom),
        };
        let position = self.at(followed);
        let look = Look {
            step: position.step,
            outcomes: position.outcomes.iter().collect(),
            failures: position
                .failures
                .iter()
                .map(|(task, attempt)| format!("{task}.{attempt}"))
                .collect(),
            waits: position
                .waits
                .iter()
                .map(|(task, name)| format!("{task}.{name}"))
                .collect(),
            // One that was followed by another process is found again, for what is known of it.
            children: position
                .children
                .iter()
                .filter(|(run, place)| place.is_none() || followed.children.contains_key(run))
                .map(|(run, _)| *run)
                .collect(),
            events: position.events,
            pieces: position.pieces,
            wants,
        };
        let (mut backoff, began) = (Backoff::default(), Instant::now());
        loop {
            match store::stream::read(&self.pool, followed.run, &look).await {
                Ok(mut found) => {
                    if let Some(found) = &mut found {
                        self.vault
                            .open_found(followed.run, found)
                            .map_err(EngineError::sealed("read the run's stream"))?;
                    }
                    return Ok(found);
                }
                Err(error) if store::is_transient(&error) && began.elapsed() < PATIENCE => {
                    backoff.wait().await;
                }
                Err(error) => return Err(EngineError::on("read the run's stream")(error)),
            }
        }
    }

    /// Looks at the children that are followed, some in each round.
    async fn look_below(&mut self, followed: &mut Followed) -> Result<bool, Stop> {
        let first = followed.looked_at;
        let later = followed
            .children
            .keys()
            .filter(|run| first.is_none_or(|first| **run > first));
        let earlier = followed
            .children
            .keys()
            .filter(|run| first.is_some_and(|first| **run <= first));
        let round: Vec<RunId> = later.chain(earlier).take(LOOKED_AT_MAX).copied().collect();
        let mut has_news = false;
        for run in round {
            followed.looked_at = Some(run);
            has_news |= self.look_at_child(followed, run).await?.has_news;
        }
        Ok(has_news)
    }

    async fn look_at_child(&mut self, followed: &mut Followed, run: RunId) -> Result<Looked, Stop> {
        let Some(child) = followed.children.get_mut(&run) else {
            return Ok(Looked {
                has_news: false,
                is_all: true,
            });
        };
        let looked = self.look(child).await?;
        if child.is_done {
            followed.children.remove(&run);
            self.at(followed).children.insert(run, None);
        }
        Ok(looked)
    }

    /// Tells all that there is of the children of a task, or of all of them. Whoever has seen the end of
    /// a task sees all of the children that it has waited for.
    async fn drain(&mut self, followed: &mut Followed, task: Option<i32>) -> Result<(), Stop> {
        let of_task = |child: &Followed| task.is_none_or(|task| child.task == task);
        let runs = followed.children.iter().filter(|(_, child)| of_task(child));
        let runs: Vec<RunId> = runs.map(|(run, _)| *run).collect();
        for run in runs {
            while !self.look_at_child(followed, run).await?.is_all {}
            // One that its parent has left behind is not followed any more.
            followed.children.remove(&run);
            self.at(followed).children.insert(run, None);
        }
        Ok(())
    }

    /// Tells of one row.
    async fn take(&mut self, followed: &mut Followed, entry: Entry) -> Result<(), Stop> {
        match entry {
            Entry::Child(child) => self.take_child(followed, child).await,
            Entry::Failure(failure) => self.take_failure(followed, failure).await,
            Entry::Wait(wait) => {
                let at = wait.at;
                let mark = Mark::Wait(wait.task, wait.name.clone());
                let parts = asked(followed.run, wait);
                self.take_parts(followed, &mark, at, parts).await
            }
            Entry::Outcome(outcome, at) => {
                self.drain(followed, Some(outcome.task)).await?;
                let node = node_of(&followed.tasks, outcome.task);
                let parts = ended(node, &outcome).map_err(unreadable(followed.run))?;
                self.take_parts(followed, &Mark::Outcome(outcome.task), at, parts)
                    .await
            }
            Entry::Step(step) => {
                self.drain(followed, None).await?;
                self.take_step(followed, step).await
            }
            Entry::Event(event) => {
                self.at(followed).events = event.seq;
                let what = Streamed::Emitted {
                    seq: event.seq,
                    event: event.kind,
                    body: event.body,
                };
                self.tell(followed, StreamMode::Custom, event.at, what)
                    .await
            }
            Entry::Piece(piece) => self.take_piece(followed, piece).await,
        }
    }

    async fn take_child(&mut self, followed: &mut Followed, child: FoundChild) -> Result<(), Stop> {
        let is_followed = self.subgraphs && child.is_awaited;
        let position = self.at(followed);
        let is_known = position.children.contains_key(&child.run);
        if is_followed {
            let mut path = followed.path.clone();
            path.push(Level {
                node: child.node.clone(),
                task: child.task,
                name: child.name.clone(),
                run: child.run,
            });
            position
                .children
                .entry(child.run)
                .or_insert_with(|| Some(Box::new(Position::START)));
            let mut below = self.followed(child.run, &child.graph, path, child.task);
            self.prepare(&mut below).await?;
            followed.children.insert(child.run, below);
        } else {
            position.children.insert(child.run, None);
        }
        if is_known || !self.has(StreamMode::Tasks) {
            return Ok(());
        }
        let what = Streamed::Child {
            step: child.seq,
            task: child.task,
            node: child.node,
            name: child.name,
            child: child.run,
            graph: child.graph,
            is_awaited: child.is_awaited,
        };
        self.tell(followed, StreamMode::Tasks, child.at, what).await
    }

    async fn take_failure(
        &mut self,
        followed: &mut Followed,
        failure: FoundFailure,
    ) -> Result<(), Stop> {
        self.at(followed)
            .failures
            .insert((failure.task, failure.attempt));
        let what = Streamed::Failed {
            step: failure.seq,
            task: failure.task,
            node: node_of(&followed.tasks, failure.task),
            attempt: failure.attempt,
            error: failure.error,
            retry_at: failure.retry_at,
        };
        self.tell(followed, StreamMode::Tasks, failure.at, what)
            .await
    }

    async fn take_step(&mut self, followed: &mut Followed, step: FoundStep) -> Result<(), Stop> {
        let run = followed.run;
        let expected = self.at(followed).step + 1;
        if step.seq > expected {
            let lost = Some(i64::from(step.seq - expected));
            self.tell_gap(followed, Lost::Steps, lost, step.at).await?;
        }
        let has_told_tasks = !self.at(followed).outcomes.is_empty();
        let control = Control::decode(&step.control).map_err(unreadable(run))?;
        let mut state = None;
        if let Some(replay) = &mut followed.replay {
            let replayed = match &step.snapshot {
                Some(snapshot) => replay.begin(snapshot),
                None if step.seq > expected => Err("the steps before it were removed".into()),
                None => replay.apply(&step.delta),
            };
            state = Some(replayed.and_then(|()| replay.value()));
        }
        let state = state.transpose();
        let state = state.map_err(|source| EngineError::Unreadable { run, source })?;
        let before = std::mem::take(&mut followed.tasks);
        let (at, mark) = (step.at, Mark::Step(step.seq));
        let parts = committed(&step, &control, &before, has_told_tasks, state);
        let parts = parts.map_err(unreadable(run))?;
        followed.tasks = control.into_tasks();
        self.take_parts(followed, &mark, at, parts).await
    }

    async fn take_piece(&mut self, followed: &mut Followed, piece: FoundPiece) -> Result<(), Stop> {
        if piece.lost > 0 {
            let lost = Some(i64::from(piece.lost));
            self.tell_gap(followed, Lost::Pieces, lost, piece.at)
                .await?;
        }
        self.at(followed).pieces = piece.id;
        if piece.body.is_empty() {
            return Ok(());
        }
        let (mode, what) = if piece.kind == "text" {
            let what = Streamed::Message {
                step: piece.seq,
                task: piece.task,
                node: piece.node,
                attempt: piece.attempt,
                fence: piece.fence,
                name: piece.name,
                start: piece.start,
                text: piece.body,
            };
            (StreamMode::Messages, what)
        } else {
            let body = serde_json::from_str(&piece.body).unwrap_or(Value::String(piece.body));
            let what = Streamed::Shown {
                step: piece.seq,
                task: piece.task,
                node: piece.node,
                attempt: piece.attempt,
                fence: piece.fence,
                event: piece.name,
                body,
            };
            (StreamMode::Custom, what)
        };
        if self.has(mode) {
            return self.tell(followed, mode, piece.at, what).await;
        }
        Ok(())
    }

    /// Tells those parts of a row that are asked for and were not told before; with the last of them,
    /// the row is done with.
    async fn take_parts(
        &mut self,
        followed: &mut Followed,
        mark: &Mark,
        at: DateTime<Utc>,
        mut parts: Vec<Part>,
    ) -> Result<(), Stop> {
        let begun = self.at(followed).part.take();
        let from = begun
            .filter(|(begun, _)| begun == mark)
            .map_or(0, |(_, from)| from);
        parts.retain(|part| part.slot >= from && self.has(part.mode));
        let last = parts.pop();
        for part in parts {
            self.at(followed).part = Some((mark.clone(), part.slot + 1));
            self.tell_part(followed, at, part).await?;
        }
        let position = self.at(followed);
        position.part = None;
        match mark {
            Mark::Step(seq) => position.step_done(*seq),
            Mark::Wait(task, name) => drop(position.waits.insert((*task, name.clone()))),
            Mark::Outcome(task) => position.outcomes.insert(*task),
        }
        match last {
            Some(part) => self.tell_part(followed, at, part).await,
            None => Ok(()),
        }
    }

    async fn tell_gap(
        &mut self,
        followed: &Followed,
        of: Lost,
        lost: Option<i64>,
        at: DateTime<Utc>,
    ) -> Result<(), Stop> {
        let mode = match of {
            Lost::Pieces if self.has(StreamMode::Messages) => StreamMode::Messages,
            Lost::Pieces => StreamMode::Custom,
            Lost::Steps => self.modes.first().copied().unwrap_or(StreamMode::Updates),
        };
        self.tell(followed, mode, at, Streamed::Gap { of, lost })
            .await
    }

    async fn tell(
        &mut self,
        followed: &Followed,
        mode: StreamMode,
        at: DateTime<Utc>,
        what: Streamed,
    ) -> Result<(), Stop> {
        let item = self.item(followed, mode, at, what);
        self.send(item).await
    }

    async fn tell_part(
        &mut self,
        followed: &Followed,
        at: DateTime<Utc>,
        part: Part,
    ) -> Result<(), Stop> {
        let item = self.item(followed, part.mode, at, part.what);
        let state = part.state;
        self.send(StreamItem { state, ..item }).await
    }

    fn item(
        &self,
        followed: &Followed,
        mode: StreamMode,
        at: DateTime<Utc>,
        what: Streamed,
    ) -> StreamItem {
        StreamItem {
            position: self.position.clone(),
            run: followed.run,
            path: followed.path.clone(),
            mode,
            at,
            what,
            state: None,
        }
    }

    /// A reader that is slow is waited for here, with nothing held but what was read.
    async fn send(&self, item: StreamItem) -> Result<(), Stop> {
        self.told.send(Ok(item)).await.map_err(|_| Stop::Unread)
    }
}

fn unreadable(run: RunId) -> impl FnOnce(CodecError) -> EngineError {
    move |source| EngineError::Unreadable {
        run,
        source: Box::new(source),
    }
}
