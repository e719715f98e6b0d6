//! Gates: what is allowed of queues, limits and nodes, and who has permits.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgExecutor, PgPool};

use super::begin;
use crate::gate::Allowance;
use crate::lease::Lease;

/// A gate that is limited or paused, and what is at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct GateInfo {
    /// Its name, such as `queue/tenant/acme`.
    pub name: String,
    /// How many it allows at once.
    pub max_running: Option<i32>,
    /// How many it allows in `rate_ms`.
    pub rate_count: Option<i32>,
    /// The time of the rate, in milliseconds.
    pub rate_ms: Option<i64>,
    /// How many at once after a rest.
    pub burst: Option<i32>,
    /// A queue's share.
    pub weight: i32,
    /// Whether it lets nothing through.
    pub is_paused: bool,
    /// Why it is paused, for people.
    pub note: Option<String>,
    /// When it was last changed.
    pub changed_at: DateTime<Utc>,
    /// How many have passed it and are at work, or in the line; of a name that ends in `/*`, of all it is for.
    pub inside: i64,
    /// How many wait at it, counted up to a thousand.
    pub waiting: i64,
}

pub(crate) const LIST: &str = "\
-- velo: gate.list
select g.name, g.max_running, g.rate_count, g.rate_ms, g.burst, g.weight, g.is_paused, g.note, g.changed_at,
       (select count(*) from velo.queue q
        where g.name like 'queue/%' and q.lane is not null and (q.ready_at is not null or q.worker is not null)
          and case when g.name like '%/*' then starts_with(q.lane, substr(left(g.name, -1), 7))
                   else q.lane = substr(g.name, 7) end)
       + (select count(*) from velo.permit p
          where p.fence is not null
            and case when g.name like '%/*' then starts_with(p.gate, left(g.name, -1)) else p.gate = g.name end) as inside,
       (select count(*)
        from (select from velo.queue q
              where g.name like 'queue/%' and q.gated_at is not null
                and q.lane >= substr(rtrim(g.name, '*'), 7)
                and case when g.name like '%/*' then starts_with(q.lane, substr(left(g.name, -1), 7))
                         else q.lane = substr(g.name, 7) end
              limit 1000) held)
       + (select count(*) from velo.permit p
          where p.fence is null
            and case when g.name like '%/*' then starts_with(p.gate, left(g.name, -1)) else p.gate = g.name end) as waiting
from velo.gate g
where g.name > $1
order by g.name
limit $2";

pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<GateInfo>, sqlx::Error> {
    sqlx::query_as(LIST)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const SET: &str = "\
-- velo: gate.set
insert into velo.gate (name, max_running, rate_count, rate_ms, burst, weight)
values ($1, $2, $3, $4, $5, coalesce($6, 1))
on conflict (name) do update
set max_running = excluded.max_running, rate_count = excluded.rate_count, rate_ms = excluded.rate_ms,
    burst = excluded.burst, weight = excluded.weight, changed_at = clock_timestamp()";

pub(crate) async fn set(
    pool: &PgPool,
    name: &str,
    allowance: &Allowance,
) -> Result<(), sqlx::Error> {
    let small = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let rate = allowance.rate;
    let milliseconds = |per: Duration| i64::try_from(per.as_millis()).unwrap_or(i64::MAX);
    sqlx::query(SET)
        .bind(name)
        .bind(allowance.max.map(small))
        .bind(rate.map(|rate| small(rate.count)))
        .bind(rate.map(|rate| milliseconds(rate.per)))
        .bind(rate.map(|rate| small(rate.burst)))
        .bind(allowance.weight.map(i32::from))
        .execute(pool)
        .await?;
    apply(pool, name).await
}

pub(crate) const REMOVE: &str = "\
-- velo: gate.remove
delete from velo.gate
where name = $1";

pub(crate) async fn remove(pool: &PgPool, name: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(REMOVE).bind(name).execute(pool).await?;
    apply(pool, name).await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const PAUSE: &str = "\
-- velo: gate.pause
insert into velo.gate (name, is_paused, note)
values ($1, true, $2)
on conflict (name) do update
set is_paused = true, note = excluded.note, changed_at = clock_timestamp()";

pub(crate) async fn pause(
    pool: &PgPool,
    name: &str,
    note: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(PAUSE)
        .bind(name)
        .bind(note)
        .execute(pool)
        .await?;
    apply(pool, name).await
}

// One that allows everything when it is resumed is none any more. Two statements, since one cannot update and
// delete the same row.
pub(crate) const RESUME: &str = "\
-- velo: gate.resume
update velo.gate
set is_paused = false, note = null, changed_at = clock_timestamp()
where name = $1
  and is_paused";

pub(crate) const FORGET: &str = "\
-- velo: gate.forget
delete from velo.gate
where name = $1
  and not is_paused
  and max_running is null
  and rate_count is null
  and weight = 1
  and not exists (select from velo.gate g
                  where g.name in (regexp_replace($1, '/[^/]*$', '/*'), split_part($1, '/', 1) || '/*'))";

pub(crate) async fn resume(pool: &PgPool, name: &str) -> Result<bool, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let done = sqlx::query(RESUME)
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(FORGET)
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    apply(pool, name).await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) const APPLY: &str = "\
-- velo: gate.apply
select velo.apply_gate($1)";

pub(crate) const TELL: &str = "\
-- velo: gate.tell
select pg_notify('velo_queue', 'gate')";

/// Puts a change into effect. After the change is committed: who counts under the lock of what it is about reads
/// it from then on.
async fn apply(pool: &PgPool, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(APPLY).bind(name).execute(pool).await?;
    sqlx::query(TELL).execute(pool).await?;
    Ok(())
}

pub(crate) const BALANCE: &str = "\
-- velo: gate.balance
select let_in
from velo.balance($1, true)";

/// Lets runs of a queue into the line; returns how many.
pub(crate) async fn balance(db: impl PgExecutor<'_>, queue: &str) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(BALANCE).bind(queue).fetch_one(db).await
}

/// What a look at all gates has done and found.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Tended {
    pub(crate) let_in: i32,
    pub(crate) next_in: Option<f64>,
    /// Where the next look is to go on.
    pub(crate) last_lane: Option<String>,
    pub(crate) names: Vec<String>,
}

pub(crate) const TEND: &str = "\
-- velo: gate.tend
select let_in, next_in, last_lane, names
from velo.tend_gates($1)";

pub(crate) async fn tend(db: impl PgExecutor<'_>, after: &str) -> Result<Tended, sqlx::Error> {
    sqlx::query_as(TEND).bind(after).fetch_one(db).await
}

/// Who asks for a permit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) lease: Lease,
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) node: &'a str,
    pub(crate) attempt: i32,
    /// Which of the attempt's calls for this gate it is, from one.
    pub(crate) call: i32,
}

/// What became of asking for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Nothing limits it.
    Free,
    Granted,
    /// Not now: the run is called when it can be had.
    Wait,
    /// The lease is gone.
    Lost,
}

pub(crate) const TAKE: &str = "\
-- velo: permit.take
select verdict
from velo.take_permit($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(crate) async fn take(
    db: impl PgExecutor<'_>,
    asking: Asking<'_>,
    gate: &str,
) -> Result<Permit, sqlx::Error> {
    let verdict: String = sqlx::query_scalar(TAKE)
        .bind(asking.lease.worker)
        .bind(asking.lease.run)
        .bind(asking.lease.fence)
        .bind(asking.seq)
        .bind(asking.task)
        .bind(asking.node)
        .bind(asking.attempt)
        .bind(asking.call)
        .bind(gate)
        .fetch_one(db)
        .await?;
    match verdict.as_str() {
        "free" => Ok(Permit::Free),
        "granted" => Ok(Permit::Granted),
        "wait" => Ok(Permit::Wait),
        "lost" => Ok(Permit::Lost),
        other => Err(sqlx::Error::Protocol(format!(
            "permit.take answered with {other}"
        ))),
    }
}

pub(crate) const RELEASE: &str = "\
-- velo: permit.release
select velo.release_permits($1, $2, $3, $4)";

/// Gives the permits of an attempt back; returns how many were called that wait for them.
pub(crate) async fn release(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    task: i32,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(RELEASE)
        .bind(lease.run)
        .bind(lease.fence)
        .bind(seq)
        .bind(task)
        .fetch_one(db)
        .await
}
