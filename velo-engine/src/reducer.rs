//! How several writes to one field of the state become one value.
//!
//! A reducer must give the same value however the writes are batched.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

/// Keeps the newer value: for fields with one writer a step.
pub fn last<T>(slot: &mut T, value: T) {
    *slot = value;
}

/// Adds the items at the end.
pub fn append<T>(slot: &mut Vec<T>, mut value: Vec<T>) {
    slot.append(&mut value);
}

/// Keeps the greater value; of two that cannot be ordered, the older.
pub fn max<T: PartialOrd>(slot: &mut T, value: T) {
    if value > *slot {
        *slot = value;
    }
}

/// Keeps the smaller value; of two that cannot be ordered, the older.
pub fn min<T: PartialOrd>(slot: &mut T, value: T) {
    if value < *slot {
        *slot = value;
    }
}

/// Puts each entry into the map; an entry written later replaces one of the same key.
pub fn merge<M: MergeMap>(slot: &mut M, value: M) {
    slot.merge(value);
}

/// A map that [`merge`] can fill.
pub trait MergeMap {
    /// Moves all entries of `other` into `self`.
    fn merge(&mut self, other: Self);
}

impl<K: Ord, V> MergeMap for BTreeMap<K, V> {
    fn merge(&mut self, other: Self) {
        self.extend(other);
    }
}

impl<K: Eq + Hash, V, H: BuildHasher> MergeMap for HashMap<K, V, H> {
    fn merge(&mut self, other: Self) {
        self.extend(other);
    }
}
