//! Leases, for those who write worker loops; `velo-worker` is one.
//!
//! A worker's process registers as an [`Incarnation`]. While it keeps its heartbeat it may [`claim`](Incarnation::claim)
//! ready runs and take [turns](crate::Serve::turn) with them. When the heartbeat stops, others hand its
//! runs on. Every write names the lease, and is refused when that is gone.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::gates::Gates;
use crate::run_id::RunId;
use crate::store;

pub use crate::store::commit::{StepRow, Then, Verdict, all as commit_all, steps as commit_steps};

/// The right to change one run, until it is given back or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// The worker's incarnation.
    pub worker: i32,
    /// Grows each time the run is leased.
    pub fence: i64,
}

/// A run that was leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The lease.
    pub lease: Lease,
    /// Name and version of the graph, such as `report@1`.
    pub code: String,
    /// Whether somebody cancelled the run: end it.
    pub is_cancelled: bool,
    /// The queue that the run was started into.
    pub queue: Option<String>,
    /// Where the run stands, if nobody has had it before.
    pub(crate) first: Option<First>,
}

/// A place in the line of ready runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinePlace(pub(crate) PgInterval);

/// The first step of a run, and with it all there is of one that nobody has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) control: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) age: Duration,
    pub(crate) shape: Uuid,
    pub(crate) trace: Option<String>,
}

/// A run for which something has come while a worker has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Call {
    /// The run.
    #[sqlx(rename = "run_id")]
    pub run: RunId,
    /// Whether somebody cancelled it.
    pub is_cancelled: bool,
    /// Whether an answer or a message has come.
    pub is_poked: bool,
    /// Whether it is to stop at its next step boundary.
    pub is_halted: bool,
}

/// What a worker hears when it says that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Its leases hold.
    Held,
    /// Its leases hold, and somebody has asked it to stop in order.
    Draining,
    /// It was given up: it holds no lease any more.
    GivenUp,
}

/// A worker on the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Neighbour {
    /// Its incarnation.
    pub id: i32,
    /// Its process.
    pub pid: i32,
}

/// One start of one worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    id: i32,
    ttl: Duration,
}

impl Incarnation {
    /// Registers a worker, called `name`, as process `pid` of `host`. Others give it up when `ttl`
    /// passes without a heartbeat.
    ///
    /// `host` names where process ids mean the same, see [`neighbours`].
    ///
    /// # Errors
    /// The database's. When the answer was lost, an unused incarnation may be left; it expires.
    ///
    /// # Cancel safety
    /// As when the answer is lost.
    pub async fn register(
        pool: &PgPool,
        name: &str,
        host: &str,
        pid: i32,
        ttl: Duration,
    ) -> Result<Self, sqlx::Error> {
        let id = store::lease::register(pool, name, host, pid, ttl).await?;
        Ok(Self { id, ttl })
    }

    /// Its number, never used twice.
    #[must_use]
    pub fn id(self) -> i32 {
        self.id
    }

    /// How long it lives without a heartbeat.
    #[must_use]
    pub fn ttl(self) -> Duration {
        self.ttl
    }

    /// Tells operators what the worker has code for.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again.
    pub async fn advertise(self, pool: &PgPool, codes: &[String]) -> Result<(), sqlx::Error> {
        store::lease::advertise(pool, self.id, codes).await
    }

    /// Says that the worker lives.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn heartbeat(self, conn: &mut PgConnection) -> Result<Beat, sqlx::Error> {
        let beat = store::lease::heartbeat(conn, self.id, self.ttl).await?;
        Ok(match beat {
            Some(false) => Beat::Held,
            Some(true) => Beat::Draining,
            None => Beat::GivenUp,
        })
    }

    /// Those of its runs for which something has come: a cancellation, an answer, a message, a word to stop.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn calls(self, conn: &mut PgConnection) -> Result<Vec<Call>, sqlx::Error> {
        store::lease::calls(conn, self.id).await
    }

    /// Leases up to `limit` ready runs of the graphs called `codes`, those of lowest priority number
    /// and longest wait first, where a number is worth a minute of waiting; with `only`, that one run if it is among them.
    ///
    /// # Errors
    /// The database's; one with SQLSTATE `VL001` when the worker was given up.
    ///
    /// # Cancel safety
    /// Dropped half-way, or when its answer is lost, it may have leased runs that nobody knows of: ask
    /// for what is [`held`](Self::held).
    pub async fn claim(
        self,
        db: impl PgExecutor<'_>,
        codes: &[String],
        limit: usize,
        only: Option<RunId>,
    ) -> Result<Vec<Claim>, sqlx::Error> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let (claims, _) = store::lease::claim(db, self.id, codes, limit, only, None).await?;
        Ok(claims)
    }

    /// Leases like [`claim`](Self::claim), but none that is in front of `after` in the line; also where in the line the
    /// last one was that it has leased, if any.
    ///
    /// In front of it are the places of those that were leased before: while any session may still see them there, a
    /// look at the whole line walks past all of them. What is let into the line there, such as a run of a higher
    /// priority, is found by a look without `after` alone.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim).
    ///
    /// # Cancel safety
    /// As for [`claim`](Self::claim).
    pub async fn claim_after(
        self,
        db: impl PgExecutor<'_>,
        codes: &[String],
        limit: usize,
        only: Option<RunId>,
        after: Option<LinePlace>,
    ) -> Result<(Vec<Claim>, Option<LinePlace>), sqlx::Error> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        store::lease::claim(db, self.id, codes, limit, only, after).await
    }

    /// All that it has leased: also what it does not know of, since the answer to a [`claim`](Self::claim)
    /// was lost.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn held(self, pool: &PgPool) -> Result<Vec<Claim>, sqlx::Error> {
        store::lease::held(pool, self.id).await
    }

    /// Gives all its leases back and ends the incarnation; returns how many runs it had.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn retire(self, pool: &PgPool) -> Result<usize, sqlx::Error> {
        let handed = store::lease::give_up(pool, self.id, false, false).await?;
        Ok(usize::try_from(handed.unwrap_or(0)).unwrap_or(0))
    }
}

