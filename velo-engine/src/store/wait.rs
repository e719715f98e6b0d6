//! What runs wait for, and what comes for them.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::failure::interval;
use crate::lease::Lease;
use crate::run_id::RunId;
use crate::wait::{NewWait, WaitKind};

/// A wait, as a later attempt finds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredWait {
    pub(crate) task: i32,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) answer: Option<Value>,
    /// Whether its time has come.
    pub(crate) is_due: bool,
    /// Whether it is no longer waited for: its time has passed, or something else has won.
    pub(crate) is_closed: bool,
    /// Whether an attempt has seen that it has come.
    pub(crate) is_seen: bool,
}

/// A signal that no step has used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredSignal {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) payload: Value,
    /// The task for which it is kept.
    pub(crate) kept: Option<i32>,
}

pub(crate) const USE: &str = "\
-- velo: signal.use
update velo.signal
set used_seq = $3
where run_id = $1
  and id = any($2)
  and used_seq is null";

/// Marks signals as used by a step; `false` when one of them was used already.
pub(crate) async fn use_signals(
    conn: &mut PgConnection,
    run: RunId,
    ids: &[i64],
    seq: i32,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(USE)
        .bind(run)
        .bind(ids)
        .bind(seq)
        .execute(conn)
        .await?;
    Ok(usize::try_from(done.rows_affected()) == Ok(ids.len()))
}

// A wait that is there already keeps its time: it is asked for again by a later attempt.
pub(crate) const ADD: &str = "\
-- velo: wait.add
insert into velo.wait (run_id, seq, task, name, kind, node, question, schema, due_at, race)
values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, clock_timestamp() + $10), $11)
on conflict do nothing";

// What it had won against is waited for again, and may have come.
pub(crate) const REFUSE: &str = "\
-- velo: wait.refuse
with refused as (
  update velo.wait
  set answer = null, is_seen = false, refusal = $5
  where run_id = $1
    and seq = $2
    and task = $3
    and kind = 'ask'
    and name = $4
  returning race
), poked as (
  update velo.queue q
  set is_poked = true
  from refused r
  where q.run_id = $1 and q.branch = 0 and r.race is not null
)
update velo.wait w
set is_closed = false
from refused r
where w.run_id = $1
  and w.seq = $2
  and w.task = $3
  and w.race = r.race
  and w.name <> $4";

pub(crate) const SEEN: &str = "\
-- velo: wait.seen
update velo.wait
set is_seen = true
where run_id = $1
  and seq = $2
  and task = $3
  and name = any($4)
  and not is_seen";

/// Notes what a task waits for, and what of it has `come` and was seen by its attempt: not what came
/// while that was under way.
pub(crate) async fn add(
    conn: &mut PgConnection,
    lease: Lease,
    seq: i32,
    task: i32,
    node: &str,
    waits: &[NewWait],
    come: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(SEEN)
        .bind(lease.run)
        .bind(seq)
        .bind(task)
        .bind(come)
        .execute(&mut *conn)
        .await?;
    for wait in waits {
        add_one(&mut *conn, lease, seq, task, node, wait).await?;
    }
    Ok(())
}

async fn add_one(
    conn: &mut PgConnection,
    lease: Lease,
    seq: i32,
    task: i32,
    node: &str,
    wait: &NewWait,
) -> Result<(), sqlx::Error> {
    if wait.kind == WaitKind::Permit {
        return Ok(());
    }
    if let Some(refusal) = &wait.refusal {
        sqlx::query(REFUSE)
            .bind(lease.run)
            .bind(seq)
            .bind(task)
            .bind(&wait.name)
            .bind(refusal)
            .execute(conn)
            .await?;
        return Ok(());
    }
    let kind = match wait.kind {
        WaitKind::Ask { .. } => "ask",
        WaitKind::Sleep { .. } => "sleep",
        WaitKind::Signal => "signal",
        WaitKind::Child => "child",
        WaitKind::Permit => "permit",
    };
    let (question, schema) = match &wait.kind {
        WaitKind::Ask {
            question, schema, ..
        } => (Some(Json(question)), schema.as_ref().map(Json)),
        _ => (None, None),
    };
    sqlx::query(ADD)
        .bind(lease.run)
        .bind(seq)
        .bind(task)
        .bind(&wait.name)
        .bind(kind)
        .bind(node)
        .bind(question)
        .bind(schema)
        .bind(wait.kind.due_at())
        .bind(wait.kind.due_in().map(interval))
        .bind(&wait.race)
        .execute(conn)
        .await?;
    Ok(())
}

// The run's earliest time is read from the rows, in the transaction that wrote them: they keep the
// times that earlier attempts were given. What came meanwhile has the run looked at again at once.
pub(crate) const PARK: &str = "\
-- velo: queue.park
with times as (
  select least((select min(due_at)
                from velo.wait
                where run_id = $1 and seq = $4 and answer is null and not is_seen and not is_closed),
               (select min(due_at)
                from velo.permit
                where run_id = $1 and seq = $4 and fence is null)) as due_at
), parked as (
  update velo.queue q
  set worker = null,
      is_poked = false,
      ready_at = case when q.is_poked or q.is_cancelled or q.halt is not null then clock_timestamp() end,
      wake_at = case when not (q.is_poked or q.is_cancelled or q.halt is not null)
                     then least(t.due_at, clock_timestamp() + $5) end
  from times t
  where q.run_id = $1 and q.branch = 0 and q.worker = $2 and q.fence = $3
  returning q.run_id, q.ready_at, q.wake_at, q.gated_at
), told as (
  update velo.run r
  set status = 'waiting'
  from parked p
  where r.id = p.run_id and p.ready_at is null and p.wake_at is null and p.gated_at is null
)
select count(*) from parked";

/// Gives the lease back until something comes for the run, a time of its waits has come, or `again_in`
/// has passed.
pub(crate) async fn park(
    conn: &mut PgConnection,
    lease: Lease,
    seq: i32,
    again_in: Option<std::time::Duration>,
) -> Result<(), sqlx::Error> {
    sqlx::query(PARK)
        .bind(lease.run)
        .bind(lease.worker)
        .bind(lease.fence)
        .bind(seq)
        .bind(again_in.map(interval))
        .execute(conn)
        .await?;
    Ok(())
}

// A signal that is sent again pokes the run again, which does no harm.
pub(crate) const SEND: &str = concat!(
    "\
-- velo: signal.send
",
    lock_run!(),
    ", sent as (
  insert into velo.signal (run_id, name, payload, key)
  select run_id, $2, $3, $4
  from locked
  on conflict (run_id, key) do nothing
), poked as (
  update velo.queue q
",
    poke!(),
    "\
  from locked l, run
  where q.run_id = l.run_id and q.branch = 0
), told as (
  update velo.run r
  set status = 'active'
  from run
  where r.id = run.id and run.status = 'waiting'
)
select count(*) from locked"
);

/// Sends a signal; `false` when the run has ended or never was.
pub(crate) async fn send(
    db: impl PgExecutor<'_>,
    run: RunId,
    name: &str,
    payload: &Value,
    key: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(SEND)
        .bind(run)
        .bind(name)
        .bind(Json(payload))
        .bind(key)
        .fetch_one(db)
        .await?;
    Ok(found == 1)
}
