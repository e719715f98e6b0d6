//! Schedules, and the record of their fires.
//!
//! What is decided about a schedule is read after its row is locked, by later statements: a snapshot
//! that is older than the lock may not show what its last holder did.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, Row};
use uuid::Uuid;

use crate::run_id::RunId;
use crate::schedule::{NextFire, Overlap};

/// A schedule, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The graph's name.
    pub graph: String,
    /// The graph's version.
    pub version: i32,
    /// The queue that its runs are started into.
    #[sqlx(rename = "lane")]
    pub queue: Option<String>,
    /// When it fires, as stored: `cron` and `zone`, or `every_us` and `phase_us`.
    pub spec: serde_json::Value,
    /// By how many milliseconds its fires may be late on purpose.
    pub jitter_ms: i64,
    /// How many milliseconds a fire may be late because no worker was there.
    pub catch_up_ms: i64,
    /// What becomes of a fire while a run has not ended.
    pub overlap: Overlap,
    /// Whether it starts nothing.
    pub is_paused: bool,
    /// Why it is paused.
    pub note: Option<String>,
    /// The next time by the schedule, if there is one.
    pub next_at: Option<DateTime<Utc>>,
    /// When the jitter lets that fire.
    pub due_at: Option<DateTime<Utc>>,
    /// Whether a fire waits for a run to end.
    pub is_buffering: bool,
    /// The latest time that came.
    pub last_fire_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// A time that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Fire {
    /// The time by the schedule; of a trigger, when it was asked for.
    pub fire_at: DateTime<Utc>,
    /// Why it came.
    pub cause: FireCause,
    /// What became of it.
    pub outcome: FireOutcome,
    /// The run that was started.
    pub run_id: Option<RunId>,
    /// Of a missed one: all times before this one were missed too.
    pub until: Option<DateTime<Utc>>,
    /// When this was recorded.
    pub at: DateTime<Utc>,
}

/// Why a schedule fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum FireCause {
    /// Its time had come.
    Time,
    /// Somebody asked for one.
    Trigger,
    /// Somebody asked for those of the past.
    Backfill,
}

/// What became of a fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum FireOutcome {
    /// It started a run.
    Started,
    /// It waits for a run to end.
    Buffered,
    /// The overlap policy started none.
    Skipped,
    /// No worker was there within the catch-up window.
    Missed,
}

impl FireOutcome {
    /// Its name in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Buffered => "buffered",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

/// What a schedule is created with.
#[derive(Debug)]
pub(crate) struct NewSchedule<'a> {
    pub(crate) name: &'a str,
    pub(crate) graph: &'a str,
    pub(crate) version: i32,
    pub(crate) fingerprint: Uuid,
    pub(crate) code: &'a str,
    pub(crate) priority: i16,
    pub(crate) lane: Option<&'a str>,
    pub(crate) control: &'a [u8],
    pub(crate) state: &'a [u8],
    pub(crate) spec: serde_json::Value,
    pub(crate) jitter_ms: i64,
    pub(crate) catch_up_ms: i64,
    pub(crate) overlap: Overlap,
    pub(crate) next: Option<NextFire>,
}

// Replaced with the same times, it goes on where it was: a service that replaces its schedules whenever
// it starts must not lose what came due while it was away.
pub(crate) const PUT: &str = "\
-- velo: schedule.put
insert into velo.schedule as s
  (name, graph, version, fingerprint, code, priority, control, state, spec, jitter_ms, catch_up_ms,
   overlap, next_at, due_at, lane)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $16)
on conflict (name) do update
set graph = excluded.graph, version = excluded.version, fingerprint = excluded.fingerprint,
    code = excluded.code, priority = excluded.priority, lane = excluded.lane, control = excluded.control,
    state = excluded.state, spec = excluded.spec, jitter_ms = excluded.jitter_ms,
    catch_up_ms = excluded.catch_up_ms, overlap = excluded.overlap,
    next_at = case when s.spec = excluded.spec and s.jitter_ms = excluded.jitter_ms
              then s.next_at else excluded.next_at end,
    due_at = case when s.spec = excluded.spec and s.jitter_ms = excluded.jitter_ms
             then s.due_at else excluded.due_at end
where $15";

/// Inserts it; one of its name is replaced, or is left with `false`.
pub(crate) async fn put(
    db: impl PgExecutor<'_>,
    new: NewSchedule<'_>,
    replaces: bool,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(PUT)
        .bind(new.name)
        .bind(new.graph)
        .bind(new.version)
        .bind(new.fingerprint)
        .bind(new.code)
        .bind(new.priority)
        .bind(new.control)
        .bind(new.state)
        .bind(new.spec)
        .bind(new.jitter_ms)
        .bind(new.catch_up_ms)
        .bind(new.overlap)
        .bind(new.next.map(|next| next.fire_at))
        .bind(new.next.map(|next| next.due_at))
        .bind(replaces)
        .bind(new.lane)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const NOW: &str = "\
-- velo: schedule.now
select clock_timestamp()";

/// What time it is by the database's clock.
pub(crate) async fn now(db: impl PgExecutor<'_>) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar(NOW).fetch_one(db).await
}

/// A schedule whose row is locked.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) schedule: Schedule,
    pub(crate) fingerprint: Uuid,
    pub(crate) code: String,
    pub(crate) priority: i16,
    pub(crate) control: Vec<u8>,
    pub(crate) state: Vec<u8>,
    /// What time it was.
    pub(crate) now: DateTime<Utc>,
}

