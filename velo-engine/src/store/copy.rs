//! Copying runs: with all their rows, without any value leaving the server.
//!
//! Each row is copied as it is but for what is named here, so that a column that comes later comes along.

use sqlx::{FromRow, PgConnection, PgExecutor};

use crate::run_id::RunId;

// A copy does not go on by itself: one that waits for answers or messages waits for its own, any other that has
// not ended is paused. Children stay those of the original, so a copy does not wait for them: the node that
// does starts its own.
pub(crate) const RUN: &str = "\
-- velo: copy.run
with source as (
  select r as row, r.id, r.thread, r.status, r.finished_at,
         r.finished_at is null
         and not (r.status = 'paused'
                  or (r.status = 'waiting' and q.worker is null and q.ready_at is null and q.wake_at is null
                      and not exists (select from velo.wait w
                                      where w.run_id = r.id and w.kind = 'child'
                                        and w.seq = (select max(s.seq) + 1 from velo.step s
                                                     where s.run_id = r.id))))
         as is_under_way
  from velo.run r
  left join velo.queue q on q.run_id = r.id and q.branch = 0
  where r.id = $1
), thread as (
  insert into velo.thread (name, run_id, is_live)
  select $4::text, $2::bigint, true from source where $4::text is not null and finished_at is null
  on conflict (name) do update
  set run_id = excluded.run_id, is_live = true, is_undone = false,
      before_run = case when velo.thread.is_undone then velo.thread.before_run else velo.thread.run_id end
  where not velo.thread.is_live
  returning name
), run as (
  insert into velo.run
  select c.*
  from source s
  cross join lateral jsonb_populate_record(s.row, jsonb_build_object(
    'id', $2::bigint, 'nonce', $3::bigint, 'thread', $4::text, 'parent', null, 'depth', 0, 'has_children', false,
    'origin_run', $1::bigint, 'origin_seq', (select max(n.seq) from velo.step n where n.run_id = $1))
    || case when s.is_under_way then jsonb_build_object('status', 'paused', 'error', $5::jsonb) else '{}' end) c
  where $4::text is null or s.finished_at is not null or exists (select from thread)
  returning id
), steps as (
  insert into velo.step
  select c.* from run, velo.step s
  cross join lateral jsonb_populate_record(s, jsonb_build_object('run_id', $2::bigint)) c
  where s.run_id = $1
), memos as (
  insert into velo.memo
  select c.* from run, velo.memo m
  cross join lateral jsonb_populate_record(m, jsonb_build_object('run_id', $2::bigint)) c
  where m.run_id = $1
), outcomes as (
  insert into velo.outcome
  select c.* from run, velo.outcome o
  cross join lateral jsonb_populate_record(o, jsonb_build_object('run_id', $2::bigint)) c
  where o.run_id = $1
), failures as (
  insert into velo.failure
  select c.* from run, velo.failure f
  cross join lateral jsonb_populate_record(f, jsonb_build_object('run_id', $2::bigint)) c
  where f.run_id = $1
), waits as (
  insert into velo.wait
  select c.* from run, velo.wait w
  cross join lateral jsonb_populate_record(w, jsonb_build_object('run_id', $2::bigint)) c
  where w.run_id = $1 and w.kind <> 'child'
), signals as (
  insert into velo.signal overriding system value
  select c.* from run, velo.signal i
  cross join lateral jsonb_populate_record(i, jsonb_build_object('run_id', $2::bigint)) c
  where i.run_id = $1
), updates as (
  -- Those that are not answered were asked of the original.
  insert into velo.run_update overriding system value
  select c.* from run, velo.run_update u
  cross join lateral jsonb_populate_record(u, jsonb_build_object('run_id', $2::bigint)) c
  where u.run_id = $1 and u.verdict is not null
), events as (
  insert into velo.event
  select c.* from run, velo.event e
  cross join lateral jsonb_populate_record(e, jsonb_build_object(
    'run_id', $2::bigint, 'stream', 'run/' || $2::bigint)) c
  where e.stream = 'run/' || $1::bigint
), streams as (
  insert into velo.stream
  select c.* from run, velo.stream t
  cross join lateral jsonb_populate_record(t, jsonb_build_object('name', 'run/' || $2::bigint)) c
  where t.name = 'run/' || $1::bigint
), queue as (
  insert into velo.queue
  select c.* from run, velo.queue q
  cross join lateral jsonb_populate_record(q, jsonb_build_object(
    'run_id', $2::bigint, 'worker', null, 'ready_at', null, 'wake_at', null, 'crashes', 0,
    'is_poked', false, 'is_cancelled', false)) c
  where q.run_id = $1 and q.branch = 0
)
select (select count(*) from source) = 1 as is_found, (select count(*) from run) = 1 as is_copied,
       null::integer as base";

