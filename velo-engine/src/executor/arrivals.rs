//! How far a join is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::shape::{Join, JoinRule};

/// Which sources of a join have finished since it last opened for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Arrivals {
    /// How often each source has finished; never zero.
    finished: BTreeMap<String, u32>,
    /// How often the join has opened meanwhile.
    opened: u32,
}

impl Arrivals {
    /// The sources that have finished.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.finished.keys().map(String::as_str)
    }

    /// Whether the join waits for more: a source has finished that has not opened it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.finished.values().any(|times| *times > self.opened)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty()
    }

    /// Notes that these sources have finished in one step; whether the join opens.
    pub(super) fn arrive<'a>(
        &mut self,
        join: &Join,
        sources: impl Iterator<Item = &'a str>,
    ) -> bool {
        for source in sources {
            let times = self.finished.entry(source.to_owned()).or_default();
            *times = match join.rule {
                JoinRule::All => 1,
                JoinRule::Some(_) => times.saturating_add(1),
            };
        }
        let ahead = self.finished.values().filter(|times| **times > self.opened);
        let opens = ahead.count() >= join.needs();
        if opens {
            self.opened += 1;
            self.level(join);
        }
        opens
    }

    /// Lets go of the sources that cannot come any more in the rounds that have begun: they were
    /// skipped. `left` are the nodes that are left to run.
    pub(super) fn skip(&mut self, join: &Join, left: &BTreeSet<&str>) {
        if self.opened == 0 {
            return;
        }
        for source in &join.sources {
            let times = self.finished.get(*source).copied().unwrap_or_default();
            if times < self.opened && !join.may_come(source, left.iter().copied()) {
                self.finished.insert((*source).to_owned(), self.opened);
            }
        }
        self.level(join);
    }

    /// Forgets the rounds for which all sources have come.
    fn level(&mut self, join: &Join) {
        let times = |source: &&str| self.finished.get(*source).copied().unwrap_or_default();
        let all = join.sources.iter().map(times).min().unwrap_or_default();
        let over = all.min(self.opened);
        self.opened -= over;
        self.finished.retain(|_, times| {
            *times -= over;
            *times > 0
        });
    }
}

/// Short where it can be: a list of names, unless some counts have to be kept.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Once(BTreeSet<String>),
    Often {
        #[serde(rename = "f")]
        finished: BTreeMap<String, u32>,
        #[serde(rename = "o")]
        opened: u32,
    },
}

impl From<Stored> for Arrivals {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Once(sources) => Self {
                finished: sources.into_iter().map(|source| (source, 1)).collect(),
                opened: 0,
            },
            Stored::Often { finished, opened } => Self { finished, opened },
        }
    }
}

impl From<Arrivals> for Stored {
    fn from(arrivals: Arrivals) -> Self {
        let Arrivals { finished, opened } = arrivals;
        if opened == 0 && finished.values().all(|times| *times == 1) {
            Self::Once(finished.into_keys().collect())
        } else {
            Self::Often { finished, opened }
        }
    }
}
