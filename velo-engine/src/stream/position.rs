//! How far a reader has come.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::run_id::RunId;

/// How far somebody has read in the [stream](crate::Engine::stream) of a run: after the step of this number,
/// and what was seen beyond it of the step that is under way and of child runs.
///
/// It is written as JSON, and read back from it or from the number of a step alone. What it holds is
/// nobody's business but the engine's; it is short except while many children are at work.
///
/// ```
/// use velo_engine::Position;
///
/// let position: Position = "12".parse()?;
/// assert_eq!(position.step(), 12);
/// assert_eq!(position.to_string().parse(), Ok(position));
/// # Ok::<(), velo_engine::BadPosition>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub(super) step: i32,
    /// What is done with of the step after that.
    pub(super) outcomes: Ranges,
    pub(super) failures: BTreeSet<(i32, i32)>,
    pub(super) waits: BTreeSet<(i32, String)>,
    /// A row of which only so many parts are done with.
    pub(super) part: Option<(Mark, u32)>,
    /// Places in the run's events and in what its nodes said; [`BY_STEP`] for what came with the steps.
    pub(super) events: i64,
    pub(super) pieces: i64,
    /// Children of the step that is under way; `None` for one that is done with.
    pub(super) children: BTreeMap<RunId, Option<Box<Self>>>,
}

/// Instead of a place: the newest that is not younger than the step.
pub(super) const BY_STEP: i64 = -1;

/// A row of which several items are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mark {
    Step(i32),
    Outcome(i32),
    Wait(i32, String),
}

/// Numbers of tasks, as ranges: those of a large fan-out end nearly in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Ranges(Vec<(i32, i32)>);

impl Ranges {
    const NONE: Self = Self(Vec::new());

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, task: i32) {
        let after = self.0.partition_point(|(first, _)| *first <= task);
        if after > 0 && self.0[after - 1].1 >= task {
            return;
        }
        let joins_left = after > 0 && self.0[after - 1].1 + 1 == task;
        let joins_right = self
            .0
            .get(after)
            .is_some_and(|(first, _)| *first == task + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[after - 1].1 = self.0[after].1;
                self.0.remove(after);
            }
            (true, false) => self.0[after - 1].1 = task,
            (false, true) => self.0[after].0 = task,
            (false, false) => self.0.insert(after, (task, task)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i32> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    /// Text from elsewhere must neither fill the memory nor break what is said above.
    fn is_sound(&self) -> bool {
        let holds = |(first, last): &(i32, i32)| *first >= 0 && *first <= *last;
        let last = self.0.last().map_or(0, |(_, last)| *last);
        self.0.iter().all(holds) && self.0.is_sorted_by(|a, b| a.1 < b.0) && last <= TASK_MAX
    }
}

/// Text that is no [`Position`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place in a stream: give the position of an item, or the number of a step")]
pub struct BadPosition {
    text: String,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self::at(-1, 0);

    /// After the step of this number, and before all that was done in the next one.
    #[must_use]
    pub const fn after_step(step: i32) -> Self {
        Self::at(step, BY_STEP)
    }

    const fn at(step: i32, places: i64) -> Self {
        Self {
            step,
            outcomes: Ranges::NONE,
            failures: BTreeSet::new(),
            waits: BTreeSet::new(),
            part: None,
            events: places,
            pieces: places,
            children: BTreeMap::new(),
        }
    }

    /// The newest step that was read to its end; -1 when the start was not.
    #[must_use]
    pub fn step(&self) -> i32 {
        self.step
    }

    /// That of a run below, by the way to it. It is there from when the run is followed until its
    /// parent's task has ended.
    pub(super) fn at_mut(&mut self, path: &[RunId]) -> &mut Self {
        let mut place = self;
        for run in path {
            let child = place.children.entry(*run).or_insert(None);
            place = &mut **child.get_or_insert_with(|| Box::new(Self::START));
        }
        place
    }

    /// The step is done with, and so is all that led to it.
    pub(super) fn step_done(&mut self, step: i32) {
        self.step = step;
        self.outcomes.clear();
        self.failures.clear();
        self.waits.clear();
        self.part = None;
        self.children.clear();
    }
}

impl Default for Position {
    fn default() -> Self {
        Self::START
    }
}

/// As JSON: short names, and runs of tasks as ranges, since it goes with every item.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    step: i32,
    #[serde(rename = "o", default, skip_serializing_if = "Ranges::is_empty")]
    outcomes: Ranges,
    #[serde(rename = "f", default, skip_serializing_if = "BTreeSet::is_empty")]
    failures: BTreeSet<(i32, i32)>,
    #[serde(rename = "w", default, skip_serializing_if = "BTreeSet::is_empty")]
    waits: BTreeSet<(i32, String)>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    part: Option<(Mark, u32)>,
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    events: i64,
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    pieces: i64,
    #[serde(rename = "c", default, skip_serializing_if = "BTreeMap::is_empty")]
    children: BTreeMap<RunId, Option<Box<Position>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Step(i32),
    Whole(Written),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The greatest number of a task that a position may name.
const TASK_MAX: i32 = 1_000_000;

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            step: self.step,
            outcomes: self.outcomes.clone(),
            failures: self.failures.clone(),
            waits: self.waits.clone(),
            part: self.part.clone(),
            events: self.events,
            pieces: self.pieces,
            children: self.children.clone(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = match Read::deserialize(deserializer)? {
            Read::Step(step) if step < 0 => return Ok(Self::START),
            Read::Step(step) => return Ok(Self::after_step(step)),
            Read::Whole(written) => written,
        };
        if !written.outcomes.is_sound() {
            return Err(serde::de::Error::custom("a range of tasks is none"));
        }
        Ok(Self {
            step: written.step.max(-1),
            outcomes: written.outcomes,
            failures: written.failures,
            waits: written.waits,
            part: written.part,
            events: written.events,
            pieces: written.pieces,
            children: written.children,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text).map_err(|_| BadPosition {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_from_its_text() {
        let mut position = Position::after_step(3);
        for task in [2, 0, 7, 1] {
            position.outcomes.insert(task);
        }
        position.failures = [(4, 1)].into();
        position.waits = [(5, "a.b".to_owned())].into();
        position.part = Some((Mark::Outcome(8), 1));
        (position.events, position.pieces) = (6, 1_700_000_000_000_000);
        let (done, under_way) = (RunId::from_i64(9), RunId::from_i64(10));
        position.children.insert(done, None);
        position.at_mut(&[under_way, done]).step = 2;
        let text = position.to_string();
        assert_eq!(text.parse(), Ok(position), "{text}");
        assert!(text.contains(r#""o":[[0,2],[7,7]]"#), "{text}");
    }

    #[test]
    fn what_is_no_position_is_refused_and_a_long_range_is_too() {
        for text in [
            "",
            "x",
            "{}",
            r#"{"step":1,"o":[[0,2000000]]}"#,
            r#"{"step":1,"z":0}"#,
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert_eq!("-7".parse(), Ok(Position::START));
    }
}
