//! Firing what is due: the record, the start of the run and the move to the next time in one transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::error::ScheduleError;
use super::overlap::{Decision, Overlap};
use super::plan::{NextFire, Rule};
use super::spec::Spec;
use crate::engine::Engine;
use crate::failpoint;
use crate::run_id::RunId;
use crate::store;
use crate::store::schedule::{self as rows, Came, Fire, FireCause, FireOutcome, Locked};
use crate::store::start::{self, NewRun};
use crate::store::steer::Ending;
use crate::vault::{Home, Vault};

/// Most times of one schedule that are fired in one transaction; the next one goes on.
pub const FIRES_PER_TURN: usize = 64;
/// Most transactions of one round.
pub const TURNS_MAX: usize = 256;
/// Most runs that one fire cancels: there is one, unless the policy was another one before.
const CANCELLED_PER_FIRE: usize = 1_000;
/// Times of a schedule whose record is kept; those whose runs have not ended are kept longer.
const RECORDED: i64 = 2_000;

const DOING: &str = "fire the schedules that are due";

/// What a round of firing did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// The runs that were started.
    pub runs: Vec<RunId>,
    /// How long until the next schedule is due; `None` when none is to be.
    pub next_in: Option<Duration>,
}

/// Fires all schedules that are due, and starts what waited for a run that has ended. Any number of
/// workers may call it at once: each time fires once.
///
/// A schedule that cannot be fired is passed over until the next round, with a warning in the log; one
/// whose times cannot be read is paused, with a note that says so.
///
/// # Errors
/// The database's, when it is in trouble: what is not fired stays due.
///
/// # Cancel safety
/// Nothing is lost: each schedule is fired in a transaction of its own.
pub async fn fire_due(engine: &Engine) -> Result<Fired, ScheduleError> {
    round(engine, None).await
}

/// As [`fire_due`], as if it were `now`: for tests and rehearsals.
///
/// # Errors
/// As [`fire_due`].
///
/// # Cancel safety
/// As [`fire_due`].
pub async fn fire_due_at(engine: &Engine, now: DateTime<Utc>) -> Result<Fired, ScheduleError> {
    round(engine, Some(now)).await
}

async fn round(engine: &Engine, now: Option<DateTime<Utc>>) -> Result<Fired, ScheduleError> {
    let pool = engine.pool();
    let (mut fired, mut passed_over) = (Fired::default(), Vec::new());
    let mut looked = rows::look(pool, now)
        .await
        .map_err(ScheduleError::on(DOING))?;
    for _ in 0..TURNS_MAX {
        let (is_due, next_in) = looked;
        let mut name = None;
        let turned = if is_due {
            turn(engine, now, &passed_over, &mut name).await
        } else {
            Ok(None)
        };
        match turned {
            Ok(Some(runs)) => fired.runs.extend(runs),
            Ok(None) => {
                fired.next_in =
                    next_in.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
                return Ok(fired);
            }
            Err(error) => match name {
                Some(name) if !error.is_transient() => {
                    tracing::warn!(schedule.name = %name, error = &error as &dyn std::error::Error, "could not fire a schedule");
                    passed_over.push(name);
                }
                _ => return Err(error),
            },
        }
        looked = rows::look(pool, now)
            .await
            .map_err(ScheduleError::on(DOING))?;
    }
    // There is more: come again at once.
    fired.next_in = Some(Duration::ZERO);
    Ok(fired)
}

/// Fires one schedule; `None` when none is due. Says whose turn it was, also when it fails.
async fn turn(
    engine: &Engine,
    now: Option<DateTime<Utc>>,
    passed_over: &[String],
    name: &mut Option<String>,
) -> Result<Option<Vec<RunId>>, ScheduleError> {
    let database = ScheduleError::on(DOING);
    let mut tx = store::begin(engine.pool()).await.map_err(database)?;
    let due = rows::lock_due(&mut *tx, now, passed_over)
        .await
        .map_err(database)?;
    let Some(mut due) = due else {
        return Ok(None);
    };
    *name = Some(due.schedule.name.clone());
    let runs = match spec_of(&due) {
        Ok(spec) => {
            let vault = engine.vault();
            due.open(vault)?;
            fire(&mut tx, vault, &due, &spec).await.map_err(database)?
        }
        Err(error) => {
            tracing::error!(schedule.name = %due.schedule.name, %error, "paused a schedule");
            let note = error.to_string();
            rows::pause(&mut *tx, &due.schedule.name, true, Some(&note))
                .await
                .map_err(database)?;
            Vec::new()
        }
    };
    failpoint::hit("schedule.before_commit");
    tx.commit().await.map_err(database)?;
    Ok(Some(runs))
}