impl Locked {
    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_millis(self.schedule.jitter_ms.unsigned_abs())
    }

    pub(crate) fn catch_up(&self) -> Duration {
        Duration::from_millis(self.schedule.catch_up_ms.unsigned_abs())
    }
}

impl FromRow<'_, PgRow> for Locked {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            schedule: Schedule::from_row(row)?,
            fingerprint: row.try_get("fingerprint")?,
            code: row.try_get("code")?,
            priority: row.try_get("priority")?,
            control: row.try_get("control")?,
            state: row.try_get("state")?,
            now: row.try_get("now")?,
        })
    }
}

pub(crate) const DUE: &str = "\
-- velo: schedule.due
select s.*, coalesce($1, clock_timestamp()) as now
from velo.schedule s
where not s.is_paused
  and s.name <> all($2)
  and (s.due_at <= coalesce($1, clock_timestamp())
       or s.is_buffering and not exists (
         select from velo.schedule_fire f
         join velo.run r on r.id = f.run_id
         where f.name = s.name and not f.is_over and r.finished_at is null))
order by s.due_at
limit 1
for update of s skip locked";

/// Locks one that is due, or whose buffered fire can start, and that nobody else has. Those `passed_over`
/// are not looked at.
pub(crate) async fn lock_due(
    db: impl PgExecutor<'_>,
    now: Option<DateTime<Utc>>,
    passed_over: &[String],
) -> Result<Option<Locked>, sqlx::Error> {
    sqlx::query_as(DUE)
        .bind(now)
        .bind(passed_over)
        .fetch_optional(db)
        .await
}

pub(crate) const LOCK: &str = "\
-- velo: schedule.lock
select s.*, clock_timestamp() as now
from velo.schedule s
where s.name = $1
for update of s";

pub(crate) async fn lock(
    db: impl PgExecutor<'_>,
    name: &str,
) -> Result<Option<Locked>, sqlx::Error> {
    sqlx::query_as(LOCK).bind(name).fetch_optional(db).await
}

// Without a lock, so that workers that find nothing to do ask one question and no more.
pub(crate) const LOOK: &str = "\
-- velo: schedule.look
select exists (
         select from velo.schedule s
         where not s.is_paused
           and (s.is_buffering or s.due_at <= coalesce($1, clock_timestamp()))) as is_due,
       (select extract(epoch from min(due_at) - clock_timestamp())::float8
        from velo.schedule
        where not is_paused and due_at > clock_timestamp()) as next_in";

/// Whether one may be due, and the seconds until the next one is.
pub(crate) async fn look(
    db: impl PgExecutor<'_>,
    now: Option<DateTime<Utc>>,
) -> Result<(bool, Option<f64>), sqlx::Error> {
    sqlx::query_as(LOOK).bind(now).fetch_one(db).await
}

pub(crate) const SETTLE: &str = "\
-- velo: schedule.settle
update velo.schedule_fire f
set is_over = true
where f.name = $1
  and not f.is_over
  and f.run_id is not null
  and not exists (select from velo.run r where r.id = f.run_id and r.finished_at is null)";

/// Marks the fires whose runs have ended.
pub(crate) async fn settle(db: impl PgExecutor<'_>, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(SETTLE).bind(name).execute(db).await?;
    Ok(())
}

pub(crate) const OPEN: &str = "\
-- velo: schedule.open
select coalesce(array_agg(run_id order by fire_at) filter (where run_id is not null), '{}') as live,
       coalesce(array_agg(fire_at order by fire_at) filter (where run_id is null), '{}') as buffered
from velo.schedule_fire
where name = $1
  and not is_over";

/// The runs that have not ended, and the fires that wait, oldest first.
pub(crate) async fn open(
    db: impl PgExecutor<'_>,
    name: &str,
) -> Result<(Vec<RunId>, Vec<DateTime<Utc>>), sqlx::Error> {
    let (live, buffered): (Vec<i64>, _) = sqlx::query_as(OPEN).bind(name).fetch_one(db).await?;
    Ok((live.into_iter().map(RunId::from_i64).collect(), buffered))
}

pub(crate) const FIRE: &str = "\
-- velo: schedule.fire
select fire_at, cause, outcome, run_id, until, at
from velo.schedule_fire
where name = $1
  and fire_at = $2";

/// What became of this time, if it came.
pub(crate) async fn fire(
    db: impl PgExecutor<'_>,
    name: &str,
    fire_at: DateTime<Utc>,
) -> Result<Option<Fire>, sqlx::Error> {
    sqlx::query_as(FIRE)
        .bind(name)
        .bind(fire_at)
        .fetch_optional(db)
        .await
}

