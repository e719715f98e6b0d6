//! Cron expressions in a time zone. The one place that uses the crate `cron`.
//!
//! That crate wants a field of seconds, counts days of the week from Sunday as one, wants both day
//! fields to match where POSIX wants either, and, given a zone, leaves out a local time that is skipped
//! in spring and repeats the one that comes twice in autumn. So it is asked about local times alone, as
//! if they were UTC, with the days of the week by name; what a local time is on the clock of the world
//! is decided here.

use std::str::FromStr;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use super::spec::SpecError;

/// Longest expression.
const TEXT_MAX: usize = 256;
/// Local times that are looked at for one next fire: more than the minutes of a day, since the clock may
/// be set back, or ahead, by as much as that.
const SEARCH_MAX: usize = 2_000;

/// Names of the days of the week, by their POSIX numbers.
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A field: its name, what it takes, and an expression in which only it is not given.
const FIELDS: [(&str, &str, [&str; 2]); 4] = [
    ("minute", "0 to 59", ["0 ", " * * * *"]),
    ("hour", "0 to 23", ["0 0 ", " * * *"]),
    ("day of the month", "1 to 31", ["0 0 0 ", " * *"]),
    ("month", "1 to 12 or JAN to DEC", ["0 0 0 1 ", " *"]),
];

#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    text: String,
    zone: Tz,
    /// A local time matches when it matches one of them.
    any: Vec<cron::Schedule>,
}

impl Calendar {
    pub(crate) fn parse(text: &str, zone: &str) -> Result<Self, SpecError> {
        let zone = Tz::from_str(zone).map_err(|_| SpecError::Zone(zone.to_owned()))?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(SpecError::Fields(fields.len()));
        };
        if text.len() > TEXT_MAX {
            return Err(SpecError::TooLong(text.len()));
        }
        for ((field, takes, [before, after]), given) in FIELDS.into_iter().zip(&fields) {
            if cron::Schedule::from_str(&format!("{before}{given}{after}")).is_err() {
                return Err(SpecError::Field {
                    field,
                    given: (*given).to_owned(),
                    takes,
                });
            }
        }
        let weekdays = weekdays(weekday)?;
        // As cron has always done: a field that begins with a star leaves the choice to the other one.
        let pairs = if is_open(day) || is_open(weekday) {
            vec![(day, weekdays.as_str())]
        } else {
            vec![(day, "*"), ("*", weekdays.as_str())]
        };
        let text = fields.join(" ");
        let parse = |(day, weekday)| {
            let expression = format!("0 {minute} {hour} {day} {month} {weekday}");
            cron::Schedule::from_str(&expression).map_err(|source| SpecError::Expression {
                text: text.clone(),
                source: Box::new(source),
            })
        };
        let any = pairs
            .into_iter()
            .map(parse)
            .collect::<Result<Vec<_>, _>>()?;
        let parsed = Self { text, zone, any };
        if parsed.local_after(NaiveDateTime::default()).is_none() {
            return Err(SpecError::Never(parsed.text));
        }
        Ok(parsed)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first time after `after`. `None` after the year 2100, where the crate's calendar ends.
    pub(crate) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut local = after.with_timezone(&self.zone).naive_local();
        for _ in 0..SEARCH_MAX {
            local = self.local_after(local)?;
            // Not later, when its hour comes for the second time, or several times fall into one gap.
            if let Some(next) = self.on_the_clock(local).filter(|next| *next > after) {
                return Some(next);
            }
        }
        None
    }

    fn local_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let local = local.and_utc();
        let next = self.any.iter().filter_map(|one| one.after(&local).next());
        next.min().map(|next| next.naive_utc())
    }

    /// When a local time is: the first time, if it comes twice; the first instant after the gap, if it
    /// is skipped.
    fn on_the_clock(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        let found = match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(one) | MappedLocalTime::Ambiguous(one, _) => Some(one),
            MappedLocalTime::None => GapInfo::new(&local, &self.zone)?.end,
        };
        found.map(|found| found.to_utc())
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone == other.zone
    }
}

fn is_open(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// The field's days, by name.
fn weekdays(field: &str) -> Result<String, SpecError> {
    let refused = || SpecError::Field {
        field: "day of the week",
        given: field.to_owned(),
        takes: "0 to 7, where 0 and 7 are Sunday, or SUN to SAT",
    };
    if field == "*" || field == "?" {
        return Ok("*".to_owned());
    }
    let mut wanted = [false; 7];
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, number(step).filter(|step| (1..=7).contains(step))),
            None => (part, Some(1)),
        };
        let step = step.ok_or_else(refused)?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((first, last)) => {
                let first = weekday(first).ok_or_else(refused)?;
                let last = weekday(last).ok_or_else(refused)?;
                // `SAT-SUN` and `FRI-MON` go round the week; `5-7` ends on a Sunday.
                (first, if last < first { last + 7 } else { last })
            }
            None => {
                let day = weekday(range).ok_or_else(refused)?;
                (day, if part.contains('/') { 6.max(day) } else { day })
            }
        };
        for day in (first..=last).step_by(step) {
            wanted[day % 7] = true;
        }
    }
    let named = DAYS.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let named: Vec<&str> = named.map(|(day, _)| *day).collect();
    Ok(named.join(","))
}

fn weekday(text: &str) -> Option<usize> {
    let by_name = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    by_name.or_else(|| number(text).filter(|day| *day <= 7))
}

