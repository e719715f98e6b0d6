//! The stream of a run: what becomes of it, as it does, in any process, from any place on.
//!
//! What is durable is told from the rows that the run leaves anyway: nothing is written a second time
//! for those who watch. So a stream is exactly what has happened, and each item of it comes once and in
//! order, whoever reads on from where another has stopped. What nodes [say](crate::Context::say) is the one
//! thing that can be missed, and a [gap](Streamed::Gap) tells of it.

mod item;
mod order;
mod parts;
mod position;
mod reader;
mod replay;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Engine, EngineError};
use crate::graph::Graph;
use crate::run_id::RunId;
use crate::state::State;
use crate::turn::Serve;

pub use item::{Level, Lost, StreamItem, StreamMode, Streamed};
pub use position::{BadPosition, Position};
pub use replay::Replay;
pub(crate) use replay::Replaying;

use reader::{Reader, Told};

/// Items that are read ahead of whoever takes them.
const AHEAD: usize = 16;
/// Deepest nesting of graphs that is looked through for children's types.
const GRAPHS_MAX: usize = 1_000;

impl Engine {
    /// Begins to read what becomes of a run of `graph`: choose what to see, then [open](StreamBuilder::open)
    /// it. Any process may, whether or not it runs the graph; the run never waits for its readers.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # use velo_engine::{Position, Streamed};
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Report { drafts: u32 }
    /// # async fn example(engine: Engine, graph: Graph<Report>, run: RunId, seen: Position) -> Result<(), EngineError> {
    /// let stream = engine.stream(&graph, run).values().messages().subgraphs();
    /// let mut stream = stream.from(seen).open().await?;
    /// while let Some(item) = stream.next().await {
    ///     let item = item?;
    ///     if let Some(state) = item.state {
    ///         println!("{} drafts", state.drafts);
    ///     }
    ///     if let Streamed::Message { text, .. } = item.what {
    ///         print!("{text}");
    ///     }
    ///     let go_on_from_here = item.position.to_string();
    /// #   let _ = go_on_from_here;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream<S: State>(&self, graph: &Graph<S>, run: RunId) -> StreamBuilder<S> {
        StreamBuilder::new(self, run, Some(Arc::new(graph.clone())), typed)
    }

    /// As [`stream`](Self::stream), for a reader that does not know the state's type: states are JSON.
    /// Those of runs whose graph was not [given](StreamBuilder::knows) cannot be told.
    pub fn stream_json(&self, run: RunId) -> StreamBuilder<Value> {
        StreamBuilder::new(self, run, None, Ok)
    }
}

type Decode<V> = fn(StreamItem) -> Result<StreamItem<V>, EngineError>;

/// A stream about to be opened; see [`Engine::stream`].
#[must_use = "nothing is read before it is opened"]
pub struct StreamBuilder<V> {
    engine: Engine,
    run: RunId,
    graphs: Vec<Arc<dyn Serve>>,
    is_typed: bool,
    modes: BTreeSet<StreamMode>,
    from: Position,
    subgraphs: bool,
    until_stuck: bool,
    decode: Decode<V>,
}

impl<V> StreamBuilder<V> {
    fn new(engine: &Engine, run: RunId, graph: Option<Arc<dyn Serve>>, decode: Decode<V>) -> Self {
        Self {
            engine: engine.clone(),
            run,
            is_typed: graph.is_some(),
            graphs: graph.into_iter().collect(),
            modes: BTreeSet::new(),
            from: Position::START,
            subgraphs: false,
            until_stuck: false,
            decode,
        }
    }

    /// The whole state after each step, and questions.
    pub fn values(self) -> Self {
        self.mode(StreamMode::Values)
    }

    /// What each task writes, as it ends, and questions. This is what is told when nothing is chosen.
    pub fn updates(self) -> Self {
        self.mode(StreamMode::Updates)
    }

    /// What nodes [say](crate::Context::say): the tokens of models.
    pub fn messages(self) -> Self {
        self.mode(StreamMode::Messages)
    }

    /// What nodes [emit](crate::Context::emit) and [show](crate::Context::show).
    pub fn custom(self) -> Self {
        self.mode(StreamMode::Custom)
    }

    /// Tasks as they are planned, end, fail, ask, and start runs.
    pub fn tasks(self) -> Self {
        self.mode(StreamMode::Tasks)
    }

    /// The steps as they are committed.
    pub fn checkpoints(self) -> Self {
        self.mode(StreamMode::Checkpoints)
    }

    /// Tasks and steps.
    pub fn debug(self) -> Self {
        self.tasks().checkpoints()
    }

    /// Also this mode. Several are told in one order: what a task wrote before the state with it in.
    pub fn mode(mut self, mode: StreamMode) -> Self {
        self.modes.insert(mode);
        self
    }

    /// Only what comes after this place: the position of the last item that was dealt with, by whatever
    /// process. A mode that was not read before begins where that place is, and not at its own start.
    pub fn from(mut self, position: Position) -> Self {
        self.from = position;
        self
    }

