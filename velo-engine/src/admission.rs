//! Which of a step's tasks may begin, where nodes have a limit of tasks at work at once.

use std::collections::{BTreeMap, VecDeque};

use crate::executor::Task;
use crate::shape::Shape;
use crate::state::State;

/// The tasks of one step that wait to begin.
#[derive(Debug)]
pub(crate) struct Admission {
    /// For each task of the step, its lane.
    lane_of: Vec<usize>,
    lanes: Vec<Lane>,
}

/// The waiting tasks that share a limit: those of one limited node, or of all the others.
#[derive(Debug)]
struct Lane {
    waiting: VecDeque<usize>,
    at_work: usize,
    at_most: usize,
}

impl Admission {
    /// Has the `due` ones of these tasks wait.
    pub(crate) fn new<S: State>(
        shape: &Shape<S>,
        tasks: &[Task],
        due: impl Iterator<Item = usize>,
    ) -> Self {
        let lane = |at_most| Lane {
            waiting: VecDeque::new(),
            at_work: 0,
            at_most,
        };
        let mut lanes = vec![lane(usize::MAX)];
        let mut of_node = BTreeMap::new();
        let lane_of = tasks.iter().map(|task| {
            shape.at_most(&task.node).map_or(0, |at_most| {
                *of_node.entry(task.node.as_str()).or_insert_with(|| {
                    lanes.push(lane(at_most));
                    lanes.len() - 1
                })
            })
        });
        let lane_of: Vec<usize> = lane_of.collect();
        let mut admission = Self { lane_of, lanes };
        for task in due {
            admission.wait(task);
        }
        admission
    }

    /// Has the task wait behind those that wait already.
    pub(crate) fn wait(&mut self, task: usize) {
        self.lane(task).waiting.push_back(task);
    }

    /// The first waiting task that may begin. It is at work until it [leaves](Self::leave).
    pub(crate) fn admit(&mut self) -> Option<usize> {
        let open = |lane: &&mut Lane| lane.at_work < lane.at_most && !lane.waiting.is_empty();
        let lane = self
            .lanes
            .iter_mut()
            .filter(open)
            .min_by_key(|lane| lane.waiting.front().copied())?;
        lane.at_work += 1;
        lane.waiting.pop_front()
    }

    /// Ends the work of a task: another of its node may begin.
    pub(crate) fn leave(&mut self, task: usize) {
        self.lane(task).at_work -= 1;
    }

    fn lane(&mut self, task: usize) -> &mut Lane {
        &mut self.lanes[self.lane_of[task]]
    }
}

#[cfg(test)]
mod tests;