fn number(text: &str) -> Option<usize> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn next(text: &str, zone: &str, after: &str, times: usize) -> Vec<String> {
        let calendar = Calendar::parse(text, zone).unwrap();
        let mut last = at(after);
        (0..times)
            .map_while(|_| {
                last = calendar.next_after(last)?;
                Some(last.format("%Y-%m-%dT%H:%M:%SZ").to_string())
            })
            .collect()
    }

    #[test]
    fn monday_is_one_and_sunday_is_zero_or_seven() {
        // The first of June 2026 is a Monday.
        for monday in ["0 9 * * 1", "0 9 * * MON", "0 9 * * mon"] {
            assert_eq!(
                next(monday, "UTC", "2026-06-02T00:00:00Z", 1),
                ["2026-06-08T09:00:00Z"]
            );
        }
        for sunday in ["0 9 * * 0", "0 9 * * 7", "0 9 * * SUN"] {
            assert_eq!(
                next(sunday, "UTC", "2026-06-02T00:00:00Z", 1),
                ["2026-06-07T09:00:00Z"]
            );
        }
        let weekend = [
            "2026-06-05T09:00:00Z",
            "2026-06-06T09:00:00Z",
            "2026-06-07T09:00:00Z",
        ];
        for through in ["0 9 * * 5-7", "0 9 * * FRI-SUN"] {
            assert_eq!(next(through, "UTC", "2026-06-02T00:00:00Z", 3), weekend);
        }
        assert_eq!(weekdays("1-5/2,0").unwrap(), "SUN,MON,WED,FRI");
    }

    #[test]
    fn two_given_day_fields_mean_either_and_a_star_means_the_other_one() {
        assert_eq!(
            next("0 0 13 * FRI", "UTC", "2026-06-02T00:00:00Z", 3),
            [
                "2026-06-05T00:00:00Z",
                "2026-06-12T00:00:00Z",
                "2026-06-13T00:00:00Z"
            ]
        );
        assert_eq!(
            next("0 0 */2 * FRI", "UTC", "2026-06-02T00:00:00Z", 2),
            ["2026-06-05T00:00:00Z", "2026-06-19T00:00:00Z"]
        );
    }

    #[test]
    fn a_time_that_is_skipped_in_spring_fires_once_right_after_the_gap() {
        // In Stockholm 02:00 to 03:00 is missing on 29 March 2026, which is 01:00 UTC.
        assert_eq!(
            next("30 2 * * *", "Europe/Stockholm", "2026-03-28T00:00:00Z", 3),
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
        assert_eq!(
            next(
                "*/20 2,3 * * *",
                "Europe/Stockholm",
                "2026-03-29T00:00:00Z",
                3
            ),
            [
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:20:00Z",
                "2026-03-29T01:40:00Z"
            ]
        );
    }

    #[test]
    fn a_time_that_comes_twice_in_autumn_fires_at_the_first() {
        // In Stockholm 02:00 to 03:00 comes twice on 25 October 2026, from 00:00 UTC on.
        assert_eq!(
            next("30 2 * * *", "Europe/Stockholm", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Asked in the second hour, none of that hour is told again.
        assert_eq!(
            next(
                "*/30 * * * *",
                "Europe/Stockholm",
                "2026-10-25T01:10:00Z",
                1
            ),
            ["2026-10-25T02:00:00Z"]
        );
    }

    #[test]
    fn a_day_that_a_zone_left_out_fires_when_the_next_begins() {
        // Samoa went over the date line: there was no 30 December 2011.
        assert_eq!(
            next("0 12 30 * *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
            ["2011-12-30T10:00:00Z"]
        );
    }

    #[test]
    fn a_day_that_never_comes_is_refused_and_a_rare_one_is_found() {
        for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
            assert!(matches!(
                Calendar::parse(never, "UTC"),
                Err(SpecError::Never(_))
            ));
        }
        assert_eq!(
            next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
            Vec::<String>::new(),
            "2100 is no leap year, and the calendar ends there"
        );
        assert_eq!(
            next("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1),
            ["2028-02-29T00:00:00Z"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_the_name_of_its_field() {
        let refused = |text: &str| Calendar::parse(text, "UTC").unwrap_err().to_string();
        for (text, word) in [
            ("60 * * * *", "minute"),
            ("*/0 * * * *", "minute"),
            ("0 24 * * *", "hour"),
            ("0 10-5 * * *", "hour"),
            ("0 0 0 * *", "day of the month"),
            ("0 0 * 13 *", "month"),
            ("0 0 * * 8", "day of the week"),
            ("0 0 * * 1/0", "day of the week"),
            ("0 0 * * MON-", "day of the week"),
            ("0 0 * *", "five fields"),
            ("0 0 0 * * *", "five fields"),
        ] {
            assert!(refused(text).contains(word), "{text}: {}", refused(text));
        }
        assert!(matches!(
            Calendar::parse("* * * * *", "Mars/Base"),
            Err(SpecError::Zone(_))
        ));
        let long = format!("{} * * * *", ["1"; 200].join(","));
        assert!(matches!(
            Calendar::parse(&long, "UTC"),
            Err(SpecError::TooLong(_))
        ));
    }

    proptest! {
        #[test]
        fn the_next_time_is_later_and_no_time_lies_between(
            seconds in 1_600_000_000_i64..2_000_000_000,
            minute in 0_u32..60,
            step in 1_u32..24,
            weekday in 0_u32..8,
            zone in prop::sample::select(vec!["UTC", "Europe/Stockholm", "America/New_York", "Australia/Lord_Howe"]),
        ) {
            let calendar = Calendar::parse(&format!("{minute} */{step} * * {weekday}"), zone).unwrap();
            let after = DateTime::from_timestamp(seconds, 0).unwrap();
            let next = calendar.next_after(after).unwrap();
            prop_assert!(next > after);
            let halfway = after + (next - after) / 2;
            prop_assert_eq!(calendar.next_after(halfway), Some(next));
            prop_assert!(calendar.next_after(next).unwrap() > next);
        }
    }
}
