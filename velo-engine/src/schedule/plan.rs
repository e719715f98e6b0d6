//! What is due of a schedule.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::spec::Spec;

/// Names the jitter of fires among all name-based UUIDs.
const JITTERS: Uuid = Uuid::from_u128(0x7665_6c6f_0000_4000_8000_0000_0000_0002);

/// A time of a schedule, and when the jitter lets it fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NextFire {
    /// The time by the schedule.
    pub fire_at: DateTime<Utc>,
    /// When it fires: later by its jitter.
    pub due_at: DateTime<Utc>,
}

/// What says when a schedule fires.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub(crate) name: &'a str,
    pub(crate) spec: &'a Spec,
    pub(crate) jitter: Duration,
    pub(crate) catch_up: Duration,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The first of those that are too late, and the first that is not.
    pub(crate) missed: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
    pub(crate) due: Vec<DateTime<Utc>>,
    /// What comes after; it may be due too, when there were more than the limit.
    pub(crate) next: Option<NextFire>,
}

impl Rule<'_> {
    /// The times from `next` on that are due at `now`, at most `limit`.
    pub(crate) fn plan(
        &self,
        next: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Plan {
        let (mut next, mut missed) = (next, None);
        // Counted from when the jitter lets the last of them fire, so that a late draw misses nothing.
        let oldest = now - self.catch_up - self.jitter;
        if let Some(first) = next.filter(|first| *first < oldest) {
            next = self.spec.within(oldest, DateTime::<Utc>::MAX_UTC, 1).pop();
            missed = Some((first, next));
        }
        let mut due = Vec::new();
        while let Some(time) = next.filter(|time| due.len() < limit && self.due(*time) <= now) {
            due.push(time);
            next = self.spec.next_after(time);
        }
        Plan {
            missed,
            due,
            next: next.map(|time| self.fire(time)),
        }
    }

    /// The times after `after`, each with its jitter.
    pub(crate) fn after(&self, after: DateTime<Utc>) -> impl Iterator<Item = NextFire> + '_ {
        self.spec.after(after).map(|time| self.fire(time))
    }

    fn fire(&self, fire_at: DateTime<Utc>) -> NextFire {
        NextFire {
            fire_at,
            due_at: self.due(fire_at),
        }
    }

    fn due(&self, fire_at: DateTime<Utc>) -> DateTime<Utc> {
        fire_at + jitter(self.name, fire_at, self.jitter)
    }
}

/// By how much a fire is late on purpose: less than `most`, and the same for everybody who asks.
fn jitter(name: &str, fire_at: DateTime<Utc>, most: Duration) -> Duration {
    let Ok(most) = u64::try_from(most.as_micros()) else {
        return Duration::ZERO;
    };
    let drawn = Uuid::new_v5(
        &JITTERS,
        format!("{} {name}", fire_at.timestamp_micros()).as_bytes(),
    );
    Duration::from_micros(drawn.as_u64_pair().0.checked_rem(most).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_272_000 + minute * 60, 0).unwrap()
    }

    fn minutes() -> Spec {
        Spec::every(Duration::from_secs(60)).unwrap()
    }

    fn rule(spec: &Spec, catch_up: u64) -> Rule<'_> {
        Rule {
            name: "test",
            spec,
            jitter: Duration::ZERO,
            catch_up: Duration::from_secs(catch_up * 60),
        }
    }

    #[test]
    fn what_is_due_fires_in_order_and_the_rest_comes_next() {
        let spec = minutes();
        let plan = rule(&spec, 60).plan(Some(at(0)), at(3), 2);
        assert_eq!((plan.missed, plan.due), (None, vec![at(0), at(1)]));
        assert_eq!(plan.next.unwrap().fire_at, at(2));
        let plan = rule(&spec, 60).plan(Some(at(4)), at(3), 2);
        assert_eq!((plan.missed, plan.due), (None, vec![]));
        assert_eq!(rule(&spec, 60).plan(None, at(3), 2).next, None);
    }

    #[test]
    fn what_is_older_than_the_window_is_missed_at_once_however_much_it_is() {
        let spec = minutes();
        let plan = rule(&spec, 5).plan(Some(at(-5_000_000)), at(0), 100);
        assert_eq!(plan.missed, Some((at(-5_000_000), Some(at(-5)))));
        assert_eq!(plan.due, (-5..=0).map(at).collect::<Vec<_>>());
        assert_eq!(plan.next.unwrap().fire_at, at(1));
    }

    proptest! {
        #[test]
        fn the_jitter_is_bounded_and_the_same_for_all(name in ".{0,20}", minute in 0_i64..1_000_000, most in 0_u64..100_000_000) {
            let most = Duration::from_micros(most);
            let drawn = jitter(&name, at(minute), most);
            prop_assert!(drawn < most || most.is_zero());
            prop_assert_eq!(drawn, jitter(&name, at(minute), most));
        }

        #[test]
        fn each_time_is_planned_once_however_often_one_looks(looks in prop::collection::vec(0_i64..20, 1..40), limit in 1_usize..5, jitter in 0_u64..300) {
            let spec = minutes();
            let rule = Rule { jitter: Duration::from_secs(jitter), ..rule(&spec, 100_000) };
            let (mut next, mut now, mut fired) = (Some(at(0)), 0, Vec::new());
            for wait in looks {
                now += wait;
                let plan = rule.plan(next, at(now), limit);
                fired.extend(plan.due);
                next = plan.next.map(|next| next.fire_at);
            }
            let all: Vec<_> = (0..).map(at).take(fired.len()).collect();
            prop_assert_eq!(fired, all);
        }
    }
}
