//! The executor: pure functions from a checkpoint and the outcomes of its tasks to the next checkpoint.
//!
//! It never touches a database and never runs user code, so every rule of the graph is tested here.

mod arrivals;
mod plan;
mod saga;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::breakpoint::Breakpoints;
use crate::next::{Next, Route};
use crate::shape::Shape;
use crate::state::{ConcurrentUpdate, State};

pub use arrivals::Arrivals;
use plan::{Plan, Planned};
pub use saga::Saga;

/// Where a run stands between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint<S> {
    /// Steps taken so far.
    pub step: u64,
    /// The state that the tasks see.
    pub state: S,
    /// The tasks of the next step, in the order in which their writes will be applied; empty when
    /// the run has finished.
    pub tasks: Vec<Task>,
    /// Tasks of deferred nodes: they become the next step's when nothing else is left to run.
    pub deferred: Vec<Task>,
    /// For each join that has begun to wait, by its position in the graph, how far it is.
    pub joins: BTreeMap<usize, Arrivals>,
    /// Steps that this run may take, when it was started with a limit of its own.
    pub step_limit: Option<u64>,
    /// Where this run is paused, beside where its graph says.
    pub breakpoints: Breakpoints,
    /// The nodes of the step before after whose work the run is to be paused.
    pub halted_after: Vec<String>,
    /// What can be taken back.
    #[serde(default)]
    pub saga: Saga,
}

/// One execution of one node in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The node.
    pub node: String,
    /// Which of the step's sends it is, from zero; `None` for a task that an edge or `goto` started.
    pub send: Option<u32>,
    /// The payload of a send.
    pub input: Option<Value>,
    /// How long an attempt may take, when the [send says so](crate::Next::send_within).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
}

/// A step that cannot be taken. The checkpoint before it still holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvanceError {
    /// The number of outcomes is not the number of tasks.
    #[error("the step has {tasks} tasks, but {outcomes} outcomes were given")]
    Outcomes {
        /// Tasks of the checkpoint.
        tasks: usize,
        /// Outcomes given.
        outcomes: usize,
    },
    /// Two writes cannot both hold.
    #[error(transparent)]
    ConcurrentUpdate(#[from] ConcurrentUpdate),
    /// A node went where the graph does not say it may.
    #[error("node `{from}` may not go to `{to}`: declare it with .may_go({from}, {to})")]
    UndeclaredRoute {
        /// The node that chose the route.
        from: String,
        /// The route it chose.
        to: String,
    },
    /// The payload of a send has no JSON form.
    #[error("the payload that node `{from}` sends to `{to}` cannot be stored: {reason}")]
    BadPayload {
        /// The sender.
        from: String,
        /// The receiver.
        to: String,
        /// Why.
        reason: String,
    },
    /// The checkpoint names a node that the graph does not have.
    #[error("the graph has no node `{0}`: was it renamed while the run was under way?")]
    UnknownNode(String),
    /// A checkpoint of another version of the graph has joins that have begun to wait.
    #[error(
        "joins were waiting, and another version of the graph may have others: use the version \
         that the run had, or a step at which none waits"
    )]
    OtherJoins,
    /// The run would end although some sources of a join have come, so that something was expected
    /// to follow.
    #[error(
        "the run would end while the join before `{target}` waits for {}, after {}: were they \
         skipped on purpose, say .may_stay_shut({target})",
        .missing.join(", "), .come.join(", ")
    )]
    ShutJoin {
        /// The node behind the join.
        target: String,
        /// The sources that have finished.
        come: Vec<String>,
        /// The sources that have not.
        missing: Vec<String>,
    },
    /// A node went on while the run was on its way back.
    #[error(
        "node `{from}` may not go to `{to}` while the run takes back what it has done: what follows is \
         what was registered before, and then what .unwind_to(…) named"
    )]
    Unwinding {
        /// The node that takes something back.
        from: String,
        /// The route it chose.
        to: String,
    },
    /// The run has taken all the steps that it may.
    #[error("the run has taken all {0} steps that it may: raise .step_limit(…) or mend the loop")]
    StepLimit(u64),
}

