//! What any worker does for all: waking runs whose time has come, starting those of schedules,
//! taking over from the dead, and deleting what has expired.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{counter, gauge};
use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::Instant;
use velo_engine::{Engine, Gates, QUEUE_CHANNEL, item, lease, schedule};

use crate::{host, metrics};

/// Longest time between two looks at the timers.
const TIMERS: Duration = Duration::from_secs(2);
/// Shortest one.
const TIMERS_MIN: Duration = Duration::from_millis(5);
/// Longest time between two looks at queues and limits while something is paused or limited by name.
const GATES: Duration = Duration::from_secs(1);
/// The same while nothing is.
const GATES_IDLE: Duration = Duration::from_secs(3);
/// Shortest one.
const GATES_MIN: Duration = Duration::from_millis(20);
/// Between two looks at how long runs have waited.
const MEASURE: Duration = Duration::from_secs(15);
/// Between two looks at documents that have expired: nobody sees them meanwhile.
const SWEEP: Duration = Duration::from_secs(10);
/// Between two looks at operations on many runs, which begin with a hint.
const BULK: Duration = Duration::from_secs(10);
/// Between two looks for runs that are kept for long enough, which begin with a hint.
const RETENTION: Duration = Duration::from_secs(60);
/// Shortest rest between two batches of them.
const RETENTION_MIN: Duration = Duration::from_millis(5);
/// Before listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Wakes runs, fires schedules and hands on the runs of dead workers, until dropped.
pub(crate) async fn tend(
    engine: Engine,
    host: String,
    codes: Vec<String>,
    take_over_every: Duration,
    gates: Gates,
    changed: Arc<Changes>,
) {
    let pool = engine.pool();
    let now = Instant::now();
    let (mut take_over_at, mut measure_at, mut fire_at, mut sweep_at) = (now, now, now, now);
    let (mut gates_at, mut after) = (now, String::new());
    loop {
        if measure_at <= Instant::now() {
            measure_at = Instant::now() + MEASURE;
            match lease::queue_age(pool, &codes).await {
                Ok(ages) => {
                    for (code, age) in ages {
                        gauge!(metrics::QUEUE_AGE, "graph" => code).set(age.as_secs_f64());
                    }
                }
                Err(error) => tracing::debug!(%error, "could not measure the queue"),
            }
            match lease::queue_ready(pool, &codes).await {
                Ok(ready) => {
                    for (code, runs) in ready {
                        gauge!(metrics::QUEUE_READY, "graph" => code).set(f64::from(runs));
                    }
                }
                Err(error) => tracing::debug!(%error, "could not count the queue"),
            }
        }
        if take_over_at <= Instant::now() {
            take_over_at = Instant::now() + take_over_every;
            match bury_the_dead(pool, &host).await {
                Ok(0) => (),
                Ok(runs) => {
                    counter!(metrics::TAKEN_OVER).increment(runs as u64);
                    changed.ready.notify_one();
                }
                Err(error) => {
                    tracing::warn!(%error, "could not look for dead workers of this host");
                }
            }
            match lease::take_over(pool).await {
                Ok(0) => (),
                Ok(runs) => {
                    counter!(metrics::TAKEN_OVER).increment(runs as u64);
                    changed.ready.notify_one();
                }
                Err(error) => tracing::warn!(%error, "could not look for dead workers"),
            }
            match lease::tell_families(pool).await {
                Ok(0) => (),
                Ok(_) => changed.ready.notify_one(),
                Err(error) => tracing::warn!(%error, "could not tell of runs that have ended"),
            }
        }
        if sweep_at <= Instant::now() {
            sweep_at = Instant::now() + SWEEP;
            if let Err(error) = item::sweep(pool).await {
                tracing::warn!(%error, "could not delete documents that have expired");
            }
        }
        // Not at each turn of this loop: runs that sleep for short times may wake it hundreds of times a
        // second.
        if fire_at <= Instant::now() {
            let next = fire_schedules(&engine, &changed).await;
            fire_at = Instant::now() + next.clamp(TIMERS_MIN, TIMERS);
        }
        if gates_at <= Instant::now() {
            let next = tend_gates(pool, &mut after, &gates, &changed).await;
            gates_at = Instant::now() + next;
        }
        let next = match lease::wake(pool).await {
            Ok(woken) => {
                if woken.runs > 0 {
                    counter!(metrics::WOKEN).increment(woken.runs as u64);
                    changed.ready.notify_one();
                }
                if woken.held > 0 {
                    gates_at = Instant::now();
                }
                woken.next_in.unwrap_or(TIMERS)
            }
            Err(error) => {
                tracing::warn!(%error, "could not look at the timers");
                TIMERS
            }
        };
        tokio::select! {
            () = changed.timers.notified() => (),
            () = tokio::time::sleep(next.clamp(TIMERS_MIN, TIMERS)) => (),
            () = tokio::time::sleep_until(fire_at.min(gates_at)) => (),
            () = changed.gates.notified() => gates_at = Instant::now(),
        }
    }
}

