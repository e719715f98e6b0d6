//! Typed graphs whose every step is committed to Postgres.
//!
//! A graph is defined in code, over a typed state. A run of it is started with one call, and goes on
//! in whatever worker process has the graph: after a crash another one takes over, and nothing that was
//! committed is done again. The crate `velo-worker` has the worker; the part here that decides what comes
//! next is pure, see [`executor`].
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use velo_engine::prelude::*;
//!
//! #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
//! struct Report {
//!     topic: String,
//!     #[state(append)]
//!     drafts: Vec<String>,
//! }
//!
//! const PLAN: NodeKey<Report> = NodeKey::new("plan");
//! const WRITE: NodeKey<Report, String> = NodeKey::new("write");
//!
//! async fn plan(cx: Context<Report>) -> NodeResult<Report> {
//!     let parts = cx.state().topic.split(" and ").map(str::to_owned);
//!     Ok(Next::send_all(WRITE, parts))
//! }
//!
//! async fn write(cx: Context<Report, String>) -> NodeResult<Report> {
//!     let draft = format!("about {}", cx.input());
//!     Ok(Report::update().drafts(vec![draft]).into())
//! }
//!
//! let graph = Graph::builder("report", 1)
//!     .node(PLAN, plan)
//!     .node(WRITE, write)
//!     .may_go(PLAN, WRITE)
//!     .start(PLAN)
//!     .compile()?;
//! println!("{}", graph.shape().mermaid());
//! # Ok::<(), velo_engine::ShapeErrors>(())
//! ```
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | define the state and how it is written | [`State`](trait@State), [`Update`], [`Overwrite`] |
//! | write a node | [`Node`], [`Context`], [`Next`], [`UpdateRoute`] |
//! | lay out the graph | [`Graph::builder`], [`GraphBuilder`] |
//! | say what a failure means | [`NodeError`], [`Again`], [`RetryPolicy`] |
//! | start, watch, resume and cancel runs | [`Engine`], [`Start`], [`Run`] |
//! | limit what the fleet does at once, and how fast | [`Gate`], [`Allowance`], [`Start::queue`], [`Context::limit`] |
//! | follow a run as it goes on, from any process | [`Engine::stream`], [`Streamed`], [`Position`] |
//! | change code under live runs | the derive [`State`](derive@State), [`GraphBuilder::continues`], [`Engine::check`], [`Engine::move_run`] |
//! | see how all runs stand | [`Engine::watch`] |
//! | see what failed, and do the same to many runs | [`FailureGroup`], [`RunFilter`], [`BulkAction`] |
//! | say how long runs are kept | [`Engine::set_retention`], [`Kept`] |
//! | start runs by the calendar | [`schedule`] |
//! | draw a graph or a run | [`Shape::mermaid`], [`Outline::layout`], [`Engine::progress`] |
//! | keep documents that outlive runs | [`item`], [`Context::put`] |
//! | have the work done | `Worker` in the crate `velo-worker` |
//! | test a graph on a database of its own | the feature `test-kit`, module `test_kit` |
//!
//! [`Serve`], [`Setting`], [`Commit`] and the module [`lease`] are for who writes a worker; a service
//! that uses one needs none of them. What the engine logs, it logs through `tracing`.
#![deny(missing_docs)]

// The derive names the crate, and the tests in here use it.
#[cfg(test)]
extern crate self as velo_engine;

pub mod code;
pub mod codec;
pub mod events;
pub mod executor;
pub mod failpoint;
pub mod item;
pub mod json_schema;
pub mod lease;
pub mod limits;
mod loader;
pub mod metrics;
#[cfg(feature = "embedded-postgres")]
pub mod postgres;
pub mod reducer;
pub mod schedule;
#[cfg(feature = "test-kit")]
pub mod test_kit;
pub mod trace;

mod admission;
mod breakpoint;
mod bulk;
mod check;
mod context;
mod copy;
mod delete;
mod diff;
mod edit;
mod engine;
mod error;
mod export;
mod failures;
mod family;
mod fence;
mod fingerprint;
mod fit;
mod fork;
mod gate;
mod gates;
mod graph;
mod handlers;
mod handling;
mod health;
mod history;
mod migrate;
mod move_run;
mod near;
mod next;
mod node;
mod node_failure;
mod observed;
mod operate;
mod outline;
mod overview;
mod picture;
mod pieces;
mod places;
mod progress;
mod query;
mod question;
mod rebind;
mod reencrypt;
mod resources;
mod retention;
mod retry;
mod rule;
mod run_filter;
mod run_id;
mod schema;
mod shape;
mod start;
mod state;
mod storable;
mod store;
mod stored;
mod stream;
mod subgraph;
mod terms;
mod thread;
mod time_limit;
mod turn;
mod update;
mod updated;
mod value;
mod vault;
mod wait;
mod why;

