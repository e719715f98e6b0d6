//! What code that is about to be deployed would do to the runs that are live.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use crate::engine::{Engine, EngineError};
use crate::graph::Graph;
use crate::run_id::RunId;
use crate::state::State;
use crate::store;
use crate::store::code::LiveRun;
use crate::store::run::RunStatus;
use crate::turn::Serve;

/// Runs that are looked at in one page.
const PAGE: i64 = 200;
/// Most runs that are told of; more are counted.
const TOLD_MAX: usize = 1_000;
const CHECKING: &str = "check the live runs";

impl Engine {
    /// Looks whether the code could go on with each live run of the graph's name, whatever version the run
    /// is pinned to: await what is returned. Call it where new code is tested against the database that it
    /// will be deployed to, or when a service starts. Nothing is changed.
    ///
    /// Each run is read as a worker would read it. What its nodes do is not looked at.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Report { topic: String }
    /// # async fn example(engine: &Engine, graph: &Graph<Report>, before: &Graph<Report>) -> Result<(), EngineError> {
    /// // `before` is the version that is served beside it until its runs have ended.
    /// let check = engine.check(graph).and(before).await?;
    /// for broken in &check.broken {
    ///     eprintln!("{broken}");
    /// }
    /// assert!(check.is_fine());
    /// # Ok(())
    /// # }
    /// ```
    pub fn check<S: State>(&self, graph: &Graph<S>) -> Check<'_> {
        let check = Check {
            engine: self,
            graphs: Vec::new(),
        };
        check.and(graph)
    }
}

/// A check about to be made. Await it; see [`Engine::check`].
#[must_use = "nothing is checked before it is awaited"]
pub struct Check<'a> {
    engine: &'a Engine,
    graphs: Vec<Arc<dyn Serve>>,
}

impl Check<'_> {
    /// Also with this graph, or another version of the same, as a worker that serves all of them.
    pub fn and<S: State>(mut self, graph: &Graph<S>) -> Self {
        self.add(Arc::new(graph.clone()));
        self
    }

    fn add(&mut self, graph: Arc<dyn Serve>) {
        if self.graphs.iter().any(|other| other.code() == graph.code()) {
            return;
        }
        let children = graph.children();
        self.graphs.push(graph);
        for child in children {
            self.add(child);
        }
    }

    async fn made(self) -> Result<CodeCheck, EngineError> {
        let on = || EngineError::on(CHECKING);
        let pool = self.engine.pool();
        let mut names: Vec<String> = Vec::new();
        for graph in &self.graphs {
            let code = graph.code();
            let name = code.rsplit_once('@').map_or(code, |(name, _)| name);
            if !names.iter().any(|other| other == name) {
                names.push(name.to_owned());
            }
        }
        let mut check = CodeCheck::default();
        let mut after = None;
        loop {
            let page = store::code::live_runs(pool, &names, after, PAGE)
                .await
                .map_err(on())?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for live in page {
                check.runs += 1;
                let misfits = self.misfits(&live).await?;
                // Some may have ended, or gone on, since the page was read: what is told is as it stood then.
                if misfits.is_empty() {
                    continue;
                }
                check.broken_runs += 1;
                if check.broken.len() < TOLD_MAX {
                    check.broken.push(BrokenRun {
                        run: live.id,
                        graph: live.graph,
                        version: live.version,
                        status: live.status,
                        misfits,
                    });
                }
            }
        }
        let schedules = store::code::schedules(pool, &names).await.map_err(on())?;
        let broken = schedules
            .into_iter()
            .filter(|(_, code)| self.serving(code).is_none());
        let broken = broken.map(|(schedule, code)| BrokenSchedule { schedule, code });
        check.schedules = broken.collect();
        Ok(check)
    }

    async fn misfits(&self, live: &LiveRun) -> Result<Vec<Misfit>, EngineError> {
        match self.serving(&live.code) {
            Some(graph) => graph
                .misfits(self.engine, live.id)
                .await
                .map_err(EngineError::on(CHECKING)),
            None => Ok(vec![Misfit::NoVersion {
                code: crate::code::graph_of(&live.code).to_owned(),
            }]),
        }
    }

    /// The graph that a worker would take for it.
    fn serving(&self, queued: &str) -> Option<&Arc<dyn Serve>> {
        let own = crate::code::graph_of(queued);
        let of = |graph: &&Arc<dyn Serve>| {
            graph
                .codes()
                .iter()
                .any(|code| crate::code::graph_of(code) == own)
        };
        let exact = self.graphs.iter().find(|graph| graph.code() == own);
        exact.or_else(|| self.graphs.iter().find(of))
    }
}