/// Lets in whom queues and limits have a place for; returns how long until the next look.
async fn tend_gates(
    pool: &PgPool,
    after: &mut String,
    gates: &Gates,
    changed: &Changes,
) -> Duration {
    match lease::tend_gates(pool, after, gates).await {
        Ok(tended) => {
            if tended.let_in > 0 {
                changed.ready.notify_one();
            }
            let is_idle = !tended.is_used && tended.let_in == 0 && tended.next_after.is_empty();
            *after = tended.next_after;
            let longest = if is_idle { GATES_IDLE } else { GATES };
            tended.next_in.unwrap_or(longest).clamp(GATES_MIN, longest)
        }
        Err(error) => {
            tracing::warn!(%error, "could not look at queues and limits");
            GATES
        }
    }
}

/// Starts the runs of schedules that are due; returns how long until more are.
async fn fire_schedules(engine: &Engine, changed: &Changes) -> Duration {
    match schedule::fire_due(engine).await {
        Ok(fired) => {
            if !fired.runs.is_empty() {
                changed.ready.notify_one();
            }
            fired.next_in.unwrap_or(TIMERS)
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not fire schedules"
            );
            TIMERS
        }
    }
}

/// What wakes the claiming loop and the caretaker.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Something may be ready.
    pub(crate) ready: Notify,
    /// A run has gone to sleep.
    pub(crate) timers: Notify,
    /// A gate was changed.
    pub(crate) gates: Notify,
    /// Something has come for runs that are at work.
    pub(crate) calls: Notify,
    /// An operation on many runs has begun.
    pub(crate) bulk: Notify,
    /// How long runs are kept was changed.
    pub(crate) retention: Notify,
}

/// Works on operations on many runs, until dropped.
pub(crate) async fn do_bulk(engine: Engine, changed: Arc<Changes>) {
    loop {
        match engine.advance_bulk().await {
            Ok(true) => continue,
            Ok(false) => (),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not go on with an operation on many runs yet"
            ),
        }
        tokio::select! {
            () = changed.bulk.notified() => (),
            () = tokio::time::sleep(BULK) => (),
        }
    }
}

/// Deletes runs that are kept for long enough, until dropped; half of the time at most, so that what is at work hardly
/// notices.
pub(crate) async fn delete_old(engine: Engine, changed: Arc<Changes>) {
    loop {
        let began = Instant::now();
        let rest = match engine.advance_retention().await {
            Ok(Some(swept)) => {
                counter!(metrics::DELETED).increment(swept.deleted);
                match swept.is_pass_over {
                    true => RETENTION,
                    false => began.elapsed().max(RETENTION_MIN),
                }
            }
            Ok(None) => RETENTION,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not delete old runs yet"
                );
                RETENTION
            }
        };
        tokio::select! {
            () = changed.retention.notified() => (),
            () = tokio::time::sleep(rest) => (),
        }
    }
}

/// Hands on the runs of workers on this host whose processes are gone: their leases need not be
/// waited for. Returns how many runs.
async fn bury_the_dead(pool: &PgPool, host: &str) -> Result<usize, sqlx::Error> {
    let mut handed_on = 0;
    for neighbour in lease::neighbours(pool, host).await? {
        if host::is_dead(neighbour.pid) {
            let runs = lease::bury(pool, neighbour).await?;
            handed_on += runs;
            tracing::info!(
                worker.id = neighbour.id,
                runs,
                "took over from a dead process of this host"
            );
        }
    }
    Ok(handed_on)
}

/// Passes hints from other processes on, until dropped. Without them the worker still looks by itself.
pub(crate) async fn listen(pool: PgPool, changed: Arc<Changes>) {
    let options = pool.connect_options();
    loop {
        let heard = async {
            let own = PgPoolOptions::new()
                .max_connections(1)
                .connect_with((*options).clone())
                .await?;
            let mut listener = PgListener::connect_with(&own).await?;
            listener.listen(QUEUE_CHANNEL).await?;
            loop {
                match listener.recv().await?.payload() {
                    "gate" => changed.gates.notify_one(),
                    "bulk" => changed.bulk.notify_one(),
                    "call" => changed.calls.notify_one(),
                    "retention" => changed.retention.notify_one(),
                    _ => (),
                }
                changed.ready.notify_one();
            }
        };
        let Err::<std::convert::Infallible, sqlx::Error>(error) = heard.await;
        tracing::debug!(%error, "not listening, only looking");
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
