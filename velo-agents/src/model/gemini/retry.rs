//! Whether, and how long after a failure, a request is made again.
//!
//! The only file that uses the crate `backoff`: it is no longer maintained, so nothing else may
//! come to depend on it. It decides; sleeping is done by the caller.

use std::time::{Duration, Instant};

use backoff::SystemClock;
use backoff::backoff::Backoff;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};

use super::fault::Fault;
use crate::model::{ModelError, ModelErrorKind};

const MULTIPLIER: f64 = 2.0;

/// How often and how patiently a failed request is made again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// HTTP requests for one call, the first included.
    pub max_attempts: u32,
    /// Upper bound of the first random delay; the bound doubles with each attempt.
    pub first_delay: Duration,
    /// Upper bound of every random delay.
    pub max_delay: Duration,
    /// Time for the whole call: attempts and waits.
    pub deadline: Duration,
    /// A wait longer than this is not slept: the call ends with
    /// [`ModelErrorKind::RateLimited`], so that the caller can give its lease back meanwhile.
    pub max_wait: Duration,
    /// What waits are multiplied with when they are slept. One, except in tests that do not want
    /// to wait; limits and [`Progress::Waiting`](crate::model::Progress::Waiting) are not scaled.
    pub time_scale: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            deadline: Duration::from_secs(300),
            max_wait: Duration::from_secs(60),
            time_scale: 1.0,
        }
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: RetryPolicy,
    schedule: ExponentialBackoff<SystemClock>,
    made: u32,
    deadline: Instant,
}

/// A wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// As the provider asked or as was drawn.
    pub(super) nominal: Duration,
    /// What is slept: the same, scaled by [`RetryPolicy::time_scale`].
    pub(super) slept: Duration,
}

impl Attempts {
    /// Starts the clock of a call.
    pub(super) fn begin(policy: &RetryPolicy, now: Instant) -> Self {
        // Full jitter is a uniform draw from zero to the bound. The crate draws from
        // `interval * (1 ± factor)`, so half the bound with a factor of one is that.
        let schedule = ExponentialBackoffBuilder::<SystemClock>::new()
            .with_initial_interval(policy.first_delay / 2)
            .with_max_interval(policy.max_delay / 2)
            .with_multiplier(MULTIPLIER)
            .with_randomization_factor(1.0)
            .with_max_elapsed_time(None)
            .build();
        Self {
            policy: policy.clone(),
            schedule,
            made: 0,
            deadline: now + policy.deadline,
        }
    }

    /// How long an attempt that begins `now` may take, at most `limit`.
    pub(super) fn time_for_attempt(&self, now: Instant, limit: Duration) -> Duration {
        self.deadline.saturating_duration_since(now).min(limit)
    }

    /// The wait after `fault`, or the error that ends the call.
    pub(super) fn after(&mut self, fault: Fault, now: Instant) -> Result<Wait, ModelError> {
        self.made += 1;
        let (error, advice) = match classify(fault) {
            backoff::Error::Permanent(error) => return Err(error),
            backoff::Error::Transient { err, retry_after } => (err, retry_after),
        };
        let nominal = match advice {
            Some(advice) => advice,
            None => self
                .schedule
                .next_backoff()
                .expect("the schedule has no maximum elapsed time"),
        };
        if nominal > self.policy.max_wait {
            return Err(ModelError {
                kind: ModelErrorKind::RateLimited {
                    retry_after: Some(nominal),
                },
                message: format!(
                    "{}; asked to wait {} s, try again then",
                    error.message,
                    nominal.as_secs()
                ),
                source: error.source,
            });
        }
        if self.made >= self.policy.max_attempts {
            return Err(ended(
                error,
                &format!("gave up after {} attempts", self.made),
            ));
        }
        let slept = nominal
            .try_mul(self.policy.time_scale)
            .unwrap_or(self.policy.max_wait);
        if now + slept >= self.deadline {
            let limit = self.policy.deadline.as_secs();
            return Err(ended(error, &format!("gave up after {limit} s")));
        }
        Ok(Wait { nominal, slept })
    }
}

/// The retry crate's words for what a fault means.
fn classify(fault: Fault) -> backoff::Error<ModelError> {
    match (fault.error.kind.is_transient(), fault.advice) {
        (false, _) => backoff::Error::permanent(fault.error),
        (true, None) => backoff::Error::transient(fault.error),
        (true, Some(advice)) => backoff::Error::retry_after(fault.error, advice),
    }
}

