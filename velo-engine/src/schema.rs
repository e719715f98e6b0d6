//! Versions of a state's stored form, and reading what older ones have written.
//!
//! Whatever is stored of a state names the version that wrote it, by `v2:` before it; nothing stands for
//! version one. So a state is read back by itself, wherever it has been: in another database, in a fork.

use std::cmp::Ordering;

use crate::state::{CodecError, ConcurrentUpdate, State, Update};
use crate::storable::{self, NotStorable};

/// A stored state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The bytes do not fit the type.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// What was written does not hold together any more.
    #[error("could not apply a stored step again: did a field lose its reducer?")]
    Conflict(#[from] ConcurrentUpdate),
    /// It was written by newer code.
    #[error(
        "the state was written in its version {stored}, and this code knows up to {version}: deploy the newer code"
    )]
    Newer {
        /// The version that wrote it.
        stored: u32,
        /// The version of the code.
        version: u32,
    },
    /// It was written by older code, of which nothing is known any more.
    #[error(
        "the state was written in its version {stored}, and this code reads from {oldest} on: deploy code with the upcasts from {stored} on"
    )]
    Older {
        /// The version that wrote it.
        stored: u32,
        /// The oldest version that the code reads.
        oldest: u32,
    },
    /// Something of an older version comes after something of a newer one.
    #[error(
        "the state was written in version {stored} after version {version} had written it: was it copied by hand?"
    )]
    Mixed {
        /// The version that came late.
        stored: u32,
        /// The one that had come before.
        version: u32,
    },
    /// A finished task leads to a node that the code does not have.
    #[error("the graph has no node `{node}`: was it renamed while the run was under way?")]
    NoNode {
        /// The node.
        node: String,
    },
    /// Some tasks of the step under way have finished in an older version: what they wrote is merged with
    /// what their siblings write, by reducers of one version.
    #[error(
        "tasks of the step under way have finished with version {stored} of the state, and this code has {version}: the step ends where version {stored} is deployed, or is begun anew by an edit"
    )]
    Underway {
        /// The version of what is there.
        stored: u32,
        /// The version of the code.
        version: u32,
    },
}

/// What is stored of a run's state: a whole state, and what was written after it, each with its version.
/// Used by the derive of [`State`](trait@State).
#[derive(Debug)]
pub struct Written<'a> {
    whole: Part<'a>,
    deltas: Vec<Part<'a>>,
    /// How many of the deltas were applied.
    applied: usize,
}

#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    version: u32,
    bytes: &'a [u8],
}

impl<'a> Written<'a> {
    pub(crate) fn new(whole: &'a [u8], deltas: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self {
            whole: Part::of(whole),
            deltas: deltas
                .into_iter()
                .flat_map(deltas_of)
                .map(Part::of)
                .collect(),
            applied: 0,
        }
    }

    /// All of it, as `S`.
    pub(crate) fn restore<S: State>(mut self) -> Result<S, ReplayError> {
        let state = S::restore(&mut self)?;
        match self.deltas.get(self.applied) {
            None => Ok(state),
            Some(delta) => Err(ReplayError::Newer {
                stored: delta.version,
                version: S::VERSION,
            }),
        }
    }

    /// The state before the first thing that a newer version than that of `S` has written.
    ///
    /// # Errors
    /// [`ReplayError`], also when an older version has written any of it.
    pub fn read<S: State>(&mut self) -> Result<S, ReplayError> {
        self.must_be_of::<S>(self.whole.version)?;
        let state = serde_json::from_slice(self.whole.bytes);
        let state = state.map_err(|source| CodecError::Decode {
            field: "*".to_owned(),
            source,
        })?;
        self.go_on(state)
    }

    /// As [`read`](Self::read), where `upcast` makes the state of what the version before has left.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn read_from<O: State, S: State>(
        &mut self,
        upcast: impl FnOnce(O) -> S,
    ) -> Result<S, ReplayError> {
        if self.whole.version >= S::VERSION {
            return self.read();
        }
        let old = O::restore(self)?;
        self.go_on(upcast(old))
    }

    /// Applies what comes next of the version of `S`.
    fn go_on<S: State>(&mut self, mut state: S) -> Result<S, ReplayError> {
        while let Some(delta) = self.deltas.get(self.applied)
            && delta.version <= S::VERSION
        {
            if delta.version < S::VERSION {
                let (stored, version) = (delta.version, S::VERSION);
                return Err(ReplayError::Mixed { stored, version });
            }
            apply_part(&mut state, delta.bytes)?;
            self.applied += 1;
        }
        Ok(state)
    }

    fn must_be_of<S: State>(&self, stored: u32) -> Result<(), ReplayError> {
        match stored.cmp(&S::VERSION) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(ReplayError::Older {
                stored,
                oldest: S::OLDEST,
            }),
            Ordering::Greater => Err(ReplayError::Newer {
                stored,
                version: S::VERSION,
            }),
        }
    }

    /// Whether any of it was written by an older version than that of `S`.
    pub(crate) fn is_older<S: State>(&self) -> bool {
        let parts = std::iter::once(&self.whole).chain(&self.deltas);
        parts.into_iter().any(|part| part.version < S::VERSION)
    }
}

