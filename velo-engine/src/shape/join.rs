//! Joins: nodes that start when several others have finished.

use std::collections::{BTreeMap, BTreeSet};

/// A node that starts when enough of its sources have finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) sources: BTreeSet<&'static str>,
    pub(crate) target: &'static str,
    pub(crate) rule: JoinRule,
    /// Whether a run may end while some sources have come and others have not.
    pub(crate) may_stay_shut: bool,
    /// For each source, the nodes from which it can still be reached in the same round: without
    /// passing through the target, which begins the next one.
    pub(crate) leads: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

/// When a join opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinRule {
    /// When every source has finished since it last opened.
    All,
    /// For the n-th time when this many sources have finished n times.
    Some(usize),
}

impl Join {
    /// How many of the sources it takes.
    pub(crate) fn needs(&self) -> usize {
        match self.rule {
            JoinRule::All => self.sources.len(),
            JoinRule::Some(needs) => needs,
        }
    }

    /// Whether `source` may still come in the round that is under way, when these nodes are the ones
    /// left to run.
    pub(crate) fn may_come<'a>(
        &self,
        source: &str,
        mut left: impl Iterator<Item = &'a str>,
    ) -> bool {
        self.leads
            .get(source)
            .is_some_and(|leads| left.any(|node| leads.contains(node)))
    }
}