fn ended(mut error: ModelError, how: &str) -> ModelError {
    error.message = format!("{}; {how}, try again later", error.message);
    error
}

/// `Duration::mul_f64` without its panics.
trait TryMul {
    fn try_mul(self, factor: f64) -> Option<Duration>;
}

impl TryMul for Duration {
    fn try_mul(self, factor: f64) -> Option<Duration> {
        Self::try_from_secs_f64(self.as_secs_f64() * factor).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: ModelErrorKind, advice: Option<Duration>) -> Fault {
        let mut fault = Fault::new(kind, "it failed");
        fault.advice = advice;
        fault
    }

    fn begin(policy: &RetryPolicy) -> (Attempts, Instant) {
        let now = Instant::now();
        (Attempts::begin(policy, now), now)
    }

    #[test]
    fn without_advice_the_bound_doubles_up_to_the_cap() {
        let policy = RetryPolicy {
            max_attempts: 100,
            max_delay: Duration::from_secs(4),
            deadline: Duration::from_secs(100_000),
            ..RetryPolicy::default()
        };
        let mut largest = [Duration::ZERO; 5];
        for _ in 0..200 {
            let (mut attempts, now) = begin(&policy);
            for (index, bound) in [1, 2, 4, 4, 4].into_iter().enumerate() {
                let wait = attempts
                    .after(fault(ModelErrorKind::Unavailable, None), now)
                    .unwrap();
                let bound = Duration::from_secs(bound) + Duration::from_micros(1);
                assert!(wait.nominal <= bound, "{wait:?} above {bound:?}");
                assert_eq!(wait.nominal, wait.slept);
                largest[index] = largest[index].max(wait.nominal);
            }
        }
        // 200 draws that all stay in the lower half have a chance of one in 2^200.
        assert!(largest[2] > Duration::from_secs(2), "{largest:?}");
    }

    #[test]
    fn advice_is_taken_as_it_is_and_slept_to_scale() {
        let policy = RetryPolicy {
            time_scale: 0.001,
            ..RetryPolicy::default()
        };
        let (mut attempts, now) = begin(&policy);
        let advice = Duration::from_secs(38);
        let kind = ModelErrorKind::RateLimited {
            retry_after: Some(advice),
        };
        let wait = attempts.after(fault(kind, Some(advice)), now).unwrap();
        assert_eq!(wait.nominal, advice);
        assert_eq!(wait.slept, Duration::from_millis(38));
    }

    #[test]
    fn a_long_wait_is_given_back() {
        let (mut attempts, now) = begin(&RetryPolicy::default());
        let advice = Duration::from_secs(61);
        let error = attempts
            .after(fault(ModelErrorKind::Unavailable, Some(advice)), now)
            .unwrap_err();
        assert_eq!(
            error.kind,
            ModelErrorKind::RateLimited {
                retry_after: Some(advice)
            }
        );
    }

    #[test]
    fn the_last_attempt_ends_the_call() {
        let policy = RetryPolicy {
            max_attempts: 3,
            ..RetryPolicy::default()
        };
        let (mut attempts, now) = begin(&policy);
        for _ in 0..2 {
            assert!(
                attempts
                    .after(fault(ModelErrorKind::Unavailable, None), now)
                    .is_ok()
            );
        }
        let error = attempts
            .after(fault(ModelErrorKind::Unavailable, None), now)
            .unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Unavailable);
        assert!(error.message.contains("3 attempts"), "{error}");
    }

    #[test]
    fn a_wait_beyond_the_deadline_ends_the_call() {
        let policy = RetryPolicy {
            deadline: Duration::from_secs(10),
            ..RetryPolicy::default()
        };
        let (mut attempts, now) = begin(&policy);
        let later = now + Duration::from_secs(9);
        let left = attempts.time_for_attempt(later, Duration::from_secs(5));
        assert_eq!(left, Duration::from_secs(1));
        let wait = Some(Duration::from_secs(2));
        assert!(
            attempts
                .after(fault(ModelErrorKind::Unavailable, wait), later)
                .is_err()
        );
    }

    #[test]
    fn a_permanent_failure_is_not_repeated() {
        for kind in [
            ModelErrorKind::Auth,
            ModelErrorKind::BadRequest,
            ModelErrorKind::QuotaExhausted,
            ModelErrorKind::Blocked,
        ] {
            let (mut attempts, now) = begin(&RetryPolicy::default());
            let error = attempts.after(fault(kind.clone(), None), now).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (kind, "it failed"));
        }
    }
}