impl<'a> Part<'a> {
    fn of(stored: &'a [u8]) -> Self {
        let (version, bytes) = unmark(stored);
        Self { version, bytes }
    }
}

/// Splits what is stored into the version that wrote it and the JSON. No JSON begins with a `v`.
pub(crate) fn unmark(stored: &[u8]) -> (u32, &[u8]) {
    let split = || {
        let rest = stored.strip_prefix(b"v")?;
        let colon = rest.iter().take(11).position(|byte| *byte == b':')?;
        let version = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
        Some((version, &rest[colon + 1..]))
    };
    split().unwrap_or((1, stored))
}

/// Begins what is stored by code of this version.
pub(crate) fn mark(version: u32) -> Vec<u8> {
    if version == 1 {
        Vec::new()
    } else {
        format!("v{version}:").into_bytes()
    }
}

/// A whole state as stored.
pub(crate) fn encode_state<S: State>(state: &S) -> Result<Vec<u8>, NotStorable> {
    let mut bytes = mark(S::VERSION);
    bytes.append(&mut storable::to_vec("state", state)?);
    Ok(bytes)
}

/// A whole state, as it was stored at once.
pub(crate) fn decode_state<S: State>(bytes: &[u8]) -> Result<S, ReplayError> {
    Written::new(bytes, []).restore()
}

/// Between the parts of a delta: JSON has this character nowhere as it is.
const PART: u8 = 0x1e;

/// What was written first, and then what its tasks wrote, as the delta of one step. They are applied one after the
/// other, each by itself: so a field may be written in each, which the tasks of a step must not do.
pub(crate) fn join_deltas<'a>(first: impl Iterator<Item = &'a [u8]>, own: Vec<u8>) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in first {
        joined.extend_from_slice(part);
        joined.push(PART);
    }
    if joined.is_empty() {
        return own;
    }
    joined.extend(own);
    joined
}

/// The parts of a step's delta, nearly always one.
pub(crate) fn deltas_of(delta: &[u8]) -> impl Iterator<Item = &[u8]> {
    delta.split(|byte| *byte == PART)
}

/// Applies what a step wrote, by code of the same version.
pub(crate) fn apply_delta<S: State>(state: &mut S, delta: &[u8]) -> Result<(), ReplayError> {
    let version = S::VERSION;
    deltas_of(delta).try_for_each(|part| {
        let (stored, bytes) = unmark(part);
        match stored.cmp(&version) {
            Ordering::Equal => apply_part(state, bytes),
            Ordering::Greater => Err(ReplayError::Newer { stored, version }),
            Ordering::Less => Err(ReplayError::Mixed { stored, version }),
        }
    })
}