/// Whether the source was there, and whether it was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(crate) struct Copied {
    pub(crate) is_found: bool,
    pub(crate) is_copied: bool,
    /// Which step of the source became the first one of a fork.
    pub(crate) base: Option<i32>,
}

/// What a copy is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCopy<'a> {
    pub(crate) source: RunId,
    pub(crate) id: RunId,
    pub(crate) nonce: i64,
    pub(crate) thread: Option<&'a str>,
}

/// Copies a run; not when the thread of the copy has a live run.
pub(crate) async fn run(
    db: impl PgExecutor<'_>,
    copy: NewCopy<'_>,
    paused: &serde_json::Value,
) -> Result<Copied, sqlx::Error> {
    sqlx::query_as(RUN)
        .bind(copy.source)
        .bind(copy.id)
        .bind(copy.nonce)
        .bind(copy.thread)
        .bind(paused)
        .fetch_one(db)
        .await
}

pub(crate) const THREAD_RUNS: &str = "\
-- velo: copy.thread_runs
select id
from velo.run
where thread = $1
order by id
limit $2";

/// The runs of a thread, oldest first.
pub(crate) async fn thread_runs(
    conn: &mut PgConnection,
    thread: &str,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(THREAD_RUNS)
        .bind(thread)
        .bind(limit)
        .fetch_all(conn)
        .await
}

// Of two that reserve a thread at once, and of one that starts a run in it, the second waits.
pub(crate) const RESERVE: &str = "\
-- velo: copy.reserve_thread
insert into velo.thread (name, run_id, is_live)
values ($1, $2, false)
on conflict (name) do update
set run_id = excluded.run_id, is_undone = false
where not velo.thread.is_live";

/// Takes a thread for the transaction; `false` when it has a live run.
pub(crate) async fn reserve(
    conn: &mut PgConnection,
    thread: &str,
    newest: RunId,
) -> Result<bool, sqlx::Error> {
    let reserved = sqlx::query(RESERVE)
        .bind(thread)
        .bind(newest)
        .execute(conn)
        .await?;
    Ok(reserved.rows_affected() == 1)
}

// The rows since the newest snapshot become the new run's first steps: they give the state after the step
// exactly, whatever its reducers are.
pub(crate) const FORK: &str = "\
-- velo: copy.fork
with source as (
  select r as row, r.graph || '@' || r.version as code, b.seq as base
  from velo.run r
  cross join lateral (select s.seq
                      from velo.step s
                      where s.run_id = r.id and s.seq <= $5 and s.snapshot is not null
                      order by s.seq desc
                      limit 1) b
  where r.id = $1
), thread as (
  insert into velo.thread (name, run_id, is_live)
  select $4::text, $2::bigint, true from source where $4::text is not null
  on conflict (name) do update
  set run_id = excluded.run_id, is_live = true, is_undone = false,
      before_run = case when velo.thread.is_undone then velo.thread.before_run else velo.thread.run_id end
  where not velo.thread.is_live
  returning name
), run as (
  insert into velo.run
  select c.*
  from source s
  cross join lateral jsonb_populate_record(s.row, jsonb_build_object(
    'id', $2::bigint, 'nonce', $3::bigint, 'thread', $4::text, 'parent', null, 'depth', 0, 'has_children', false,
    'status', 'active', 'error', null, 'created_at', clock_timestamp(), 'finished_at', null,
    'origin_run', $1::bigint, 'origin_seq', $5::integer)) c
  where $4::text is null or exists (select from thread)
  returning id
), steps as (
  insert into velo.step
  select c.*
  from run, source, velo.step s
  cross join lateral jsonb_populate_record(s, jsonb_build_object(
    'run_id', $2::bigint, 'seq', s.seq - source.base, 'at', clock_timestamp())
    || case when s.seq = source.base then jsonb_build_object('delta', '') else '{}' end) c
  where s.run_id = $1 and s.seq between source.base and $5
), queue as (
  insert into velo.queue (run_id, code, priority, fence, ready_at)
  select run.id, source.code, $6,
         (select max(s.fence) from velo.step s where s.run_id = $1 and s.seq <= $5), clock_timestamp()
  from run, source
)
select (select count(*) from source) = 1 as is_found, (select count(*) from run) = 1 as is_copied,
       (select base from source) as base";

/// Starts a run from the rows of another one's step.
pub(crate) async fn fork(
    db: impl PgExecutor<'_>,
    copy: NewCopy<'_>,
    seq: i32,
    priority: i16,
) -> Result<Copied, sqlx::Error> {
    sqlx::query_as(FORK)
        .bind(copy.source)
        .bind(copy.id)
        .bind(copy.nonce)
        .bind(copy.thread)
        .bind(seq)
        .bind(priority)
        .fetch_one(db)
        .await
}
