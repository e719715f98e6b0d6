//! The id of a run.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits of a run's id that are drawn by chance.
const CHANCE_BITS: u32 = 21;

/// The id of a run: one number in psql, in messages and on the command line.
///
/// In JSON it is a string, since JavaScript cannot hold every 64-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct RunId(i64);

impl RunId {
    /// The id as stored.
    #[must_use]
    pub const fn from_i64(id: i64) -> Self {
        Self(id)
    }

    /// A new id: milliseconds since 1970 in the upper bits, chance in the lower 21. Ids of later
    /// runs are greater, and two of the same millisecond seldom equal; the store notices if they are.
    #[must_use]
    pub fn random() -> Self {
        let (seconds, nanoseconds) = uuid::Uuid::now_v7()
            .get_timestamp()
            .expect("version 7 has a time")
            .to_unix();
        let milliseconds = seconds * 1_000 + u64::from(nanoseconds) / 1_000_000;
        let chance = uuid::Uuid::new_v4().as_u64_pair().1 & ((1 << CHANCE_BITS) - 1);
        let id = (milliseconds << CHANCE_BITS) | chance;
        Self(i64::try_from(id).expect("42 bits of milliseconds last until 2109"))
    }

    /// The greatest id of this millisecond since 1970.
    pub(crate) fn last_of(millisecond: i64) -> Self {
        let bits = (1_i64 << CHANCE_BITS) - 1;
        let millisecond = millisecond.clamp(0, i64::MAX >> CHANCE_BITS);
        Self((millisecond << CHANCE_BITS) | bits)
    }

    /// The id as stored.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_with_time_and_are_read_back_from_text_and_json() {
        let first = RunId::random();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = RunId::random();
        assert!(first < second && first.as_i64() > 0);
        let millisecond = first.as_i64() >> CHANCE_BITS;
        assert!(first <= RunId::last_of(millisecond) && RunId::last_of(millisecond) < second);
        assert!(RunId::last_of(-1) < first && second < RunId::last_of(i64::MAX));
        assert_eq!(first.to_string().parse(), Ok(first));
        let json = serde_json::to_string(&first).unwrap();
        assert_eq!(json, format!("\"{first}\""));
        assert_eq!(serde_json::from_str::<RunId>(&json).unwrap(), first);
    }
}
