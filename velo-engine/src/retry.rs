//! How often, and how patiently, a failed node is tried again.

use std::time::Duration;

use crate::error::{NodeError, NodeErrorKind};

/// When a failed attempt of a node is followed by another. The attempts are counted in the
/// database, and the wait is a row there: both survive a crash. After the last one the run is paused.
///
/// ```
/// use velo_engine::RetryPolicy;
///
/// let patient = RetryPolicy { max_attempts: 10, ..RetryPolicy::default() };
/// # let _ = patient;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// The wait after the first failed attempt.
    pub first_delay: Duration,
    /// What each further wait is multiplied with.
    pub factor: f64,
    /// The longest wait. A delay that the error asks for is not bounded by it.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// Three attempts, the second after half a second, the third after another second.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            first_delay: Duration::from_millis(500),
            factor: 2.0,
            max_delay: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// A single attempt.
    #[must_use]
    pub fn never() -> Self {
        Self {
            max_attempts: 1,
            ..Self::default()
        }
    }

    /// The wait before the next attempt after `failed` attempts, the last of which ended with
    /// `error`; `None` when there is none.
    #[must_use]
    pub fn delay(&self, failed: u32, error: &NodeError) -> Option<Duration> {
        if error.is_permanent() || failed >= self.max_attempts {
            return None;
        }
        let waits = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.first_delay.as_secs_f64() * self.factor.powi(waits);
        let own = Duration::try_from_secs_f64(grown)
            .unwrap_or(self.max_delay)
            .min(self.max_delay);
        Some(match error.kind {
            NodeErrorKind::RetryAfter(asked) => asked.max(own),
            _ => own,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_end_with_the_attempts() {
        let policy = RetryPolicy {
            max_attempts: 5,
            first_delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(3),
        };
        let error = NodeError::transient("busy");
        let waits: Vec<_> = (1..=5).map(|failed| policy.delay(failed, &error)).collect();
        let seconds = |wait: u64| Some(Duration::from_secs(wait));
        assert_eq!(
            waits,
            [seconds(1), seconds(2), seconds(3), seconds(3), None]
        );
        assert_eq!(policy.delay(u32::MAX, &error), None);
    }

    #[test]
    fn a_delay_that_is_asked_for_is_kept_and_a_permanent_error_ends_it() {
        let mut error = NodeError::transient("busy");
        error.kind = NodeErrorKind::RetryAfter(Duration::from_secs(600));
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(1, &error), Some(Duration::from_secs(600)));
        assert_eq!(policy.delay(1, &NodeError::permanent("no")), None);
        assert_eq!(
            RetryPolicy::never().delay(1, &NodeError::transient("no")),
            None
        );
    }
}