fn apply_part<S: State>(state: &mut S, writes: &[u8]) -> Result<(), ReplayError> {
    let update = S::Update::decode(writes)?;
    state.apply(vec![("", update)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::State;

    #[derive(State, Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct One {
        #[state(append)]
        names: Vec<String>,
        euros: u32,
    }

    fn add(sum: &mut u64, more: u64) {
        *sum += more;
    }

    #[derive(State, Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[state(version = 2, from = One)]
    struct Two {
        #[state(append)]
        people: Vec<String>,
        #[state(reduce = add)]
        cents: u64,
    }

    impl From<One> for Two {
        fn from(old: One) -> Self {
            Self {
                people: old.names,
                cents: u64::from(old.euros) * 100,
            }
        }
    }

    #[derive(State, Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[state(version = 3, from = Two, removed = "cents")]
    struct Three {
        #[state(append)]
        people: Vec<String>,
        #[serde(default)]
        #[state(max)]
        most: usize,
    }

    impl From<Two> for Three {
        fn from(old: Two) -> Self {
            let most = old.people.len();
            Self {
                people: old.people,
                most,
            }
        }
    }

    fn whole(state: &impl State) -> Vec<u8> {
        encode_state(state).unwrap()
    }

    fn delta<U: Update>(update: &U) -> Vec<u8> {
        let mut bytes = mark(U::State::VERSION);
        bytes.extend(update.encode().unwrap());
        bytes
    }

    fn restored<S: State>(parts: &[Vec<u8>]) -> Result<S, ReplayError> {
        let deltas = parts[1..].iter().map(Vec::as_slice);
        Written::new(&parts[0], deltas).restore()
    }

    #[test]
    fn what_each_version_has_written_is_applied_by_its_own_reducers_before_the_upcast() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let stored = [
            whole(&One {
                names: names(&["ada"]),
                euros: 1,
            }),
            delta(&One::update().names(names(&["ben"])).euros(5u32)),
            delta(&Two::update().cents(25u64).people(names(&["cleo"]))),
            delta(&Two::update().cents(5u64)),
        ];
        let two: Two = restored(&stored).unwrap();
        assert_eq!(
            two.cents, 530,
            "euros are set by One and cents are added by Two"
        );
        assert_eq!(two.people, ["ada", "ben", "cleo"]);

        let three: Three = restored(&stored).unwrap();
        assert_eq!(three.most, 3, "Three begins with what Two has come to");
        let later = [&stored[..], &[delta(&Three::update().most(9usize))]].concat();
        assert_eq!(restored::<Three>(&later).unwrap().most, 9);
        // A version may be passed over, and an earlier look is one of an earlier version.
        let jumped = [stored[0].clone(), delta(&Three::update().most(7usize))];
        assert_eq!(restored::<Three>(&jumped).unwrap().most, 7);
        assert_eq!(restored::<One>(&stored[..2]).unwrap().euros, 5);
    }

    #[test]
    fn what_was_written_before_a_step_is_part_of_its_delta_in_whatever_version() {
        let whole = whole(&One {
            names: vec!["ada".to_owned()],
            euros: 1,
        });
        let first = [
            delta(&One::update().euros(2u32)),
            delta(&One::update().euros(3u32)),
        ];
        let own = delta(&Two::update().cents(25u64));
        let joined = join_deltas(first.iter().map(Vec::as_slice), own.clone());
        let two: Two = restored(&[whole, joined]).unwrap();
        // Each by itself: the field of One has one writer a step.
        assert_eq!(two.cents, 325);
        assert_eq!(join_deltas(std::iter::empty(), own.clone()), own);
    }

    #[test]
    fn code_that_is_too_old_or_has_no_upcast_says_which_version_was_stored() {
        let two = whole(&Two {
            people: Vec::new(),
            cents: 1,
        });
        let newer = restored::<One>(std::slice::from_ref(&two)).unwrap_err();
        assert!(
            matches!(
                newer,
                ReplayError::Newer {
                    stored: 2,
                    version: 1
                }
            ),
            "{newer}"
        );
        let stored = [
            whole(&One {
                names: Vec::new(),
                euros: 1,
            }),
            delta(&Two::update().cents(1u64)),
        ];
        let newer = restored::<One>(&stored).unwrap_err();
        assert!(
            matches!(
                newer,
                ReplayError::Newer {
                    stored: 2,
                    version: 1
                }
            ),
            "{newer}"
        );

        #[derive(State, Debug, Clone, Serialize, Deserialize)]
        #[state(version = 3, oldest)]
        struct Fresh {
            #[state(append)]
            people: Vec<String>,
        }
        let older = restored::<Fresh>(&[two]).unwrap_err();
        assert!(
            matches!(
                older,
                ReplayError::Older {
                    stored: 2,
                    oldest: 3
                }
            ),
            "{older}"
        );
        assert_eq!((Three::VERSION, Three::OLDEST), (3, 1));
        assert_eq!((Fresh::VERSION, Fresh::OLDEST), (3, 3));
    }

    #[test]
    fn a_renamed_field_keeps_what_was_written_and_a_removed_one_is_passed_over() {
        #[derive(State, Debug, Clone, Serialize, Deserialize)]
        #[state(removed = "euros")]
        struct Renamed {
            #[serde(alias = "names")]
            #[state(append)]
            people: Vec<String>,
        }
        let stored = [
            whole(&One {
                names: vec!["ada".to_owned()],
                euros: 1,
            }),
            delta(&One::update().names(vec!["ben".to_owned()]).euros(2u32)),
            delta(&Renamed::update().people(vec!["cleo".to_owned()])),
        ];
        let now: Renamed = restored(&stored).unwrap();
        assert_eq!(now.people, ["ada", "ben", "cleo"]);
    }

    #[test]
    fn version_one_is_stored_as_it_always_was() {
        let one = whole(&One {
            names: Vec::new(),
            euros: 1,
        });
        assert_eq!(one, br#"{"names":[],"euros":1}"#);
        assert_eq!(unmark(b"v12:[]"), (12, &b"[]"[..]));
        assert_eq!(unmark(b"[1]"), (1, &b"[1]"[..]));
    }
}
