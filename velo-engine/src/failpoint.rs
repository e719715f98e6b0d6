//! Places where a test can have the process killed.
//!
//! Without the feature `failpoints` there is nothing here. With it, the variable `VELO_FAILPOINT`
//! names a place and a number, such as `step.before:3`: the process kills itself, as `kill -9` would,
//! when it comes to that place for the third time.

/// Kills the process if this is the place and the time.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_place: &str) {}

/// Kills the process if this is the place and the time.
#[cfg(feature = "failpoints")]
pub fn hit(place: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let wanted = std::env::var("VELO_FAILPOINT").ok()?;
        let (place, time) = wanted.split_once(':')?;
        Some((place.to_owned(), time.parse().ok()?))
    });
    static TIMES: AtomicU32 = AtomicU32::new(0);

    if let Some((wanted, time)) = &*WANTED
        && wanted == place
        && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *time
    {
        let own = rustix::process::getpid();
        // Failing to die is worse than dying otherwise.
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        std::process::abort();
    }
}
