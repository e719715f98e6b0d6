//! When a schedule fires.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::interval::Interval;

/// When a schedule fires: by the calendar of a time zone, or at a fixed distance.
///
/// ```
/// use std::time::Duration;
/// use velo_engine::schedule::Spec;
///
/// let weekdays = Spec::cron("30 8 * * MON-FRI", "Europe/Stockholm")?;
/// let friday = "2026-06-05T12:00:00Z".parse()?;
/// assert_eq!(weekdays.next_after(friday), Some("2026-06-08T06:30:00Z".parse()?));
///
/// let quarters = Spec::every(Duration::from_secs(15 * 60))?;
/// assert_eq!(quarters.next_after(friday), Some("2026-06-05T12:15:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Spec(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Cron(Calendar),
    Every(Interval),
}

impl Spec {
    /// By a cron expression: minute, hour, day of the month, month, day of the week. Names such as
    /// `JAN` and `MON` are understood; of the days of the week, 0 and 7 are Sunday. When both day fields
    /// are given, a day that fits either one counts; one that begins with `*` is not given.
    ///
    /// `zone` is a name of the IANA database, such as `Europe/Stockholm` or `UTC`. When its clock is set
    /// ahead, a time that does not come fires once, at the first instant after the gap. When it is set
    /// back, a time that comes twice fires at the first: also `0 * * * *` then leaves out an hour. What
    /// is to come at equal distances is an [interval](Self::every).
    ///
    /// # Errors
    /// [`SpecError`], also when no day fits, such as 30 February.
    pub fn cron(expression: &str, zone: &str) -> Result<Self, SpecError> {
        Calendar::parse(expression, zone).map(Kind::Cron).map(Self)
    }

    /// Every so often, counted from the beginning of 1970 in UTC; at least a second.
    ///
    /// # Errors
    /// [`SpecError::Every`].
    pub fn every(every: Duration) -> Result<Self, SpecError> {
        Self::every_from(every, Duration::ZERO)
    }

    /// As [`every`](Self::every), later by `phase`, which is less than `every`: an hour with a phase of
    /// five minutes fires at five past each hour.
    ///
    /// # Errors
    /// [`SpecError::Every`] and [`SpecError::Phase`].
    pub fn every_from(every: Duration, phase: Duration) -> Result<Self, SpecError> {
        Interval::new(every, phase).map(Kind::Every).map(Self)
    }

    /// The first time after `after`; `None` when none comes any more: the calendar ends with 2100.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.0 {
            Kind::Cron(calendar) => calendar.next_after(after),
            Kind::Every(interval) => interval.next_after(after),
        }
    }

    /// The times after `after`, in order.
    pub fn after(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next_after(after), |last| self.next_after(*last))
    }

    /// The first `limit` times from `from` to `to`, both included.
    #[must_use]
    pub fn within(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        limit: usize,
    ) -> Vec<DateTime<Utc>> {
        let before = from.checked_sub_signed(chrono::Duration::microseconds(1));
        self.after(before.unwrap_or(from))
            .take_while(|time| *time <= to)
            .take(limit)
            .collect()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Cron(calendar) => write!(f, "{} ({})", calendar.text(), calendar.zone()),
            Kind::Every(interval) => {
                write!(f, "every {:?}", interval.every())?;
                match interval.phase() {
                    Duration::ZERO => Ok(()),
                    phase => write!(f, " from {phase:?}"),
                }
            }
        }
    }
}

/// What is in the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Cron { cron: String, zone: String },
    Every { every_us: u64, phase_us: u64 },
}

impl From<Spec> for Stored {
    fn from(spec: Spec) -> Self {
        match spec.0 {
            Kind::Cron(calendar) => Self::Cron {
                cron: calendar.text().to_owned(),
                zone: calendar.zone().to_owned(),
            },
            Kind::Every(interval) => Self::Every {
                every_us: u64::try_from(interval.every().as_micros()).unwrap_or(u64::MAX),
                phase_us: u64::try_from(interval.phase().as_micros()).unwrap_or(u64::MAX),
            },
        }
    }
}

impl TryFrom<Stored> for Spec {
    type Error = SpecError;

    fn try_from(stored: Stored) -> Result<Self, SpecError> {
        match stored {
            Stored::Cron { cron, zone } => Self::cron(&cron, &zone),
            Stored::Every { every_us, phase_us } => Self::every_from(
                Duration::from_micros(every_us),
                Duration::from_micros(phase_us),
            ),
        }
    }
}

/// Why something says no times.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not five fields.
    #[error(
        "a cron expression has five fields (minute, hour, day of the month, month, day of the week), and not {0}"
    )]
    Fields(usize),
    /// Too many characters.
    #[error("a cron expression of {0} characters is too long: 256 are enough")]
    TooLong(usize),
    /// One field.
    #[error(
        "could not read `{given}` as {field}: it takes {takes}, ranges, lists and steps of them"
    )]
    Field {
        /// Which field.
        field: &'static str,
        /// What was given.
        given: String,
        /// What it takes.
        takes: &'static str,
    },
    /// The whole.
    #[error("could not read the cron expression `{text}`")]
    Expression {
        /// What was given.
        text: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No day fits.
    #[error("`{0}` never comes: no month has such a day")]
    Never(String),
    /// No such zone.
    #[error(
        "there is no time zone `{0}`: take a name of the IANA database, such as Europe/Stockholm"
    )]
    Zone(String),
    /// The distance.
    #[error("every {0:?} is no interval for a schedule: take one second to a hundred years")]
    Every(Duration),
    /// The phase.
    #[error("a phase of {phase:?} is not within the interval of {every:?}")]
    Phase {
        /// The distance.
        every: Duration,
        /// The phase.
        phase: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_comes_back_from_json_as_it_was() {
        let phase = Duration::from_millis(1_500);
        for spec in [
            Spec::cron("0 2 * * 1", "Europe/Stockholm").unwrap(),
            Spec::every_from(Duration::from_secs(60), phase).unwrap(),
        ] {
            let json = serde_json::to_value(&spec).unwrap();
            assert_eq!(serde_json::from_value::<Spec>(json).unwrap(), spec);
        }
        let wrong = serde_json::json!({ "cron": "0 0 30 2 *", "zone": "UTC" });
        assert!(serde_json::from_value::<Spec>(wrong).is_err());
    }

    #[test]
    fn a_window_holds_both_its_ends_and_no_more_than_was_asked_for() {
        let minutes = Spec::every(Duration::from_secs(60)).unwrap();
        let (from, to) = ("2026-06-01T00:00:00Z", "2026-06-01T00:05:00Z");
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(minutes.within(from, to, 100).len(), 6);
        assert_eq!(minutes.within(from, to, 4).len(), 4);
        assert!(minutes.within(to, from, 100).is_empty());
    }
}