/// The SQLSTATE of a claim by a worker that was given up.
pub const GIVEN_UP: &str = "VL001";

/// What a look at the timers found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// Runs whose time had come.
    pub runs: usize,
    /// Those of them that are of queues, which let them into the line.
    pub held: usize,
    /// How long until the next one's comes.
    pub next_in: Option<Duration>,
}

/// Readies runs whose time has come.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn wake(pool: &PgPool) -> Result<Woken, sqlx::Error> {
    let (runs, held, seconds) = store::lease::wake(pool).await?;
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(Woken {
        runs: usize::try_from(runs).unwrap_or(0),
        held: usize::try_from(held).unwrap_or(0),
        next_in: seconds.and_then(duration),
    })
}

/// For each of these codes, how long the run has waited that would be claimed next; zero when none is ready.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn queue_age(
    pool: &PgPool,
    codes: &[String],
) -> Result<Vec<(String, Duration)>, sqlx::Error> {
    let ages = store::lease::age(pool, codes).await?.into_iter();
    let ages = ages.map(|(code, age)| {
        let age = Duration::try_from_secs_f64(age.max(0.0));
        (code, age.unwrap_or_default())
    });
    Ok(ages.collect())
}

/// How many runs of each code could be claimed now, counted up to ten thousand.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn queue_ready(
    pool: &PgPool,
    codes: &[String],
) -> Result<Vec<(String, i32)>, sqlx::Error> {
    store::overview::ready(pool, codes).await
}

/// Tells parents and children of runs that have ended, where the worker that ended them has not, since it
/// died or was cut off; returns of how many ends. A worker that has ended a run tells of it by itself.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn tell_families(pool: &PgPool) -> Result<usize, sqlx::Error> {
    crate::family::tell_left(pool).await
}

/// Gives up workers whose heartbeat has stopped, and hands their runs on; returns how many runs.
///
/// # Errors
/// The database's. One whose lock cannot be had within five seconds is left for the next time.
///
/// # Cancel safety
/// Nothing is lost: each worker is given up in a transaction of its own.
pub async fn take_over(pool: &PgPool) -> Result<usize, sqlx::Error> {
    let mut runs = 0;
    for worker in store::lease::expired(pool).await? {
        match store::lease::give_up(pool, worker, true, true).await {
            Ok(Some(handed)) => {
                tracing::warn!(
                    worker.id = worker,
                    runs = handed,
                    "gave up a worker whose heartbeat stopped"
                );
                runs += usize::try_from(handed).unwrap_or(0);
            }
            // Somebody else gave it up, or it lives again.
            Ok(None) => (),
            Err(error) if store::is_lock_timeout(&error) => {
                tracing::warn!(
                    worker.id = worker,
                    "a worker whose heartbeat stopped is still committing: tried again later"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(runs)
}

/// Lets runs of a queue go on that wait for one of it to give its place back; returns how many. Who gives
/// back a run of a [queue](Claim::queue) calls it; what is lost here is found by [`tend_gates`].
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn balance(pool: &PgPool, queue: &str) -> Result<usize, sqlx::Error> {
    let let_in = store::gate::balance(pool, queue).await?;
    Ok(usize::try_from(let_in).unwrap_or(0))
}

/// What a look at the gates found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tended {
    /// Runs that were let into the line, or called since there is a place for them.
    pub let_in: usize,
    /// How long until a rate lets the next one in.
    pub next_in: Option<Duration>,
    /// Where the next look is to go on; empty at the end.
    pub next_after: String,
    /// Whether anything is paused or limited by name.
    pub is_used: bool,
}

/// Looks at queues after `after`, and at all who wait for a permit: lets in whom there is a place for, since a
/// worker died or did not say. Tells `gates` what is paused.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn tend_gates(pool: &PgPool, after: &str, gates: &Gates) -> Result<Tended, sqlx::Error> {
    let tended = store::gate::tend(pool, after).await?;
    let is_used = !tended.names.is_empty();
    gates.learn(tended.names);
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(Tended {
        let_in: usize::try_from(tended.let_in).unwrap_or(0),
        next_in: tended.next_in.and_then(duration),
        next_after: tended.last_lane.unwrap_or_default(),
        is_used,
    })
}

/// The workers registered on `host`: a name for one boot of one machine and one namespace of process
/// ids, so that a process id that is not there is a process that is dead.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn neighbours(pool: &PgPool, host: &str) -> Result<Vec<Neighbour>, sqlx::Error> {
    store::lease::neighbours(pool, host).await
}

/// Gives up a worker that is known to be dead, before its lease ends.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn bury(pool: &PgPool, dead: Neighbour) -> Result<usize, sqlx::Error> {
    let handed = store::lease::give_up(pool, dead.id, false, true).await?;
    Ok(usize::try_from(handed.unwrap_or(0)).unwrap_or(0))
}
