//! Leases: taking, keeping, checking and giving them back.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use super::failure::interval;
use crate::lease::{Call, Claim, First, Lease, LinePlace, Neighbour};
use crate::run_id::RunId;

pub(crate) const REGISTER: &str = "\
-- velo: worker.register
insert into velo.worker (name, host, pid, expires_at)
values ($1, $2, $3, clock_timestamp() + $4)
returning id";

pub(crate) async fn register(
    db: impl PgExecutor<'_>,
    name: &str,
    host: &str,
    pid: i32,
    lease: Duration,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(REGISTER)
        .bind(name)
        .bind(host)
        .bind(pid)
        .bind(interval(lease))
        .fetch_one(db)
        .await
}

pub(crate) const ADVERTISE: &str = "\
-- velo: worker.advertise
update velo.worker
set codes = $2
where id = $1";

pub(crate) async fn advertise(
    db: impl PgExecutor<'_>,
    worker: i32,
    codes: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(ADVERTISE)
        .bind(worker)
        .bind(codes)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const HEARTBEAT: &str = "\
-- velo: worker.heartbeat
update velo.worker
set expires_at = clock_timestamp() + $2
where id = $1
returning is_draining";

/// Whether somebody has asked the worker to stop; `None` when it was given up.
pub(crate) async fn heartbeat(
    db: impl PgExecutor<'_>,
    worker: i32,
    lease: Duration,
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(HEARTBEAT)
        .bind(worker)
        .bind(interval(lease))
        .fetch_optional(db)
        .await
}

pub(crate) const DRAIN: &str = "\
-- velo: worker.drain
update velo.worker
set is_draining = true
where id = $1";

/// Asks a worker to stop; `false` when there is none of this id.
pub(crate) async fn drain(db: impl PgExecutor<'_>, worker: i32) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(DRAIN).bind(worker).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const CALLS: &str = "\
-- velo: queue.calls
select run_id, is_cancelled, is_poked, halt is not null as is_halted
from velo.queue
where worker = $1
  and (is_cancelled or is_poked or halt is not null)";

pub(crate) async fn calls(db: impl PgExecutor<'_>, worker: i32) -> Result<Vec<Call>, sqlx::Error> {
    sqlx::query_as(CALLS).bind(worker).fetch_all(db).await
}

pub(crate) const HEARD: &str = "\
-- velo: queue.heard
update velo.queue
set is_poked = false
where run_id = $1 and branch = 0 and worker = $2 and fence = $3 and is_poked";

/// Says that the worker is about to look at what has come for the run.
pub(crate) async fn heard(db: impl PgExecutor<'_>, lease: Lease) -> Result<(), sqlx::Error> {
    sqlx::query(HEARD)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const HELD: &str = "\
-- velo: queue.held
select run_id, fence, code, is_cancelled, lane
from velo.queue
where worker = $1";

/// All that the worker has leased, whether it knows or not.
pub(crate) async fn held(db: impl PgExecutor<'_>, worker: i32) -> Result<Vec<Claim>, sqlx::Error> {
    let held: Vec<Claimed> = sqlx::query_as(HELD).bind(worker).fetch_all(db).await?;
    Ok(held.into_iter().map(|row| row.of(worker)).collect())
}

pub(crate) const CLAIM: &str = "\
-- velo: queue.claim
select run_id, fence, code, is_cancelled, lane, place, control, snapshot, age, fingerprint, trace
from velo.lease($1, $2, $3, $4, $5)";

#[derive(FromRow)]
struct Claimed {
    run_id: RunId,
    fence: i64,
    code: String,
    is_cancelled: bool,
    lane: Option<String>,
}

impl Claimed {
    fn of(self, worker: i32) -> Claim {
        Claim {
            lease: Lease {
                run: self.run_id,
                worker,
                fence: self.fence,
            },
            code: self.code,
            is_cancelled: self.is_cancelled,
            queue: self.lane,
            first: None,
        }
    }
}

/// A row of [`CLAIM`].
#[derive(FromRow)]
struct Begun {
    #[sqlx(flatten)]
    claimed: Claimed,
    place: PgInterval,
    control: Option<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    age: Option<f64>,
    fingerprint: Option<Uuid>,
    trace: Option<String>,
}

impl Begun {
    fn of(self, worker: i32) -> Claim {
        let first = match (self.control, self.snapshot, self.fingerprint) {
            (Some(control), Some(snapshot), Some(shape)) => Some(First {
                control,
                snapshot,
                age: Duration::try_from_secs_f64(self.age.unwrap_or(0.0).max(0.0))
                    .unwrap_or_default(),
                shape,
                trace: self.trace,
            }),
            _ => None,
        };
        Claim {
            first,
            ..self.claimed.of(worker)
        }
    }
}

/// Leases ready runs, looking no further in front than `after`; also where in the line the last of them was.
pub(crate) async fn claim(
    db: impl PgExecutor<'_>,
    worker: i32,
    codes: &[String],
    limit: i32,
    only: Option<RunId>,
    after: Option<LinePlace>,
) -> Result<(Vec<Claim>, Option<LinePlace>), sqlx::Error> {
    let claimed: Vec<Begun> = sqlx::query_as(CLAIM)
        .bind(worker)
        .bind(codes)
        .bind(limit)
        .bind(only)
        .bind(after.map(|place| place.0))
        .fetch_all(db)
        .await?;
    let last = claimed.last().map(|row| LinePlace(row.place));
    let claims = claimed.into_iter().map(|row| row.of(worker)).collect();
    Ok((claims, last))
}

// At most a thousand at once, so that a flood of due timers is no flood of row locks.
pub(crate) const WAKE: &str = "\
-- velo: queue.wake
with due as (
  select run_id, branch, lane
  from velo.queue
  where wake_at <= clock_timestamp()
  order by wake_at
  limit 1000
  for update skip locked
), woken as (
  update velo.queue q
  set ready_at = clock_timestamp(), wake_at = null
  from due
  where q.run_id = due.run_id and q.branch = due.branch
)
select (select count(*) from due) as woken,
       (select count(lane) from due) as held,
       (select extract(epoch from min(wake_at) - clock_timestamp())::float8
        from velo.queue
        where wake_at > clock_timestamp()) as next_in";

/// Readies what is due; returns how many, how many of them queues let in, and the seconds until more is.
pub(crate) async fn wake(db: impl PgExecutor<'_>) -> Result<(i64, i64, Option<f64>), sqlx::Error> {
    sqlx::query_as(WAKE).fetch_one(db).await
}

pub(crate) const EXPIRED: &str = "\
-- velo: worker.expired
select id
from velo.worker
where expires_at < clock_timestamp()
limit 100";

pub(crate) async fn expired(db: impl PgExecutor<'_>) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar(EXPIRED).fetch_all(db).await
}

pub(crate) const NEIGHBOURS: &str = "\
-- velo: worker.neighbours
select id, pid
from velo.worker
where host = $1";

pub(crate) async fn neighbours(
    db: impl PgExecutor<'_>,
    host: &str,
) -> Result<Vec<Neighbour>, sqlx::Error> {
    sqlx::query_as(NEIGHBOURS).bind(host).fetch_all(db).await
}

pub(crate) const GIVE_UP: &str = "\
-- velo: worker.give_up
select velo.give_up($1, $2, $3)";

pub(crate) async fn give_up(
    db: impl PgExecutor<'_>,
    worker: i32,
    only_expired: bool,
    crashed: bool,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar(GIVE_UP)
        .bind(worker)
        .bind(only_expired)
        .bind(crashed)
        .fetch_one(db)
        .await
}

pub(crate) const HOLD: &str = "\
-- velo: lease.hold
select velo.hold($1, $2, $3)";

/// Whether the lease holds, and then until the transaction ends.
pub(crate) async fn hold(conn: &mut PgConnection, lease: Lease) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(HOLD)
        .bind(lease.worker)
        .bind(lease.run)
        .bind(lease.fence)
        .fetch_one(conn)
        .await
}

pub(crate) const IS_HELD: &str = "\
-- velo: lease.is_held
select exists (select
               from velo.queue
               where run_id = $1 and branch = 0 and worker = $2 and fence = $3)";

/// Whether the lease holds at this moment.
pub(crate) async fn is_held(db: impl PgExecutor<'_>, lease: Lease) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_HELD)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .fetch_one(db)
        .await
}

pub(crate) const SUSPECT: &str = "\
-- velo: queue.suspect
update velo.queue
set suspect = $4
where run_id = $1 and branch = 0 and worker = $2 and fence = $3
  and suspect is distinct from $4";

/// Notes which node is at work, of a run whose workers have died. Check the lease in the same transaction.
pub(crate) async fn suspect(
    db: impl PgExecutor<'_>,
    lease: Lease,
    node: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(SUSPECT)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .bind(node)
        .execute(db)
        .await?;
    Ok(())
}

// A run that was cancelled meanwhile is readied, here and below: whoever leases it next ends it. So is one
// that was asked to stop at a step boundary, and here one for which something has come.
pub(crate) const SLEEP: &str = "\
-- velo: queue.sleep
update velo.queue
set worker = null,
    is_poked = false,
    wake_at = case when not (is_poked or is_cancelled or halt is not null) then clock_timestamp() + $4 end,
    ready_at = case when is_poked or is_cancelled or halt is not null then clock_timestamp() end,
    crashes = 0
where run_id = $1 and branch = 0 and worker = $2 and fence = $3";

/// Gives the lease back until the time has passed; `false` when it was gone.
pub(crate) async fn sleep(
    db: impl PgExecutor<'_>,
    lease: Lease,
    wait: Duration,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(SLEEP)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .bind(interval(wait))
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const PAUSE: &str = "\
-- velo: queue.pause
with parked as (
  update velo.queue
  set worker = null,
      ready_at = case when is_cancelled or halt = 'end' then clock_timestamp() end,
      halt = nullif(halt, 'pause')
  where run_id = $1 and branch = 0 and worker = $2 and fence = $3
  returning run_id, is_cancelled or halt is not null as is_to_end
), paused as (
  update velo.run
  set status = 'paused', error = coalesce($4::jsonb, error)
  from parked
  where id = parked.run_id and not parked.is_to_end
)
select count(*) from parked";

/// Gives the lease back until somebody resumes the run; `false` when it was gone. Without an error, the
/// run keeps the one that it has: the reason of who paused it.
pub(crate) async fn pause(
    db: impl PgExecutor<'_>,
    lease: Lease,
    error: Option<&serde_json::Value>,
) -> Result<bool, sqlx::Error> {
    let parked: i64 = sqlx::query_scalar(PAUSE)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .bind(error.map(Json))
        .fetch_one(db)
        .await?;
    Ok(parked == 1)
}

pub(crate) const FINISH_CANCELLED: &str = "\
-- velo: queue.finish_cancelled
with gone as (
  delete from velo.queue
  where run_id = $1 and branch = 0 and worker = $2 and fence = $3
  returning run_id
), unbegun as (
  delete from velo.input i
  using gone
  where i.run_id = gone.run_id
  returning i.run_id
), done as (
  update velo.run
  set status = 'cancelled', finished_at = clock_timestamp()
  from gone
  where id = gone.run_id
  returning id, thread
), freed as (
  update velo.thread
  set is_live = false,
      -- What has not begun has no state to leave.
      is_undone = is_undone or exists (select from unbegun)
  from done
  where name = done.thread and run_id = done.id
)
select count(*) from gone";

/// Ends a run that was cancelled while it was leased; `false` when the lease was gone.
pub(crate) async fn finish_cancelled(
    db: impl PgExecutor<'_>,
    lease: Lease,
) -> Result<bool, sqlx::Error> {
    let gone: i64 = sqlx::query_scalar(FINISH_CANCELLED)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .fetch_one(db)
        .await?;
    Ok(gone == 1)
}

// The head of each line, not the oldest of all: one look into the index for each code, however many wait.
pub(crate) const AGE: &str = "\
-- velo: queue.age
select wanted.code, coalesce(extract(epoch from clock_timestamp() - head.ready_at), 0)::float8
from unnest($1::text[]) as wanted (code)
left join lateral (
  select q.ready_at
  from velo.queue q
  where q.code = wanted.code and q.ready_at is not null
  order by (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
  limit 1
) head on true";

/// For each code, the seconds that the run has waited which would be claimed next; zero when none is ready.
pub(crate) async fn age(
    db: impl PgExecutor<'_>,
    codes: &[String],
) -> Result<Vec<(String, f64)>, sqlx::Error> {
    sqlx::query_as(AGE).bind(codes).fetch_all(db).await
}
