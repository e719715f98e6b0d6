//! The requests so far, and what became of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::received::{Outcome, Received};

/// Most requests that are kept; older ones are forgotten, but still counted.
pub const MAX_LOGGED: usize = 10_000;
/// Most bytes of request bodies that are kept, so that long prompts do not fill the memory.
const MAX_LOGGED_BYTES: usize = 256 * 1024 * 1024;

/// All requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    /// Changes whenever the log does.
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    received: usize,
    bytes: usize,
    requests: VecDeque<Received>,
}

impl Log {
    pub(super) fn requests(&self) -> Vec<Received> {
        self.lock().requests.iter().cloned().collect()
    }

    /// Waits until what is logged is as `is_met` wants it.
    pub(super) async fn wait_until(&self, is_met: impl Fn(&[Received]) -> bool) {
        self.wait(|kept| is_met(kept.requests.make_contiguous()))
            .await;
    }

    pub(super) async fn wait_for(&self, requests: usize) {
        self.wait(|kept| kept.received >= requests).await;
    }

    /// Writes down a request that has arrived and gives it its `n`.
    pub(super) fn open(self: &Arc<Self>, received: &mut Received) -> Entry {
        let n = {
            let mut kept = self.lock();
            kept.received += 1;
            received.n = kept.received;
            kept.bytes += received.body.len();
            while kept.requests.len() >= MAX_LOGGED || kept.bytes > MAX_LOGGED_BYTES {
                let Some(oldest) = kept.requests.pop_front() else {
                    break;
                };
                kept.bytes -= oldest.body.len();
            }
            kept.requests.push_back(received.clone());
            kept.received
        };
        self.changed();
        Entry {
            log: Arc::clone(self),
            n,
            is_settled: false,
        }
    }

    async fn wait(&self, is_met: impl Fn(&mut Kept) -> bool) {
        // Subscribed before the first look, so that no change is missed.
        let mut versions = self.version.subscribe();
        while !is_met(&mut self.lock()) {
            versions
                .changed()
                .await
                .expect("the sender is borrowed from self");
        }
    }

    fn set(&self, n: usize, outcome: Outcome) {
        {
            let mut kept = self.lock();
            // Newest first: a request that changes is seldom old.
            if let Some(found) = kept.requests.iter_mut().rev().find(|kept| kept.n == n) {
                found.outcome = outcome;
            }
        }
        self.changed();
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered. Dropped before it is settled, its client has gone: that is
/// when the server gives up a reply.
#[derive(Debug)]
pub(super) struct Entry {
    log: Arc<Log>,
    n: usize,
    is_settled: bool,
}

impl Entry {
    /// Notes a passing state.
    pub(super) fn note(&self, outcome: Outcome) {
        self.log.set(self.n, outcome);
    }

    /// Notes how it ended.
    pub(super) fn settle(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.is_settled = true;
        self.note(outcome);
        tracing::debug!(n = self.n, ?outcome, "the fake model was asked");
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_settled {
            self.end(Outcome::ClientGone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::received::{Endpoint, Method};
    use super::*;

    fn received(body: String) -> Received {
        let endpoint = Endpoint::ApiKey {
            version: "v1".to_owned(),
        };
        let mut received = Received::example(Method::Generate, endpoint, "gemini-x");
        received.body = body;
        received
    }

    fn numbers(log: &Log) -> Vec<usize> {
        log.requests().iter().map(|kept| kept.n).collect()
    }

    #[tokio::test]
    async fn the_oldest_request_is_forgotten_at_the_limit_but_counted() {
        let log = Arc::new(Log::default());
        let first = log.open(&mut received(String::new()));
        for _ in 0..MAX_LOGGED {
            log.open(&mut received(String::new()))
                .settle(Outcome::Answered);
        }
        log.wait_for(MAX_LOGGED + 1).await;
        first.settle(Outcome::Answered);
        let kept = numbers(&log);
        assert_eq!((kept.len(), kept[0]), (MAX_LOGGED, 2));
    }

    #[test]
    fn long_bodies_are_forgotten_earlier() {
        let log = Arc::new(Log::default());
        let half = "x".repeat(MAX_LOGGED_BYTES / 2);
        for _ in 0..3 {
            log.open(&mut received(half.clone()));
        }
        assert_eq!(numbers(&log), [2, 3]);
    }

    #[test]
    fn a_request_that_is_dropped_before_its_end_has_lost_its_client() {
        let log = Arc::new(Log::default());
        drop(log.open(&mut received(String::new())));
        assert_eq!(log.requests()[0].outcome, Outcome::ClientGone);
    }
}
