//! What is known of a run that is not running.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};

use super::run::RunStatus;
use crate::run_id::RunId;
use crate::why::{AwaitedChild, HeldUp};

/// All that the reason is decided by, read at one moment.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Facts {
    pub(crate) status: RunStatus,
    pub(crate) code: Option<String>,
    /// What the worker lacked that had the run last.
    pub(crate) lacks: Option<String>,
    pub(crate) error: Option<Value>,
    pub(crate) is_queued: bool,
    pub(crate) ready_at: Option<DateTime<Utc>>,
    pub(crate) wake_at: Option<DateTime<Utc>>,
    pub(crate) worker: Option<i32>,
    pub(crate) worker_name: Option<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) is_expired: Option<bool>,
    pub(crate) is_cancelled: bool,
    /// Live workers that have the code.
    pub(crate) capable: i64,
    /// Runs before it.
    pub(crate) ahead: i64,
    pub(crate) questions: Vec<String>,
    pub(crate) signals: Vec<String>,
    pub(crate) children: Json<Vec<AwaitedChild>>,
    /// The newest failed attempt of the step under way.
    pub(crate) failed_error: Option<Value>,
    pub(crate) failed_attempt: Option<i32>,
    /// Whether it waits for its turn on its thread.
    pub(crate) is_held: bool,
    /// What is to happen at its next step boundary.
    pub(crate) halt: Option<String>,
    pub(crate) thread: Option<String>,
    /// The live run of its thread, if it is in line there.
    pub(crate) behind: Option<RunId>,
    /// Runs before it in that line.
    pub(crate) before: i64,
    /// The queue that holds it back.
    pub(crate) held: Option<Json<Held>>,
    /// The gate of its graph that is paused, and why.
    pub(crate) graph_gate: Option<String>,
    pub(crate) graph_note: Option<String>,
    pub(crate) permits: Json<Vec<HeldUp>>,
}

/// What is known of a queue that holds a run back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Held {
    pub(crate) queue: String,
    pub(crate) since: DateTime<Utc>,
    pub(crate) is_paused: bool,
    pub(crate) note: Option<String>,
    pub(crate) max: Option<i64>,
    pub(crate) inside: i64,
    /// When its rate lets the next run begin, if this one has not begun and that is in the future.
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) ahead: i64,
}

/// Runs ahead are counted no further than this.
const AHEAD_MAX: i64 = 1_000;