/// The checkpoint of a run that has just started.
///
/// The state is taken as it is given: no reducer is applied to it, for its type says already that it is
/// whole. What is to go through the reducers is written as an update and becomes a state by
/// [`Update::into_state`](crate::Update::into_state).
pub fn begin<S: State>(shape: &Shape<S>, state: S) -> Checkpoint<S> {
    let mut plan = Plan::new(shape, &[], &BTreeMap::new());
    for start in shape.starts() {
        plan.lead_to(start, None);
    }
    let Planned {
        tasks,
        deferred,
        joins,
    } = plan.settle_first();
    Checkpoint {
        step: 0,
        state,
        tasks,
        deferred,
        joins,
        step_limit: None,
        breakpoints: Breakpoints::default(),
        halted_after: Vec::new(),
        saga: Saga::default(),
    }
}

/// Takes one step: applies what the tasks wrote, in the order of the tasks whatever the order in
/// which they finished, and plans the next step's tasks.
///
/// # Errors
/// [`AdvanceError`]; nothing of the step is applied then.
pub fn advance<S: State>(
    shape: &Shape<S>,
    checkpoint: &Checkpoint<S>,
    outcomes: Vec<Next<S>>,
) -> Result<Checkpoint<S>, AdvanceError> {
    let mut next = checkpoint.clone();
    next.take_step(shape, outcomes)?;
    Ok(next)
}

impl<S: State> Checkpoint<S> {
    /// Steps that the run may still take, the one before it included: 1 before the last.
    #[must_use]
    pub fn steps_left(&self, shape: &Shape<S>) -> u64 {
        self.limit(shape).saturating_sub(self.step)
    }

    /// Whether the tasks may run at all: a step over the limit must not begin, for it would cost
    /// something and be refused.
    ///
    /// # Errors
    /// [`AdvanceError::StepLimit`].
    pub fn may_step(&self, shape: &Shape<S>) -> Result<(), AdvanceError> {
        if self.steps_left(shape) == 0 && !self.tasks.is_empty() {
            return Err(AdvanceError::StepLimit(self.limit(shape)));
        }
        Ok(())
    }

    /// Takes one step in place, as [`advance`], without copying the state.
    ///
    /// # Errors
    /// [`AdvanceError`]; the checkpoint is unchanged then.
    pub fn take_step(
        &mut self,
        shape: &Shape<S>,
        outcomes: Vec<Next<S>>,
    ) -> Result<(), AdvanceError> {
        if outcomes.len() != self.tasks.len() {
            return Err(AdvanceError::Outcomes {
                tasks: self.tasks.len(),
                outcomes: outcomes.len(),
            });
        }
        self.may_step(shape)?;
        let mut plan = Plan::new(shape, &self.deferred, &self.joins);
        let mut saga = self.saga.clone();
        let mut updates = Vec::new();
        for (task, outcome) in self.tasks.iter().zip(outcomes) {
            let written = outcome.updates.into_iter();
            updates.extend(written.map(|update| (task.node.as_str(), update)));
            for (to, sent) in outcome.compensations {
                plan.may_go(&task.node, to)?;
                saga.register(&task.node, to, sent)?;
            }
            match outcome.route {
                Route::Unwind(back) => {
                    if let Some(to) = back.then {
                        plan.may_go(&task.node, to)?;
                    }
                    saga.unwind(&task.node, back)?;
                }
                route if self.saga.is_unwinding() => saga.may_leave(&task.node, &route)?,
                route => plan.follow(&task.node, route)?,
            }
        }
        // Whatever else was under way is left where it is.
        let planned = match saga.is_unwinding() {
            true => Planned {
                tasks: saga.step_back(),
                ..Planned::default()
            },
            false => plan.settle()?,
        };
        self.state.apply(updates)?;
        self.halted_after = self.to_halt_after(shape);
        self.tasks = planned.tasks;
        self.deferred = planned.deferred;
        self.joins = planned.joins;
        self.saga = saga;
        self.step += 1;
        Ok(())
    }

    fn limit(&self, shape: &Shape<S>) -> u64 {
        self.step_limit.unwrap_or_else(|| shape.step_limit())
    }
}
