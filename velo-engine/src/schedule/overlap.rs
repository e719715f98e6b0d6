//! What becomes of a fire whose forerunner still runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most fires that wait for a run to end, of one schedule.
pub const BUFFER_MAX: usize = 1_000;

/// What becomes of a fire while a run of the schedule has not ended. A run that is paused or waits for an
/// answer has not ended either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// It waits, if no other one waits already; otherwise it is skipped.
    BufferOne,
    /// It waits behind all that wait already, up to [`BUFFER_MAX`]; what is more is skipped.
    BufferAll,
    /// The run is cancelled, and the new one is started when that has ended. The newest alone waits.
    CancelOther,
    /// As [`CancelOther`](Self::CancelOther), but the run is terminated, with the reason as its error.
    TerminateOther,
    /// It starts its run beside the others.
    AllowAll,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Skip,
        Self::BufferOne,
        Self::BufferAll,
        Self::CancelOther,
        Self::TerminateOther,
        Self::AllowAll,
    ];

    /// Its name in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::BufferOne => "buffer_one",
            Self::BufferAll => "buffer_all",
            Self::CancelOther => "cancel_other",
            Self::TerminateOther => "terminate_other",
            Self::AllowAll => "allow_all",
        }
    }

    /// What to do with a fire, with so many runs that have not ended and so many fires that wait.
    pub(crate) fn decide(self, live: usize, buffered: usize) -> Decision {
        let is_free = live == 0 && buffered == 0;
        match self {
            Self::AllowAll => Decision::Start,
            _ if is_free => Decision::Start,
            Self::Skip => Decision::Skip,
            Self::BufferOne if buffered == 0 => Decision::Buffer,
            Self::BufferAll if buffered < BUFFER_MAX => Decision::Buffer,
            Self::BufferOne | Self::BufferAll => Decision::Skip,
            Self::CancelOther | Self::TerminateOther => Decision::Displace,
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start its run.
    Start,
    /// Start none.
    Skip,
    /// Keep it until the runs have ended.
    Buffer,
    /// Cancel the runs and drop what waits; then start, or keep it until the runs have ended.
    Displace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_schedule_starts_whatever_its_policy() {
        for overlap in Overlap::ALL {
            assert_eq!(overlap.decide(0, 0), Decision::Start);
        }
    }

    #[test]
    fn each_policy_decides_in_its_own_way_while_a_run_lives() {
        assert_eq!(Overlap::Skip.decide(1, 0), Decision::Skip);
        assert_eq!(Overlap::BufferOne.decide(1, 0), Decision::Buffer);
        assert_eq!(Overlap::BufferOne.decide(1, 1), Decision::Skip);
        assert_eq!(
            Overlap::BufferAll.decide(1, BUFFER_MAX - 1),
            Decision::Buffer
        );
        assert_eq!(Overlap::BufferAll.decide(1, BUFFER_MAX), Decision::Skip);
        assert_eq!(Overlap::CancelOther.decide(1, 0), Decision::Displace);
        assert_eq!(Overlap::AllowAll.decide(9, 9), Decision::Start);
    }

    #[test]
    fn nothing_overtakes_what_waits() {
        assert_eq!(Overlap::BufferAll.decide(0, 1), Decision::Buffer);
        assert_eq!(Overlap::Skip.decide(0, 1), Decision::Skip);
    }
}