pub use breakpoint::Breakpoints;
pub use bulk::{Bulk, BulkAction, BulkStatus};
pub use check::{BrokenRun, BrokenSchedule, Check, CodeCheck, Misfit};
pub use context::{
    Ask, Child, ChildEnd, Context, FencedTransaction, NodeTransaction, Select, StepKey,
};
pub use copy::COPY_MAX;
pub use diff::{Change, Diff, DiffError};
pub use edit::StateEdit;
pub use engine::{Engine, EngineError, PAGE_MAX, Run, RunStatus, Step, WorkerInfo};
pub use error::{Again, NodeError, NodeErrorKind, NodeResult};
pub use export::{BadExport, ExportedRun, ExportedStep, Payload, RunExport};
pub use failures::FailureGroup;
pub use fence::{Fence, NoFence};
pub use fork::{Fork, Origin};
pub use gate::{Allowance, BadAllowance, Gate, GateInfo, NoGate, Rate};
pub use gates::Gates;
pub use graph::{Graph, GraphBuilder, ShapeErrors};
pub use handlers::{QueryKey, UpdateKey};
pub use handling::FailureClass;
pub use health::{Finding, Grade, examine};
pub use history::HistoryStep;
pub use loader::Loader;
pub use migrate::{Pending, migrate, pending, pending_of};
pub use near::nearest;
pub use next::{Next, UpdateRoute};
pub use node::{Node, NodeKey};
pub use node_failure::NodeFailure;
pub use observed::{Happening, Observed};
pub use outline::{Outline, OutlineNode, Way, WayKind};
pub use overview::{GraphLoad, Overview, Rates, Watch};
pub use picture::{Layout, PlacedLine, PlacedNode, Point};
pub use pieces::Pieces;
pub use places::Places;
pub use progress::{NodeProgress, NodeState, PROGRESS_STEPS_MAX, RunProgress};
pub use question::{BadQuestionId, ListedQuestion, Question, QuestionFilter, QuestionId};
pub use reencrypt::{REENCRYPT_MAX, ReencryptPosition, Reencrypted};
pub use resources::Resources;
pub use retention::{ALL_GRAPHS, BadKept, Kept, Prunable, PrunableRuns, RetentionRule, Swept};
pub use retry::RetryPolicy;
pub use rule::{FieldRule, MergeRule, RuleError};
pub use run_filter::RunFilter;
pub use run_id::RunId;
pub use schema::{ReplayError, Written};
pub use shape::{
    DEFAULT_STEP_LIMIT, NAME_MAX, NODES_MAX, Shape, ShapeBuilder, ShapeError, Sources,
};
pub use start::Start;
pub use state::{
    CodecError, ConcurrentUpdate, FieldWrites, Overwrite, State, StoredWrite, Update, Write, Writes,
};
pub use storable::{BadValue, Unstored};
pub use store::child::{ChildRun, OnClose};
pub use store::run::CHANNEL as QUEUE_CHANNEL;
pub use store::update::{OPEN_UPDATES_MAX, UPDATES_MAX};
pub use store::{STATEMENTS, is_transient};
pub use stream::{
    BadPosition, Level, Lost, Position, Replay, RunStream, StreamBuilder, StreamItem, StreamMode,
    Streamed,
};
pub use thread::{IfBusy, IfClosed, LINE_MAX, Thread};
pub use time_limit::{Limit, TimeLimit};
pub use turn::{Commit, Reach, Serve, Setting, TurnEnd};
pub use update::{RunUpdate, UpdateRequest};
pub use updated::{Refusal, UpdateResult, Updated};
pub use vault::Vault;
pub use velo_engine_macros::State;
pub use why::{AwaitedChild, HeldBack, HeldUp, Why};

/// All that a graph's definition needs.
pub mod prelude {
    pub use crate::{
        Again, Context, Engine, EngineError, Graph, Next, Node, NodeError, NodeKey, NodeResult,
        Overwrite, RetryPolicy, RunId, RunStatus, Shape, State, Update, UpdateRoute, executor,
    };
}