    /// Also what becomes of the child runs that tasks wait for, subgraphs among them, however deep,
    /// while they are at work. All of it comes before the end of the task.
    pub fn subgraphs(mut self) -> Self {
        self.subgraphs = true;
        self
    }

    /// Ends also when the run is paused or waits for somebody, and not only with the run: as
    /// [`Engine::wait`] does.
    pub fn until_stuck(mut self) -> Self {
        self.until_stuck = true;
        self
    }

    /// Names a graph whose states can be told, of this run or of those below.
    pub fn knows(mut self, graph: impl Serve) -> Self {
        self.graphs.push(Arc::new(graph));
        self
    }

    /// Begins to read. A few items are read ahead; a reader that is slow delays itself alone.
    ///
    /// # Errors
    /// [`EngineError::NoRun`]; [`EngineError::OtherGraph`] when the run is of another graph, or when its
    /// values are asked for and its graph is not known; [`EngineError::NoStep`] when it has not come as far
    /// as the place to read from; [`EngineError::Unreadable`]; or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn open(mut self) -> Result<RunStream<V>, EngineError> {
        let found = self.engine.run(self.run).await?;
        let code = format!("{}@{}", found.graph, found.version);
        let given = self.graphs.first().map(|graph| graph.code().to_owned());
        if self.modes.is_empty() {
            self.modes.insert(StreamMode::Updates);
        }
        let graphs = with_children(std::mem::take(&mut self.graphs));
        let is_known = graphs.iter().any(|graph| graph.code() == code);
        let is_other = self.is_typed && given.as_ref() != Some(&code);
        if is_other || (self.modes.contains(&StreamMode::Values) && !is_known) {
            return Err(EngineError::OtherGraph {
                run: self.run,
                graph: code,
                given: given.unwrap_or_else(|| "none".to_owned()),
            });
        }
        let (told, items) = mpsc::channel(AHEAD);
        let mut reader = Reader {
            pool: self.engine.pool().clone(),
            vault: self.engine.vault().clone(),
            modes: self.modes,
            graphs,
            subgraphs: self.subgraphs,
            until_stuck: self.until_stuck,
            position: self.from,
            told,
        };
        let root = reader.open(self.run, &code).await?;
        Ok(RunStream {
            items,
            decode: self.decode,
            _reader: AbortOnDropHandle::new(tokio::spawn(reader.read(root))),
        })
    }
}

impl<V> fmt::Debug for StreamBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBuilder")
            .field("run", &self.run)
            .field("modes", &self.modes)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// What becomes of a run, item by item; ends when the run has ended and all was told. A
/// [`futures::Stream`] too. Dropped, it stops to read.
pub struct RunStream<V> {
    items: mpsc::Receiver<Told>,
    decode: Decode<V>,
    _reader: AbortOnDropHandle<()>,
}

impl<V> RunStream<V> {
    /// The next item; `None` at the end. An error is the last thing that comes.
    ///
    /// # Errors
    /// [`EngineError::NoRun`] when the run was deleted meanwhile, [`EngineError::Unreadable`] when a state
    /// is none of the type, or the database's when it is away for longer than a minute.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Result<StreamItem<V>, EngineError>> {
        let told = self.items.recv().await?;
        Some(told.and_then(self.decode))
    }
}

impl<V> futures::Stream for RunStream<V> {
    type Item = Result<StreamItem<V>, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let decode = self.decode;
        let told = self.items.poll_recv(cx);
        told.map(|told| told.map(|told| told.and_then(decode)))
    }
}

impl<V> fmt::Debug for RunStream<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunStream").finish_non_exhaustive()
    }
}

/// These graphs and those whose runs their nodes start.
fn with_children(graphs: Vec<Arc<dyn Serve>>) -> Vec<Arc<dyn Serve>> {
    let mut known: Vec<Arc<dyn Serve>> = Vec::new();
    let mut waiting = graphs;
    while let Some(graph) = waiting.pop() {
        let is_new = known.iter().all(|other| other.code() != graph.code());
        if is_new && known.len() < GRAPHS_MAX {
            waiting.extend(graph.children());
            known.push(graph);
        }
    }
    known
}

/// Gives the state of the run itself its type; those of runs below have others.
fn typed<S: State>(item: StreamItem) -> Result<StreamItem<S>, EngineError> {
    let run = item.run;
    let (what, state) = match (item.what, item.state) {
        (what, Some(state)) if item.path.is_empty() => {
            let state =
                serde_json::from_value(state).map_err(|source| EngineError::Unreadable {
                    run,
                    source: Box::new(source),
                })?;
            (what, Some(state))
        }
        (Streamed::Values { step }, Some(state)) => (Streamed::ChildValues { step, state }, None),
        (what, _) => (what, None),
    };
    Ok(StreamItem {
        position: item.position,
        run,
        path: item.path,
        mode: item.mode,
        at: item.at,
        what,
        state,
    })
}
