//! Deleting runs by the rules of retention: the rules, how far it is, and which runs nothing needs any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::failure::interval;
use crate::retention::{Kept, RetentionRule};
use crate::run_id::RunId;
use crate::store::run::RunStatus;

pub(crate) const RULES: &str = "\
-- velo: retention.rules
select graph, outcome, keep_ms, false as is_default
from velo.retention
order by graph, outcome
limit $1";

/// What operators have said.
pub(crate) async fn rules(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<RetentionRule>, sqlx::Error> {
    sqlx::query_as(RULES).bind(limit).fetch_all(db).await
}

// Whoever says something wants to see its effect: the next look is due at once.
pub(crate) const SET: &str = "\
-- velo: retention.set
with rule as (
  insert into velo.retention (graph, outcome, keep_ms)
  values ($1, $2, $3)
  on conflict (graph, outcome) do update
  set keep_ms = excluded.keep_ms, changed_at = clock_timestamp()
), due as (
  update velo.sweep
  set due_at = clock_timestamp()
  where due_at > clock_timestamp()
)
select pg_notify('velo_queue', 'retention')";

pub(crate) async fn set(
    db: impl PgExecutor<'_>,
    graph: &str,
    what: Kept,
    keep_ms: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(SET)
        .bind(graph)
        .bind(what)
        .bind(keep_ms)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const CLEAR: &str = "\
-- velo: retention.clear
delete from velo.retention
where graph = $1
  and outcome = $2";

pub(crate) async fn clear(
    db: impl PgExecutor<'_>,
    graph: &str,
    what: Kept,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(CLEAR)
        .bind(graph)
        .bind(what)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// How far deleting is.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct Sweep {
    pub(crate) after_run: RunId,
    pub(crate) due_at: DateTime<Utc>,
    pub(crate) passed_at: Option<DateTime<Utc>>,
    pub(crate) deleted: i64,
    /// The database's time.
    pub(crate) now: DateTime<Utc>,
}

// A process that freezes in the middle must not keep the others from deleting for ever.
pub(crate) const TAKE: &str = "\
-- velo: retention.take
select after_run, due_at, passed_at, deleted, clock_timestamp() as now,
       set_config('idle_in_transaction_session_timeout', '10000', true)
from velo.sweep
where due_at <= clock_timestamp()
for update skip locked";

/// Holds how far deleting is until the transaction ends; `None` when it is not due, or another process is at it.
pub(crate) async fn take(conn: &mut PgConnection) -> Result<Option<Sweep>, sqlx::Error> {
    sqlx::query_as(TAKE).fetch_optional(conn).await
}

pub(crate) const GET: &str = "\
-- velo: retention.get
select after_run, due_at, passed_at, deleted, clock_timestamp() as now
from velo.sweep";

pub(crate) async fn get(db: impl PgExecutor<'_>) -> Result<Option<Sweep>, sqlx::Error> {
    sqlx::query_as(GET).fetch_optional(db).await
}

/// Runs that one look goes through.
pub(crate) const PAGE: i64 = 2_000;

/// A run that a look goes through.
#[derive(Debug, FromRow)]
pub(crate) struct Seen {
    pub(crate) id: RunId,
    pub(crate) graph: String,
    pub(crate) status: RunStatus,
    pub(crate) has_error: bool,
    /// Milliseconds since it ended; `None` when it has not.
    pub(crate) ended_ms: Option<i64>,
}

// By id, which grows with time: what is old comes first, and what is too young is not looked at.
pub(crate) const SEEN: &str = "\
-- velo: retention.page
select r.id, r.graph, r.status, r.error is not null as has_error,
       (extract(epoch from clock_timestamp() - r.finished_at) * 1000)::bigint as ended_ms
from velo.run r
where r.id > $1
  and r.id <= $2
order by r.id
limit $3";

/// The runs after `after` and up to `until`, oldest first; at most [`PAGE`].
pub(crate) async fn page(
    db: impl PgExecutor<'_>,
    after: RunId,
    until: RunId,
) -> Result<Vec<Seen>, sqlx::Error> {
    sqlx::query_as(SEEN)
        .bind(after)
        .bind(until)
        .bind(PAGE)
        .fetch_all(db)
        .await
}

// What others hold is left for the next pass: so nobody waits for anybody here, whatever the order of the locks.
pub(crate) const HOLD: &str = "\
-- velo: retention.hold_runs
select id
from velo.run
where id = any($1)
  and finished_at is not null
order by id
for update skip locked";

/// Holds those of the runs that have ended and that nobody else holds.
pub(crate) async fn hold(
    conn: &mut PgConnection,
    runs: &[RunId],
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(HOLD).bind(runs).fetch_all(conn).await
}

// Who begins a run from a thread's state holds the thread, and so its newest run goes only under the same lock.
pub(crate) const HOLD_THREADS: &str = "\
-- velo: retention.hold_threads
select t.name
from velo.thread t
where t.name in (select r.thread from velo.run r where r.id = any($1))
order by t.name
for update skip locked";

/// Holds the threads of these runs that nobody else holds.
pub(crate) async fn hold_threads(
    conn: &mut PgConnection,
    runs: &[RunId],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(HOLD_THREADS)
        .bind(runs)
        .fetch_all(conn)
        .await
}

// A child stays as long as its parent: that, or a fork of it, may look at what it has left. An end that has not been told
// to all relatives is still to cancel children.
pub(crate) const FREE: &str = "\
-- velo: retention.free
select r.id, coalesce((select max(s.seq) from velo.step s where s.run_id = r.id), 0)::bigint as steps
from velo.run r
where r.id = any($1)
  and r.finished_at is not null
  and not exists (select from velo.queue q where q.run_id = r.id)
  and not exists (select from velo.run p where p.id = r.parent)
  and not exists (select from velo.ending e where e.run_id = r.id)
  and (not r.has_children
       or not exists (select from velo.child c
                      join velo.queue q on q.run_id = c.child
                      where c.run_id = r.id))
  and not exists (select from velo.input i where i.base_run = r.id)
  and not exists (select from velo.thread t
                  where t.name = r.thread
                    and (t.run_id = r.id or (t.before_run = r.id and (t.is_live or t.is_undone)))
                    and (t.is_live
                         or r.id <> all($2)
                         or t.name <> all($3)))
  and not velo.has_live_fork(r.id)
order by r.id";

/// Those of the runs that nothing needs any more, oldest first, with their last steps. The newest one of its thread
/// only if it is one of `last` and its thread one of `threads`.
pub(crate) async fn free(
    db: impl PgExecutor<'_>,
    runs: &[RunId],
    last: &[RunId],
    threads: &[String],
) -> Result<Vec<(RunId, i64)>, sqlx::Error> {
    sqlx::query_as(FREE)
        .bind(runs)
        .bind(last)
        .bind(threads)
        .fetch_all(db)
        .await
}

pub(crate) const THREADS: &str = "\
-- velo: retention.threads
select distinct thread
from velo.run
where id = any($1)
  and thread is not null";

/// The threads of these runs.
pub(crate) async fn threads(
    db: impl PgExecutor<'_>,
    runs: &[RunId],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(THREADS).bind(runs).fetch_all(db).await
}

pub(crate) const SAVE: &str = "\
-- velo: retention.save
update velo.sweep
set after_run = coalesce($1, 0),
    due_at = clock_timestamp() + $2,
    passed_at = case when $1::bigint is null then clock_timestamp() else passed_at end,
    deleted = deleted + $3";

/// Notes how far deleting is, and when it goes on; `after` is none when the pass is over.
pub(crate) async fn save(
    conn: &mut PgConnection,
    after: Option<RunId>,
    wait: Duration,
    deleted: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(SAVE)
        .bind(after)
        .bind(interval(wait))
        .bind(deleted)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const BULKS: &str = "\
-- velo: retention.bulks
delete from velo.bulk
where id in (select id
             from velo.bulk
             where finished_at < clock_timestamp() - $1::interval
             order by id
             limit $2
             for update skip locked)";

/// Forgets operations on many runs that ended longer ago than `age`.
pub(crate) async fn forget_bulks(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(BULKS)
        .bind(interval(age))
        .bind(limit)
        .execute(conn)
        .await?;
    Ok(())
}

// One whose tokens are all there again says the same as none.
pub(crate) const BUCKETS: &str = "\
-- velo: retention.buckets
delete from velo.bucket
where gate in (select gate
               from velo.bucket
               where empty_at < clock_timestamp() - $1::interval
               limit $2
               for update skip locked)";

/// Forgets rates that nobody has asked for since `age`.
pub(crate) async fn forget_buckets(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(BUCKETS)
        .bind(interval(age))
        .bind(limit)
        .execute(conn)
        .await?;
    Ok(())
}