// What is there is written over only by a later word on the same time: a buffered fire that starts or is
// dropped, and one that is filled in.
pub(crate) const RECORD: &str = "\
-- velo: schedule.record
insert into velo.schedule_fire as f (name, fire_at, cause, outcome, run_id, until, is_over)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (name, fire_at) do update
set cause = excluded.cause, outcome = excluded.outcome, run_id = excluded.run_id,
    until = excluded.until, is_over = excluded.is_over, at = clock_timestamp()
where f.outcome <> 'started'
returning fire_at, cause, outcome, run_id, until, at";

/// Records what became of a time.
pub(crate) async fn record(
    db: impl PgExecutor<'_>,
    name: &str,
    fire: &Came,
) -> Result<Fire, sqlx::Error> {
    let is_over = matches!(fire.outcome, FireOutcome::Skipped | FireOutcome::Missed);
    sqlx::query_as(RECORD)
        .bind(name)
        .bind(fire.fire_at)
        .bind(fire.cause)
        .bind(fire.outcome)
        .bind(fire.run)
        .bind(fire.until)
        .bind(is_over)
        .fetch_one(db)
        .await
}

/// A time that came, before it is recorded.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) fire_at: DateTime<Utc>,
    pub(crate) cause: FireCause,
    pub(crate) outcome: FireOutcome,
    pub(crate) run: Option<RunId>,
    pub(crate) until: Option<DateTime<Utc>>,
}

pub(crate) const DROP_BUFFERED: &str = "\
-- velo: schedule.drop_buffered
update velo.schedule_fire
set outcome = 'skipped', is_over = true, at = clock_timestamp()
where name = $1
  and not is_over
  and run_id is null";

/// Skips what waits.
pub(crate) async fn drop_buffered(db: impl PgExecutor<'_>, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(DROP_BUFFERED).bind(name).execute(db).await?;
    Ok(())
}

pub(crate) const MOVE: &str = "\
-- velo: schedule.move
update velo.schedule s
set next_at = $2,
    due_at = $3,
    last_fire_at = greatest(s.last_fire_at, $4),
    is_buffering = exists (
      select from velo.schedule_fire f
      where f.name = s.name and not f.is_over and f.run_id is null)
where s.name = $1";

/// Moves it on to its next time. The latest time that came is kept if `last` is none or earlier.
pub(crate) async fn move_on(
    db: impl PgExecutor<'_>,
    name: &str,
    next: Option<NextFire>,
    last: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query(MOVE)
        .bind(name)
        .bind(next.map(|next| next.fire_at))
        .bind(next.map(|next| next.due_at))
        .bind(last)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const PRUNE: &str = "\
-- velo: schedule.prune
delete from velo.schedule_fire
where name = $1
  and is_over
  and id < (select id from velo.schedule_fire where name = $1 order by id desc offset $2 limit 1)";

/// Forgets what became of all but the last `keep` times.
pub(crate) async fn prune(
    db: impl PgExecutor<'_>,
    name: &str,
    keep: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(PRUNE).bind(name).bind(keep).execute(db).await?;
    Ok(())
}

pub(crate) const PAUSE: &str = "\
-- velo: schedule.pause
update velo.schedule
set is_paused = $2, note = $3
where name = $1";

/// Pauses it or lets it go on; `false` when there is none.
pub(crate) async fn pause(
    db: impl PgExecutor<'_>,
    name: &str,
    is_paused: bool,
    note: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(PAUSE)
        .bind(name)
        .bind(is_paused)
        .bind(note)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const DELETE: &str = "\
-- velo: schedule.delete
delete from velo.schedule
where name = $1";

/// Deletes it with its record; `false` when there is none.
pub(crate) async fn delete(db: impl PgExecutor<'_>, name: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(DELETE).bind(name).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const GET: &str = "\
-- velo: schedule.get
select name, graph, version, lane, spec, jitter_ms, catch_up_ms, overlap, is_paused, note, next_at, due_at,
       is_buffering, last_fire_at, created_at
from velo.schedule
where name = $1";

pub(crate) async fn get(
    db: impl PgExecutor<'_>,
    name: &str,
) -> Result<Option<Schedule>, sqlx::Error> {
    sqlx::query_as(GET).bind(name).fetch_optional(db).await
}

pub(crate) const LIST: &str = "\
-- velo: schedule.list
select name, graph, version, lane, spec, jitter_ms, catch_up_ms, overlap, is_paused, note, next_at, due_at,
       is_buffering, last_fire_at, created_at
from velo.schedule
where name > $1
order by name
limit $2";

/// Schedules of later names, by name.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Schedule>, sqlx::Error> {
    sqlx::query_as(LIST)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const FIRES: &str = "\
-- velo: schedule.fires
select fire_at, cause, outcome, run_id, until, at
from velo.schedule_fire
where name = $1
order by fire_at desc
limit $2";

/// What became of the latest times, latest first.
pub(crate) async fn fires(
    db: impl PgExecutor<'_>,
    name: &str,
    limit: i64,
) -> Result<Vec<Fire>, sqlx::Error> {
    sqlx::query_as(FIRES)
        .bind(name)
        .bind(limit)
        .fetch_all(db)
        .await
}
