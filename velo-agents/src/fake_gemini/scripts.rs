//! Which script a request gets.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::received::Received;
use super::script::Script;

/// What was scripted and not used yet.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    queue: VecDeque<Script>,
    by_asker: HashMap<Asker, Own>,
}

/// Agent and purpose.
type Asker = (String, String);

/// What is scripted for one agent and purpose.
#[derive(Debug, Default)]
struct Own {
    queue: VecDeque<Script>,
    always: Option<Script>,
}

impl Scripts {
    pub(super) fn next(&self, script: Script) {
        self.change(|left| left.queue.push_back(script));
    }

    pub(super) fn next_of(&self, agent: &str, purpose: &str, script: Script) {
        self.own(agent, purpose, |own| own.queue.push_back(script));
    }

    pub(super) fn always_of(&self, agent: &str, purpose: &str, script: Script) {
        self.own(agent, purpose, |own| own.always = Some(script));
    }

    /// The script for `request`: first what was meant for its agent and purpose, then the queue,
    /// then the fallback.
    pub(super) fn take(&self, request: &Received) -> Script {
        let asker = (
            request.agent.clone().unwrap_or_default(),
            request.purpose.clone().unwrap_or_default(),
        );
        self.change(|left| {
            let own = left.by_asker.get_mut(&asker);
            own.and_then(|own| own.queue.pop_front().or_else(|| own.always.clone()))
                .or_else(|| left.queue.pop_front())
                .unwrap_or_else(Script::fallback)
        })
    }

    /// How many scripts wait for their request; those for always are not counted.
    pub(super) fn unused(&self) -> usize {
        self.change(|left| {
            let own: usize = left.by_asker.values().map(|own| own.queue.len()).sum();
            left.queue.len() + own
        })
    }

    fn own(&self, agent: &str, purpose: &str, change: impl FnOnce(&mut Own)) {
        let asker = (agent.to_owned(), purpose.to_owned());
        self.change(|left| change(left.by_asker.entry(asker).or_default()));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Left) -> T) -> T {
        change(&mut self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
