//! Times at a fixed distance.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::spec::SpecError;

/// Shortest distance.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest one: a hundred years.
const EVERY_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Every so often since 1970, moved by a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    every_us: i64,
    phase_us: i64,
}

impl Interval {
    pub(crate) fn new(every: Duration, phase: Duration) -> Result<Self, SpecError> {
        if !(EVERY_MIN..=EVERY_MAX).contains(&every) {
            return Err(SpecError::Every(every));
        }
        if phase >= every {
            return Err(SpecError::Phase { every, phase });
        }
        let microseconds =
            |time: Duration| i64::try_from(time.as_micros()).expect("at most a hundred years");
        Ok(Self {
            every_us: microseconds(every),
            phase_us: microseconds(phase),
        })
    }

    pub(crate) fn every(self) -> Duration {
        Duration::from_micros(self.every_us.unsigned_abs())
    }

    pub(crate) fn phase(self) -> Duration {
        Duration::from_micros(self.phase_us.unsigned_abs())
    }

    pub(crate) fn next_after(self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let since = after.timestamp_micros().checked_sub(self.phase_us)?;
        let times = since.div_euclid(self.every_us).checked_add(1)?;
        let next = times
            .checked_mul(self.every_us)?
            .checked_add(self.phase_us)?;
        DateTime::from_timestamp_micros(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_keeps_its_phase_whenever_it_is_asked() {
        let hourly = Interval::new(Duration::from_secs(3_600), Duration::from_secs(300)).unwrap();
        let next = |after: &str| {
            hourly
                .next_after(after.parse().unwrap())
                .unwrap()
                .to_rfc3339()
        };
        assert_eq!(next("2026-06-01T00:00:00Z"), "2026-06-01T00:05:00+00:00");
        assert_eq!(next("2026-06-01T00:05:00Z"), "2026-06-01T01:05:00+00:00");
        assert_eq!(next("1969-12-31T23:10:00Z"), "1970-01-01T00:05:00+00:00");
        assert_eq!(hourly.next_after(DateTime::<Utc>::MAX_UTC), None);
    }

    #[test]
    fn an_interval_too_short_or_with_a_phase_beyond_it_is_refused() {
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        assert!(Interval::new(second, none).is_ok());
        assert!(Interval::new(Duration::from_millis(999), none).is_err());
        assert!(Interval::new(Duration::MAX, none).is_err());
        assert!(Interval::new(second, second).is_err());
    }
}
