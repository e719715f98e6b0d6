//! All rows of one run, out of the database and into it.

use serde_json::Value;
use sqlx::PgExecutor;
use sqlx::types::Json;

use crate::run_id::RunId;

// One statement, and so one moment.
pub(crate) const READ: &str = "\
-- velo: export.read
select jsonb_build_object(
  'run', to_jsonb(r) - 'nonce' - 'origin_run' - 'origin_seq',
  'steps', coalesce((select jsonb_agg(to_jsonb(s) - 'run_id' || jsonb_build_object(
                       'delta', velo.whole(s.delta), 'control', velo.whole(s.control),
                       'snapshot', velo.whole(s.snapshot)) order by s.seq)
                     from velo.step s where s.run_id = r.id), '[]'),
  'memos', coalesce((select jsonb_agg(to_jsonb(m) - 'run_id' || jsonb_build_object('value', velo.whole(m.value)))
                     from velo.memo m where m.run_id = r.id), '[]'),
  'outcomes', coalesce((select jsonb_agg(to_jsonb(o) - 'run_id' || jsonb_build_object('outcome', velo.whole(o.outcome)))
                        from velo.outcome o where o.run_id = r.id), '[]'),
  'waits', coalesce((select jsonb_agg(to_jsonb(w) - 'run_id' || jsonb_build_object('is_answered', w.answer is not null))
                     from velo.wait w where w.run_id = r.id), '[]'),
  'signals', coalesce((select jsonb_agg(to_jsonb(i) - 'run_id' order by i.id)
                       from velo.signal i where i.run_id = r.id), '[]'),
  'updates', coalesce((select jsonb_agg(to_jsonb(u) - 'run_id' order by u.number)
                       from velo.run_update u where u.run_id = r.id), '[]'),
  'failures', coalesce((select jsonb_agg(to_jsonb(f) - 'run_id')
                        from velo.failure f where f.run_id = r.id), '[]'),
  'events', coalesce((select jsonb_agg(to_jsonb(e) - 'run_id' - 'stream' order by e.seq)
                      from velo.event e where e.stream = 'run/' || r.id), '[]'))
from velo.run r
where r.id = $1";

pub(crate) async fn read(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Option<Value>, sqlx::Error> {
    sqlx::query_scalar(READ).bind(run).fetch_optional(db).await
}

// A value of null and none at all look alike in a document: where it matters, they are told apart.
//
// A thread that is live gives no row, and then nothing is inserted at all. The run's place in the queue
// is one that nobody claims: it is paused. Its fence goes on from the greatest that committed a step.
pub(crate) const WRITE: &str = "\
-- velo: export.write
with given as (
  select g.*
  from jsonb_populate_record(null::velo.run, $2::jsonb -> 'run') g
), thread as (
  insert into velo.thread (name, run_id, is_live)
  select thread, $1::bigint, true from given where thread is not null and finished_at is null
  on conflict (name) do update
  set run_id = excluded.run_id, is_live = true, is_undone = false,
      before_run = case when velo.thread.is_undone then velo.thread.before_run else velo.thread.run_id end
  where not velo.thread.is_live
  returning name
), run as (
  insert into velo.run (id, nonce, graph, version, fingerprint, thread, status, error, created_at, finished_at)
  select $1::bigint, nonce, graph, version, fingerprint, thread, status, nullif(error, 'null'), created_at, finished_at
  from given
  where thread is null or finished_at is not null or exists (select from thread)
  returning id, graph, version, finished_at
), steps as (
  insert into velo.step (run_id, seq, fence, delta, control, snapshot, at)
  select run.id, s.seq, s.fence, s.delta, s.control, s.snapshot, s.at
  from run, jsonb_populate_recordset(null::velo.step, $2::jsonb -> 'steps') s
), memos as (
  insert into velo.memo (run_id, seq, task, name, value)
  select run.id, m.seq, m.task, m.name, m.value
  from run, jsonb_populate_recordset(null::velo.memo, $2::jsonb -> 'memos') m
), outcomes as (
  insert into velo.outcome (run_id, seq, task, fence, outcome)
  select run.id, o.seq, o.task, o.fence, o.outcome
  from run, jsonb_populate_recordset(null::velo.outcome, $2::jsonb -> 'outcomes') o
), waits as (
  insert into velo.wait (run_id, seq, task, name, kind, node, question, schema, asked_at, due_at, answer, refusal, is_seen,
                         is_closed, race)
  select run.id, w.seq, w.task, w.name, w.kind, w.node,
         case when w.kind = 'ask' then coalesce(w.question, 'null') end, w.schema, w.asked_at, w.due_at,
         case when (row ->> 'is_answered')::boolean then coalesce(w.answer, 'null') end, w.refusal, w.is_seen,
         coalesce(w.is_closed, false), w.race
  from run, jsonb_array_elements($2::jsonb -> 'waits') row, jsonb_populate_record(null::velo.wait, row) w
  -- Children are not exported: the node starts its own.
  where w.kind <> 'child'
), signals as (
  insert into velo.signal (run_id, name, payload, key, sent_at, used_seq, kept_seq, kept_task)
  select run.id, i.name, coalesce(i.payload, 'null'), i.key, i.sent_at, i.used_seq, i.kept_seq, i.kept_task
  from run, jsonb_populate_recordset(null::velo.signal, $2::jsonb -> 'signals') i
  order by i.id
), updates as (
  insert into velo.run_update (run_id, key, name, request, asked_at, verdict, answer, writes, seq, answered_at, used_seq)
  select run.id, u.key, u.name, coalesce(u.request, 'null'), u.asked_at, u.verdict,
         case when u.verdict is not null then coalesce(u.answer, 'null') end, u.writes, u.seq, u.answered_at, u.used_seq
  from run, jsonb_populate_recordset(null::velo.run_update, $2::jsonb -> 'updates') u
  order by u.number
), failures as (
  insert into velo.failure (run_id, seq, task, attempt, fence, error, retry_at, is_settled, at)
  select run.id, f.seq, f.task, f.attempt, f.fence, f.error, f.retry_at, f.is_settled, f.at
  from run, jsonb_populate_recordset(null::velo.failure, $2::jsonb -> 'failures') f
), events as (
  insert into velo.event (stream, seq, kind, body, run_id, at)
  select 'run/' || run.id, e.seq, e.kind, coalesce(e.body, 'null'), run.id, e.at
  from run, jsonb_populate_recordset(null::velo.event, $2::jsonb -> 'events') e
), stream as (
  insert into velo.stream (name, last_seq)
  select 'run/' || run.id, max(e.seq)
  from run, jsonb_populate_recordset(null::velo.event, $2::jsonb -> 'events') e
  group by run.id
), queue as (
  insert into velo.queue (run_id, code, fence)
  select run.id, run.graph || '@' || run.version,
         (select max(s.fence) from jsonb_populate_recordset(null::velo.step, $2::jsonb -> 'steps') s)
  from run
  where run.finished_at is null
)
select count(*) from run";

/// Inserts the run; `false` when its thread has a live run.
pub(crate) async fn write(
    db: impl PgExecutor<'_>,
    id: RunId,
    document: &Value,
) -> Result<bool, sqlx::Error> {
    let written: i64 = sqlx::query_scalar(WRITE)
        .bind(id)
        .bind(Json(document))
        .fetch_one(db)
        .await?;
    Ok(written == 1)
}