async fn fire(
    conn: &mut PgConnection,
    vault: &Vault,
    due: &Locked,
    spec: &Spec,
) -> Result<Vec<RunId>, sqlx::Error> {
    let name = &due.schedule.name;
    let mut counter = Counter::open(conn, vault, due).await?;
    counter.drain().await?;
    let plan = rule_of(due, spec).plan(due.schedule.next_at, due.now, FIRES_PER_TURN);
    if let Some((first, until)) = plan.missed {
        counter.miss(first, until).await?;
    }
    for time in &plan.due {
        counter
            .offer(*time, FireCause::Time, due.schedule.overlap)
            .await?;
    }
    let started = counter.close(plan.next, plan.due.last().copied()).await?;
    rows::prune(conn, name, RECORDED).await?;
    Ok(started)
}

impl Locked {
    /// Opens what its runs begin with.
    pub(crate) fn open(&mut self, vault: &Vault) -> Result<(), ScheduleError> {
        let name = &self.schedule.name;
        let control = vault.open(Home::named("schedule control", name), &mut self.control);
        let state = vault.open(Home::named("schedule state", name), &mut self.state);
        control.and(state).map_err(|source| ScheduleError::Sealed {
            name: name.clone(),
            source,
        })
    }
}

pub(crate) fn spec_of(locked: &Locked) -> Result<Spec, ScheduleError> {
    let spec = serde_json::from_value(locked.schedule.spec.clone());
    spec.map_err(|source| ScheduleError::Unreadable {
        name: locked.schedule.name.clone(),
        source,
    })
}

pub(crate) fn rule_of<'a>(locked: &'a Locked, spec: &'a Spec) -> Rule<'a> {
    Rule {
        name: &locked.schedule.name,
        spec,
        jitter: locked.jitter(),
        catch_up: locked.catch_up(),
    }
}

/// A schedule whose row the transaction holds and [that is open](Locked::open), and what of it has not ended.
pub(crate) struct Counter<'a> {
    conn: &'a mut PgConnection,
    vault: &'a Vault,
    locked: &'a Locked,
    live: Vec<RunId>,
    buffered: Vec<DateTime<Utc>>,
    started: Vec<RunId>,
}

impl<'a> Counter<'a> {
    pub(crate) async fn open(
        conn: &'a mut PgConnection,
        vault: &'a Vault,
        locked: &'a Locked,
    ) -> Result<Self, sqlx::Error> {
        let mut counter = Self {
            conn,
            vault,
            locked,
            live: Vec::new(),
            buffered: Vec::new(),
            started: Vec::new(),
        };
        counter.count().await?;
        Ok(counter)
    }

    async fn count(&mut self) -> Result<(), sqlx::Error> {
        let name = &self.locked.schedule.name;
        rows::settle(&mut *self.conn, name).await?;
        (self.live, self.buffered) = rows::open(&mut *self.conn, name).await?;
        Ok(())
    }

    /// Starts the oldest that waits, if all runs before it have ended.
    async fn drain(&mut self) -> Result<(), sqlx::Error> {
        if self.live.is_empty() && !self.buffered.is_empty() {
            let oldest = self.buffered.remove(0);
            let name = &self.locked.schedule.name;
            let recorded = rows::fire(&mut *self.conn, name, oldest).await?;
            let cause = recorded.map_or(FireCause::Time, |fire| fire.cause);
            self.start(oldest, cause).await?;
        }
        Ok(())
    }