pub(crate) const FACTS: &str = "\
-- velo: run.why
with step as (
  select coalesce(max(seq), 0) + 1 as seq
  from velo.step
  where run_id = $1
), failed as (
  select f.task, f.attempt, f.error
  from velo.failure f, step
  where f.run_id = $1 and f.seq = step.seq and not f.is_settled
  order by f.at desc
  limit 1
)
select r.status, q.code, q.lacks, r.error,
       q.run_id is not null as is_queued,
       q.ready_at, q.wake_at, q.worker,
       coalesce(q.is_cancelled, false) as is_cancelled,
       w.name as worker_name, w.expires_at,
       w.expires_at < clock_timestamp() as is_expired,
       (select count(*) from velo.worker c
        where q.code = any(c.codes) and c.expires_at >= clock_timestamp()) as capable,
       (select count(*)
        from (select from velo.queue a
              where q.ready_at is not null and a.ready_at is not null and a.code = q.code
                and (a.ready_at - timestamptz '2000-01-01 00:00:00+00') + a.priority * interval '1 minute'
                    < (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
              limit $2) ahead) as ahead,
       array(select v.name from velo.wait v, step
             where v.run_id = $1 and v.seq = step.seq and v.kind = 'ask' and v.answer is null and not v.is_closed
             order by v.name) as questions,
       array(select v.name from velo.wait v, step
             where v.run_id = $1 and v.seq = step.seq and v.kind = 'signal' and not v.is_closed
             order by v.name) as signals,
       (select coalesce(jsonb_agg(jsonb_build_object(
                 'run', c.child::text, 'name', c.name, 'status', k.status,
                 'graph', k.graph || '@' || k.version) order by c.task, c.name), '[]')
        from step
        join velo.wait v on v.run_id = $1 and v.seq = step.seq and v.kind = 'child' and not v.is_seen
        join velo.child c on c.run_id = v.run_id and c.seq = v.seq and c.task = v.task and c.name = v.name
        join velo.run k on k.id = c.child
        where not exists (select from velo.outcome o
                          where o.run_id = v.run_id and o.seq = v.seq and o.task = v.task)) as children,
       (select error from failed) as failed_error,
       (select attempt from failed) as failed_attempt,
       coalesce(q.is_held, false) as is_held, q.halt, r.thread,
       (select t.run_id from velo.thread t
        where q.is_held and t.name = r.thread and t.is_live) as behind,
       (select count(*)
        from (select from velo.input own
              join velo.input i on i.thread = own.thread and not i.is_turn and i.place < own.place
              where q.is_held and own.run_id = r.id
              limit $2) before) as before,
       (select jsonb_build_object(
                 'queue', q.lane, 'since', q.gated_at, 'is_paused', coalesce(g.is_paused, false), 'note', g.note,
                 'max', g.max_running,
                 'inside', (select count(*) from velo.queue i
                            where i.lane = q.lane and (i.ready_at is not null or i.worker is not null)),
                 'until', (select t.at
                           from (select b.empty_at + (1 - g.burst) * interval '1 millisecond'
                                        * (g.rate_ms::float8 / g.rate_count) as at
                                 from velo.bucket b where b.gate = 'queue/' || q.lane) t
                           where q.fence = 0 and t.at > clock_timestamp()),
                 'ahead', (select count(*)
                           from (select from velo.queue a
                                 where a.lane = q.lane and a.gated_at is not null
                                   and least(a.fence, 1) <= least(q.fence, 1)
                                   and (a.gated_at - timestamptz '2000-01-01 00:00:00+00')
                                       + a.priority * interval '1 minute'
                                       < (q.gated_at - timestamptz '2000-01-01 00:00:00+00')
                                         + q.priority * interval '1 minute'
                                 limit $2) ahead))
        from velo.gate_of('queue/' || q.lane) g
        where q.gated_at is not null) as held,
       paused.name as graph_gate, paused.note as graph_note,
       (select coalesce(jsonb_agg(jsonb_build_object(
                 'gate', p.gate, 'node', p.node, 'since', p.asked_at, 'until', p.due_at,
                 'is_paused', coalesce(g.is_paused, false), 'note', g.note, 'max', g.max_running,
                 'inside', (select count(*) from velo.permit i where i.gate = p.gate and i.fence is not null))
                 order by p.asked_at), '[]')
        from step
        join velo.permit p on p.run_id = $1 and p.seq = step.seq and p.fence is null
        cross join lateral velo.gate_of(p.gate) g) as permits
from velo.run r
left join velo.queue q on q.run_id = r.id and q.branch = 0
left join velo.worker w on w.id = q.worker
left join lateral (select g.name, g.note
                   from velo.gate g
                   where g.is_paused
                     and g.name in ('graph/' || r.graph || '@' || r.version, 'graph/' || r.graph)
                   limit 1) paused on true
where r.id = $1";

pub(crate) async fn facts(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Option<Facts>, sqlx::Error> {
    sqlx::query_as(FACTS)
        .bind(run)
        .bind(AHEAD_MAX)
        .fetch_optional(db)
        .await
}

pub(crate) const WORKERS: &str = "\
-- velo: worker.list
select w.id, w.name, w.host, w.pid, w.started_at, w.expires_at, w.codes,
       w.expires_at < clock_timestamp() as is_expired, w.is_draining,
       (select count(*) from velo.queue q where q.worker = w.id) as runs
from velo.worker w
order by w.id
limit $1";

/// A worker, as others see it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, FromRow)]
pub struct WorkerInfo {
    /// Its incarnation.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Until when its leases last without another heartbeat.
    pub expires_at: DateTime<Utc>,
    /// Graphs that it has, such as `report@1`.
    pub codes: Vec<String>,
    /// Whether its heartbeat has stopped.
    pub is_expired: bool,
    /// Whether somebody has asked it to stop.
    pub is_draining: bool,
    /// Runs that it has at this moment.
    pub runs: i64,
}

pub(crate) async fn workers(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<WorkerInfo>, sqlx::Error> {
    sqlx::query_as(WORKERS).bind(limit).fetch_all(db).await
}
