//! Places where a test can have the process killed, frozen, or a commit sent twice.
//!
//! Without the feature `failpoints` there is nothing here. With it, the variable `VELO_FAILPOINT` names a place, a
//! number and what is to happen, such as `step.before:3:kill`: when the process comes to that place for the third
//! time, it kills itself, as `kill -9` would. `stop` freezes it, as `kill -STOP` would, until somebody lets it go on;
//! `repeat` has the caller do twice what it is about to do. Without a word it is `kill`.

/// The places where a process can be killed or frozen.
///
/// `step` is the commit of a step (`inside` only where the node has a transaction of its own), `memo` that of the
/// result of a side effect, `outcome` that of a task whose siblings are still at work, `note` that of a failed
/// attempt, of what is waited for, and of a lease that is given back.
pub const PLACES: &[&str] = &[
    "step.before",
    "step.inside",
    "step.after",
    "memo.before",
    "memo.after",
    "outcome.before",
    "outcome.after",
    "note.before",
    "note.inside",
    "note.after",
];

/// The places where what follows can be done twice.
pub const REPEATABLE: &[&str] = &["step.send"];

/// Kills or freezes the process if this is the place and the time; says whether what follows is to be done twice.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_place: &str) -> bool {
    false
}

/// Kills or freezes the process if this is the place and the time; says whether what follows is to be done twice.
#[cfg(feature = "failpoints")]
pub fn hit(place: &str) -> bool {
    armed::hit(place)
}

/// Whether the process has come to the place as often as was asked for.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn was_reached() -> bool {
    armed::was_reached()
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    struct Wanted {
        place: String,
        time: u32,
        what: String,
    }

    static WANTED: LazyLock<Option<Wanted>> = LazyLock::new(|| {
        let wanted = std::env::var("VELO_FAILPOINT").ok()?;
        let mut parts = wanted.split(':');
        Some(Wanted {
            place: parts.next()?.to_owned(),
            time: parts.next()?.parse().ok()?,
            what: parts.next().unwrap_or("kill").to_owned(),
        })
    });
    static TIMES: AtomicU32 = AtomicU32::new(0);

    pub(super) fn hit(place: &str) -> bool {
        let Some(wanted) = &*WANTED else { return false };
        if wanted.place != place || TIMES.fetch_add(1, Ordering::SeqCst) + 1 != wanted.time {
            return false;
        }
        match wanted.what.as_str() {
            "repeat" => true,
            "stop" => {
                let _ = kill_process(getpid(), Signal::STOP);
                false
            }
            _ => {
                // Failing to die is worse than dying otherwise.
                let _ = kill_process(getpid(), Signal::KILL);
                std::process::abort();
            }
        }
    }

    pub(super) fn was_reached() -> bool {
        let times = TIMES.load(Ordering::SeqCst);
        WANTED.as_ref().is_none_or(|wanted| times >= wanted.time)
    }
}