    /// Has a time come; one that came before stays as it is. What was skipped or missed can be filled in.
    pub(crate) async fn offer(
        &mut self,
        fire_at: DateTime<Utc>,
        cause: FireCause,
        overlap: Overlap,
    ) -> Result<Fire, sqlx::Error> {
        let before = rows::fire(&mut *self.conn, &self.locked.schedule.name, fire_at).await?;
        if let Some(before) = before {
            let is_open = matches!(before.outcome, FireOutcome::Skipped | FireOutcome::Missed);
            if !(is_open && cause == FireCause::Backfill) {
                return Ok(before);
            }
        }
        let decision = match overlap.decide(self.live.len(), self.buffered.len()) {
            Decision::Displace => self.displace(overlap).await?,
            decided => decided,
        };
        match decision {
            Decision::Start => self.start(fire_at, cause).await,
            Decision::Skip => self.record(fire_at, cause, FireOutcome::Skipped).await,
            Decision::Buffer | Decision::Displace => {
                let fire = self.record(fire_at, cause, FireOutcome::Buffered).await?;
                self.buffered.push(fire_at);
                Ok(fire)
            }
        }
    }

    /// Ends the runs and drops what waits. A run that a worker has ends when that has noticed.
    async fn displace(&mut self, overlap: Overlap) -> Result<Decision, sqlx::Error> {
        rows::drop_buffered(&mut *self.conn, &self.locked.schedule.name).await?;
        let reason =
            json!({ "kind": "terminated", "message": "the next run of its schedule is due" });
        let how = match overlap {
            Overlap::TerminateOther => Ending::now(&reason),
            _ => Ending::CANCELLED,
        };
        // Should there be more, the next fire goes on with them.
        for run in self.live.iter().take(CANCELLED_PER_FIRE) {
            store::steer::end(&mut *self.conn, *run, how).await?;
        }
        self.count().await?;
        Ok(if self.live.is_empty() {
            Decision::Start
        } else {
            Decision::Buffer
        })
    }

    async fn start(
        &mut self,
        fire_at: DateTime<Utc>,
        cause: FireCause,
    ) -> Result<Fire, sqlx::Error> {
        let schedule = &self.locked.schedule;
        // An id that is taken already fails the turn, and the next one draws another.
        let id = RunId::random();
        let seal = |what, plain: &[u8]| {
            let sealed = self.vault.seal(Home::of_step(id, 0, what), plain.to_vec());
            sealed.map_err(|error| sqlx::Error::Encode(error.into()))
        };
        let control = seal("control", &self.locked.control)?;
        let state = seal("snapshot", &self.locked.state)?;
        let new = NewRun {
            id,
            nonce: Uuid::new_v4().as_u64_pair().0.cast_signed(),
            graph: &schedule.graph,
            version: schedule.version,
            fingerprint: self.locked.fingerprint,
            thread: None,
            control: &control,
            state: &state,
            code: &self.locked.code,
            priority: self.locked.priority,
            origin: None,
            lane: schedule.queue.as_deref(),
            trace: None,
        };
        start::insert(&mut *self.conn, &new).await?;
        self.live.push(id);
        self.started.push(id);
        let came = Came {
            fire_at,
            cause,
            outcome: FireOutcome::Started,
            run: Some(id),
            until: None,
        };
        rows::record(&mut *self.conn, &schedule.name, &came).await
    }

    /// Records that nobody was there from `first` to before `until`.
    async fn miss(
        &mut self,
        first: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
    ) -> Result<(), sqlx::Error> {
        let name = &self.locked.schedule.name;
        tracing::warn!(schedule.name = %name, from = %first, "a schedule has missed times");
        if rows::fire(&mut *self.conn, name, first).await?.is_none() {
            let came = Came {
                fire_at: first,
                cause: FireCause::Time,
                outcome: FireOutcome::Missed,
                run: None,
                until,
            };
            rows::record(&mut *self.conn, name, &came).await?;
        }
        Ok(())
    }

    async fn record(
        &mut self,
        fire_at: DateTime<Utc>,
        cause: FireCause,
        outcome: FireOutcome,
    ) -> Result<Fire, sqlx::Error> {
        let came = Came {
            fire_at,
            cause,
            outcome,
            run: None,
            until: None,
        };
        rows::record(&mut *self.conn, &self.locked.schedule.name, &came).await
    }

    /// Moves the schedule on; what was started is told to the workers when the transaction commits.
    pub(crate) async fn close(
        self,
        next: Option<NextFire>,
        last: Option<DateTime<Utc>>,
    ) -> Result<Vec<RunId>, sqlx::Error> {
        rows::move_on(&mut *self.conn, &self.locked.schedule.name, next, last).await?;
        if !self.started.is_empty() {
            store::run::notify(&mut *self.conn).await?;
        }
        Ok(self.started)
    }
}
