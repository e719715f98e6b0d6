//! Planning the next step from the routes that the tasks of this one took.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::{AdvanceError, Arrivals, Task};
use crate::next::{Route, Sent, Target};
use crate::shape::Shape;
use crate::state::State;

/// The next step while it is being planned.
#[derive(Debug)]
pub(super) struct Plan<'a, S> {
    shape: &'a Shape<S>,
    now: Led,
    deferred: Led,
    joins: BTreeMap<usize, Arrivals>,
    /// The nodes of this step that followed their edges.
    finished: BTreeSet<String>,
}

/// What the next step, or a later one, was led to.
#[derive(Debug, Default)]
struct Led {
    nodes: BTreeSet<String>,
    sends: Vec<(String, Payload)>,
}

/// What a send brings.
#[derive(Debug)]
pub(super) struct Payload {
    input: Value,
    within: Option<Duration>,
}

/// What a step leaves beside its state.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) tasks: Vec<Task>,
    pub(super) deferred: Vec<Task>,
    pub(super) joins: BTreeMap<usize, Arrivals>,
}

impl<'a, S: State> Plan<'a, S> {
    pub(super) fn new(
        shape: &'a Shape<S>,
        deferred: &[Task],
        joins: &BTreeMap<usize, Arrivals>,
    ) -> Self {
        let mut plan = Self {
            shape,
            now: Led::default(),
            deferred: Led::default(),
            joins: joins.clone(),
            finished: BTreeSet::new(),
        };
        for task in deferred {
            // A payload of null is told from none by the number of the send.
            let sent = task.send.map(|_| Payload {
                input: task.input.clone().unwrap_or_default(),
                within: task.within,
            });
            plan.deferred.add(task.node.clone(), sent);
        }
        plan
    }

    /// Leads to `node`, now or when nothing else is left.
    pub(super) fn lead_to(&mut self, node: &str, sent: Option<Payload>) {
        let is_deferred = self.shape.node(node).is_some_and(|node| node.is_deferred);
        let led = if is_deferred {
            &mut self.deferred
        } else {
            &mut self.now
        };
        led.add(node.to_owned(), sent);
    }

    /// Whether the graph says that `from` may go to `to`.
    pub(super) fn may_go(&self, from: &str, to: &str) -> Result<(), AdvanceError> {
        let ways = self.shape.node(from);
        let ways = ways.ok_or_else(|| AdvanceError::UnknownNode(from.to_owned()))?;
        if ways.may_go_to.contains(to) {
            return Ok(());
        }
        Err(AdvanceError::UndeclaredRoute {
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    /// Takes the way that a task of `from` chose.
    pub(super) fn follow(&mut self, from: &str, route: Route) -> Result<(), AdvanceError> {
        let shape = self.shape;
        let ways = shape
            .node(from)
            .ok_or_else(|| AdvanceError::UnknownNode(from.to_owned()))?;
        let targets = match route {
            Route::To(targets) => targets,
            Route::Edges | Route::Unwind(_) => {
                for to in &ways.edges {
                    self.lead_to(to, None);
                }
                self.finished.insert(from.to_owned());
                return Ok(());
            }
        };
        for target in targets {
            let to = target.node();
            self.may_go(from, to)?;
            match target {
                Target::Goto(_) => self.lead_to(to, None),
                Target::Send(_, Sent { input, within }) => {
                    let input = input.map_err(|reason| AdvanceError::BadPayload {
                        from: from.to_owned(),
                        to: to.to_owned(),
                        reason,
                    })?;
                    self.lead_to(to, Some(Payload { input, within }));
                }
            }
        }
        Ok(())
    }

    /// The plan of a first step: nothing has finished yet.
    pub(super) fn settle_first(mut self) -> Planned {
        self.release();
        self.into_planned()
    }

    /// The plan, once all tasks have chosen.
    pub(super) fn settle(mut self) -> Result<Planned, AdvanceError> {
        self.open_joins();
        self.release();
        let left: BTreeSet<&str> = self.now.names().chain(self.deferred.names()).collect();
        for (index, arrivals) in &mut self.joins {
            if let Some(join) = self.shape.joins().get(*index) {
                arrivals.skip(join, &left);
            }
        }
        self.joins.retain(|_, arrivals| !arrivals.is_empty());
        if self.now.is_empty() {
            self.refuse_to_forget()?;
        }
        Ok(self.into_planned())
    }

    fn into_planned(self) -> Planned {
        Planned {
            tasks: self.now.into_tasks(),
            deferred: self.deferred.into_tasks(),
            joins: self.joins,
        }
    }

    /// Lets the deferred nodes run when nothing else is left.
    fn release(&mut self) {
        if self.now.is_empty() {
            self.now = std::mem::take(&mut self.deferred);
        }
    }

    /// Several tasks of one node in one step finish together: they count once.
    fn open_joins(&mut self) {
        let shape = self.shape;
        for (index, join) in shape.joins().iter().enumerate() {
            let come = self.finished.iter().map(String::as_str);
            let mut come = come.filter(|node| join.sources.contains(node)).peekable();
            if come.peek().is_none() {
                continue;
            }
            if self.joins.entry(index).or_default().arrive(join, come) {
                self.lead_to(join.target, None);
            }
        }
    }

    /// A run must not end as if all were well while a join still waits.
    fn refuse_to_forget(&self) -> Result<(), AdvanceError> {
        for (index, arrivals) in &self.joins {
            let Some(join) = self.shape.joins().get(*index) else {
                continue;
            };
            if !arrivals.is_waiting() || join.may_stay_shut {
                continue;
            }
            let come: Vec<_> = arrivals.sources().map(str::to_owned).collect();
            let missing = join.sources.iter().map(|source| (*source).to_owned());
            return Err(AdvanceError::ShutJoin {
                target: join.target.to_owned(),
                missing: missing.filter(|source| !come.contains(source)).collect(),
                come,
            });
        }
        Ok(())
    }
}

impl Led {
    fn add(&mut self, node: String, sent: Option<Payload>) {
        match sent {
            Some(payload) => self.sends.push((node, payload)),
            None => drop(self.nodes.insert(node)),
        }
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.sends.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let sends = self.sends.iter().map(|(node, _)| node);
        self.nodes.iter().chain(sends).map(String::as_str)
    }

    /// Nodes by name, then sends in the order in which they were made.
    fn into_tasks(self) -> Vec<Task> {
        let nodes = self.nodes.into_iter().map(|node| Task {
            node,
            send: None,
            input: None,
            within: None,
        });
        let sends = (0u32..).zip(self.sends);
        let sends = sends.map(|(send, (node, Payload { input, within }))| Task {
            node,
            send: Some(send),
            input: Some(input),
            within,
        });
        nodes.chain(sends).collect()
    }
}
