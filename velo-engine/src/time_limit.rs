//! How long a node may take.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::NodeError;
use crate::store::failure::LONGEST;

/// How long a node may take; what is `None` is not limited.
///
/// An attempt over a limit is dropped, whatever it is doing: what only its commit would have made true
/// is undone, and it counts as failed with [`NodeErrorKind::TimedOut`](crate::NodeErrorKind::TimedOut).
/// What the node has spawned is not dropped with it: it sees [`Context::cancelled`](crate::Context::cancelled).
/// A node that blocks its thread cannot be dropped before it comes to its next `await`.
///
/// ```
/// use std::time::Duration;
/// use velo_engine::TimeLimit;
///
/// let limit = TimeLimit {
///     start_to_close: Some(Duration::from_secs(60)),
///     idle: Some(Duration::from_secs(10)),
///     ..TimeLimit::default()
/// };
/// # let _ = limit;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLimit {
    /// From the commit of the step before to the beginning of the first attempt. Not tried again. An
    /// attempt that left no trace before its process died counts as not begun.
    pub schedule_to_start: Option<Duration>,
    /// From the beginning to the end of one attempt. Time in which the run waits without a worker, for
    /// an answer, a time or a message, is no part of it.
    pub start_to_close: Option<Duration>,
    /// Between two signs of life of one attempt: [`progress`](crate::Context::progress),
    /// [`heartbeat`](crate::Context::heartbeat), or a [`step`](crate::Context::step) that was kept.
    pub idle: Option<Duration>,
    /// All attempts and all waits together, from the commit of the step before, or from when somebody
    /// last resumed the run. Not tried again; an attempt that could begin only after it is not waited for.
    /// For a node that waits without a worker it is looked at when the node would go on.
    pub schedule_to_close: Option<Duration>,
}

/// Which limit of a [`TimeLimit`] was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// [`TimeLimit::schedule_to_start`].
    ScheduleToStart,
    /// [`TimeLimit::start_to_close`].
    StartToClose,
    /// [`TimeLimit::idle`].
    Idle,
    /// [`TimeLimit::schedule_to_close`].
    ScheduleToClose,
}

impl Limit {
    /// Whether another attempt would be over it as well.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::ScheduleToStart | Self::ScheduleToClose)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScheduleToStart => "schedule_to_start",
            Self::StartToClose => "start_to_close",
            Self::Idle => "idle",
            Self::ScheduleToClose => "schedule_to_close",
        })
    }
}

impl TimeLimit {
    /// Whether an attempt may begin `age` after its task was there.
    pub(crate) fn may_begin(&self, is_first: bool, age: Duration) -> Result<(), NodeError> {
        match (self.schedule_to_start, self.schedule_to_close) {
            (Some(limit), _) if is_first && age > limit => {
                Err(NodeError::timed_out(Limit::ScheduleToStart, limit))
            }
            (_, Some(limit)) if age >= limit => {
                Err(NodeError::timed_out(Limit::ScheduleToClose, limit))
            }
            _ => Ok(()),
        }
    }

    /// Whether an attempt that begins `age` after its task was there comes too late.
    pub(crate) fn is_over_by(&self, age: Duration) -> bool {
        self.schedule_to_close.is_some_and(|limit| age >= limit)
    }

    /// Resolves when an attempt that begins now, `age` after its task was there, is over a limit.
    pub(crate) async fn passed(self, age: Duration, pulse: &Pulse) -> NodeError {
        let begun = Instant::now();
        loop {
            let Some((at, limit, after)) = self.soonest(begun, age, pulse.last()) else {
                return std::future::pending().await;
            };
            if at <= Instant::now() {
                return NodeError::timed_out(limit, after);
            }
            tokio::time::sleep_until(at).await;
        }
    }

    /// The limit that an attempt is over first, and when, if it gives no further sign of life.
    fn soonest(
        &self,
        begun: Instant,
        age: Duration,
        beat: Instant,
    ) -> Option<(Instant, Limit, Duration)> {
        let bounded = |limit: Duration| limit.min(LONGEST);
        let all = self.schedule_to_close.map(|limit| {
            let left = bounded(limit).saturating_sub(age);
            (begun + left, Limit::ScheduleToClose, limit)
        });
        let own = self.start_to_close;
        let own = own.map(|limit| (begun + bounded(limit), Limit::StartToClose, limit));
        let idle = self.idle;
        let idle = idle.map(|limit| (beat + bounded(limit), Limit::Idle, limit));
        let limits = [all, own, idle].into_iter().flatten();
        limits.min_by_key(|(at, ..)| *at)
    }
}

/// When an attempt last gave a sign of life.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(crate) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// B37: pure.
    #[test]
    fn signs_of_life_put_off_the_idle_limit_and_no_other() {
        let limit = TimeLimit {
            start_to_close: Some(10 * SECOND),
            idle: Some(2 * SECOND),
            ..TimeLimit::default()
        };
        let begun = Instant::now();
        let soonest = |beat| limit.soonest(begun, Duration::ZERO, beat);
        let idle = |at| Some((at, Limit::Idle, 2 * SECOND));
        assert_eq!(soonest(begun), idle(begun + 2 * SECOND));
        assert_eq!(soonest(begun + 5 * SECOND), idle(begun + 7 * SECOND));
        let own = Some((begun + 10 * SECOND, Limit::StartToClose, 10 * SECOND));
        assert_eq!(soonest(begun + 9 * SECOND), own);
    }

    #[test]
    fn the_time_of_all_attempts_is_what_the_earlier_ones_have_left() {
        let limit = TimeLimit {
            schedule_to_close: Some(10 * SECOND),
            ..TimeLimit::default()
        };
        let begun = Instant::now();
        let all = |left| Some((begun + left, Limit::ScheduleToClose, 10 * SECOND));
        assert_eq!(limit.soonest(begun, 7 * SECOND, begun), all(3 * SECOND));
        assert_eq!(
            limit.soonest(begun, 70 * SECOND, begun),
            all(Duration::ZERO)
        );
        assert!(limit.is_over_by(10 * SECOND) && !limit.is_over_by(9 * SECOND));
        assert!(limit.may_begin(false, 11 * SECOND).is_err());
        assert!(NodeError::timed_out(Limit::ScheduleToClose, SECOND).is_permanent());
        assert!(!NodeError::timed_out(Limit::Idle, SECOND).is_permanent());
    }

    #[test]
    fn the_longest_limit_there_is_can_be_counted() {
        let limit = TimeLimit {
            start_to_close: Some(Duration::MAX),
            idle: Some(Duration::MAX),
            ..TimeLimit::default()
        };
        let now = Instant::now();
        assert!(limit.soonest(now, Duration::ZERO, now).is_some());
        assert_eq!(TimeLimit::default().soonest(now, SECOND, now), None);
    }

    #[test]
    fn only_a_first_attempt_can_begin_too_late() {
        let limit = TimeLimit {
            schedule_to_start: Some(SECOND),
            ..TimeLimit::default()
        };
        assert!(limit.may_begin(true, 2 * SECOND).is_err());
        assert!(limit.may_begin(true, SECOND).is_ok());
        assert!(limit.may_begin(false, 2 * SECOND).is_ok());
    }
}