impl<'a> IntoFuture for Check<'a> {
    type Output = Result<CodeCheck, EngineError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Looks at all live runs. Errors are the database's. Dropped half-way, nothing is lost.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.made())
    }
}

impl fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("graphs", &self.graphs)
            .finish_non_exhaustive()
    }
}

/// What code would do to the live runs of its graphs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CodeCheck {
    /// Live runs that were looked at.
    pub runs: u64,
    /// Those that the code could not go on with: all of them.
    pub broken_runs: u64,
    /// Those, oldest first; at most a thousand.
    pub broken: Vec<BrokenRun>,
    /// Schedules whose next run the code could not run.
    pub schedules: Vec<BrokenSchedule>,
}

impl CodeCheck {
    /// Whether the code can go on with every live run.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.broken_runs == 0 && self.schedules.is_empty()
    }
}

/// A live run that the code could not go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BrokenRun {
    /// The run.
    pub run: RunId,
    /// Its graph.
    pub graph: String,
    /// The version that it is pinned to.
    pub version: i32,
    /// How far it is.
    pub status: RunStatus,
    /// Why; never empty.
    pub misfits: Vec<Misfit>,
}

/// Such as `run 7 of report@1: …`.
impl fmt::Display for BrokenRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            graph,
            version,
            misfits,
            ..
        } = self;
        let why: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        write!(f, "run {run} of {graph}@{version}: {}", why.join("; "))
    }
}

/// A schedule whose next run the code could not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BrokenSchedule {
    /// Its name.
    pub schedule: String,
    /// The graph and version that it starts.
    pub code: String,
}

/// Such as ``schedule `nightly` starts report@1, …``.
impl fmt::Display for BrokenSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedule, code } = self;
        write!(
            f,
            "schedule `{schedule}` starts {code}, which the code does not have: set it up again with the new version"
        )
    }
}

/// Why code could not go on with a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misfit {
    /// The run is pinned to a version that is not there and that none continues.
    NoVersion {
        /// The graph and version.
        code: String,
    },
    /// A node that is next, or was put off, is gone.
    NodeGone {
        /// The node.
        node: String,
    },
    /// What was sent to a node that is next is not what it takes now.
    InputChanged {
        /// The node.
        node: String,
        /// Why it cannot be read.
        message: String,
    },
    /// A question is open whose answer the code takes in another form.
    AnswerChanged {
        /// The node that asks.
        node: String,
        /// The question.
        question: String,
    },
    /// Joins have begun to wait that are others in this code.
    JoinsChanged,
    /// The state was written in a version from which no upcasts lead to the code's.
    NoUpcast {
        /// The version that wrote it.
        stored: u32,
        /// The oldest version that the code reads.
        oldest: u32,
    },
    /// The state was written by newer code.
    NewerState {
        /// The version that wrote it.
        stored: u32,
        /// The code's.
        version: u32,
    },
    /// Tasks of the step under way have finished with an older version of the state.
    StepUnderway {
        /// That version.
        stored: u32,
    },
    /// What is stored does not fit the types.
    Unreadable {
        /// Why.
        message: String,
    },
}

/// Why, and what to do.
impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVersion { code } => write!(
                f,
                "the code does not have {code}: serve it too until its runs have ended, or have the new version continue it"
            ),
            Self::NodeGone { node } => write!(
                f,
                "its next node `{node}` is gone: keep it, say what it is called now, or edit the run"
            ),
            Self::InputChanged { node, message } => write!(
                f,
                "what was sent to its next node `{node}` is not what that takes now: {message}"
            ),
            Self::AnswerChanged { node, question } => write!(
                f,
                "the question `{question}` of node `{node}` is open, and its answer has another form now"
            ),
            Self::JoinsChanged => f.write_str(
                "joins have begun to wait that are others in this code: keep them under this version, or let the run go on first",
            ),
            Self::NoUpcast { stored, oldest } => write!(
                f,
                "its state was written in version {stored}, and the code reads from version {oldest} on: keep the upcasts"
            ),
            Self::NewerState { stored, version } => write!(
                f,
                "its state was written in version {stored}, and the code has version {version}"
            ),
            Self::StepUnderway { stored } => write!(
                f,
                "tasks of the step under way have finished with version {stored} of the state: an older worker has to end the step"
            ),
            Self::Unreadable { message } => write!(f, "its state cannot be read: {message}"),
        }
    }
}
