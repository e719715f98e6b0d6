//! The executor: pure functions from a checkpoint and the outcomes of its tasks to the next checkpoint.
//!
//! It never touches a database and never runs user code, so every rule of the graph is tested here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::next::{Next, Route, Target};
use crate::shape::Shape;
use crate::state::{ConcurrentUpdate, State};

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
    /// For each join, by its position in the graph, the sources that have finished.
    pub joins: BTreeMap<usize, BTreeSet<String>>,
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
    /// The run has taken all the steps that the graph allows.
    #[error(
        "the run has taken all {0} steps that the graph allows: raise .step_limit(…) or mend the loop"
    )]
    StepLimit(u64),
}

/// The checkpoint of a run that has just started.
pub fn begin<S: State>(shape: &Shape<S>, state: S) -> Checkpoint<S> {
    let start = Task {
        node: shape.start().to_owned(),
        send: None,
        input: None,
    };
    Checkpoint {
        step: 0,
        state,
        tasks: vec![start],
        joins: BTreeMap::new(),
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
        if self.step >= shape.step_limit() && !self.tasks.is_empty() {
            return Err(AdvanceError::StepLimit(shape.step_limit()));
        }
        let mut plan = Plan {
            joins: self.joins.clone(),
            ..Plan::default()
        };
        let mut updates = Vec::new();
        for (task, outcome) in self.tasks.iter().zip(outcomes) {
            let written = outcome.updates.into_iter();
            updates.extend(written.map(|update| (task.node.as_str(), update)));
            plan.follow(shape, &task.node, outcome.route)?;
        }
        self.state.apply(updates)?;
        self.joins = std::mem::take(&mut plan.joins);
        self.tasks = plan.into_tasks();
        self.step += 1;
        Ok(())
    }
}

/// The next step while it is being planned.
#[derive(Debug, Default)]
struct Plan {
    nodes: BTreeSet<String>,
    sends: Vec<(String, Value)>,
    joins: BTreeMap<usize, BTreeSet<String>>,
}

impl Plan {
    fn follow<S: State>(
        &mut self,
        shape: &Shape<S>,
        from: &str,
        route: Route,
    ) -> Result<(), AdvanceError> {
        let routes = shape
            .routes(from)
            .ok_or_else(|| AdvanceError::UnknownNode(from.to_owned()))?;
        let targets = match route {
            Route::Edges => {
                self.nodes
                    .extend(routes.edges.iter().map(|node| (*node).to_owned()));
                self.arrive(shape, from);
                return Ok(());
            }
            Route::To(targets) => targets,
        };
        for target in targets {
            let to = match &target {
                Target::Goto(to) | Target::Send(to, _) => *to,
            };
            if !routes.may_go_to.contains(to) {
                return Err(AdvanceError::UndeclaredRoute {
                    from: from.to_owned(),
                    to: to.to_owned(),
                });
            }
            match target {
                Target::Goto(_) => drop(self.nodes.insert(to.to_owned())),
                Target::Send(_, Ok(input)) => self.sends.push((to.to_owned(), input)),
                Target::Send(_, Err(reason)) => {
                    return Err(AdvanceError::BadPayload {
                        from: from.to_owned(),
                        to: to.to_owned(),
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    /// Notes that `from` has finished; opens, and arms again, each join that waited only for it.
    fn arrive<S: State>(&mut self, shape: &Shape<S>, from: &str) {
        for (index, join) in shape
            .joins()
            .iter()
            .enumerate()
            .filter(|(_, join)| join.sources.contains(from))
        {
            let arrived = self.joins.entry(index).or_default();
            arrived.insert(from.to_owned());
            if arrived.len() == join.sources.len() {
                self.joins.remove(&index);
                self.nodes.insert(join.target.to_owned());
            }
        }
    }

    /// Nodes by name, then sends in the order in which they were made.
    fn into_tasks(self) -> Vec<Task> {
        let nodes = self.nodes.into_iter().map(|node| Task {
            node,
            send: None,
            input: None,
        });
        let sends = (0u32..).zip(self.sends).map(|(send, (node, input))| Task {
            node,
            send: Some(send),
            input: Some(input),
        });
        nodes.chain(sends).collect()
    }
}
