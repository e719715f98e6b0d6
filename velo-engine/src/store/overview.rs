//! How all runs stand, counted.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};

use crate::overview::GraphLoad;

/// Most runs that one look counts.
pub(crate) const COUNTED_MAX: i64 = 20_000;
/// Most graphs that one look lists.
const GRAPHS_MAX: i64 = 200;

// A run that waits for several things is counted under the one that needs somebody.
pub(crate) const GRAPHS: &str = "\
-- velo: overview.graphs
with live as (
  select r.id, r.status, r.graph || '@' || r.version as code, q.ready_at, q.wake_at, q.worker
  from (select * from velo.run where finished_at is null order by id desc limit $1) r
  left join velo.queue q on q.run_id = r.id and q.branch = 0
), placed as (
  select l.*,
         case when l.status = 'paused' then 'paused'
              when l.worker is not null then 'running'
              when l.ready_at is not null then 'ready'
              else coalesce((select case when bool_or(w.kind = 'ask') then 'question'
                                         when bool_or(w.kind = 'signal') then 'message'
                                         when bool_or(w.kind = 'child') then 'child'
                                         else 'time' end
                             from velo.wait w
                             where w.run_id = l.id and w.answer is null
                               and w.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = l.id)
                             having count(*) > 0), 'time') end as place
  from live l
)
select code as graph,
       count(*) filter (where place = 'ready') as ready,
       coalesce(extract(epoch from clock_timestamp() - min(ready_at)), 0)::float8 as oldest_ready_seconds,
       count(*) filter (where place = 'running') as running,
       count(*) filter (where place = 'time') as for_time,
       count(*) filter (where place = 'question') as for_answer,
       count(*) filter (where place = 'message') as for_message,
       count(*) filter (where place = 'child') as for_child,
       count(*) filter (where place = 'paused') as paused
from placed
group by code
order by code
limit $2";

/// How the newest unfinished runs stand, by graph.
pub(crate) async fn graphs(db: impl PgExecutor<'_>) -> Result<Vec<GraphLoad>, sqlx::Error> {
    sqlx::query_as(GRAPHS)
        .bind(COUNTED_MAX)
        .bind(GRAPHS_MAX)
        .fetch_all(db)
        .await
}

/// Most ready runs of a code that one look counts.
const READY_MAX: i64 = 10_000;

pub(crate) const READY: &str = "\
-- velo: overview.ready
select wanted.code,
       (select count(*)
        from (select
              from velo.queue q
              where q.code = wanted.code and q.ready_at is not null
              limit $2) counted)::integer
from unnest($1::text[]) as wanted (code)";

/// How many runs of each code are ready.
pub(crate) async fn ready(
    db: impl PgExecutor<'_>,
    codes: &[String],
) -> Result<Vec<(String, i32)>, sqlx::Error> {
    sqlx::query_as(READY)
        .bind(codes)
        .bind(READY_MAX)
        .fetch_all(db)
        .await
}

// What the server counts by itself: reading no table, however long it is.
pub(crate) const COUNTERS: &str = "\
-- velo: overview.counters
select clock_timestamp() as at,
       coalesce(sum(n_tup_ins) filter (where relname = 'step' or relname like 'step\\_%'), 0)::bigint as steps,
       coalesce(sum(n_tup_ins) filter (where relname = 'failure' or relname like 'failure\\_%'), 0)::bigint as failures,
       coalesce(sum(n_tup_ins) filter (where relname = 'run' or relname like 'run\\_%'), 0)::bigint as runs
from pg_stat_user_tables
where schemaname = 'velo'";

/// Rows that were ever written, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(crate) struct Counters {
    pub(crate) at: DateTime<Utc>,
    pub(crate) steps: i64,
    pub(crate) failures: i64,
    pub(crate) runs: i64,
}

pub(crate) async fn counters(db: impl PgExecutor<'_>) -> Result<Counters, sqlx::Error> {
    sqlx::query_as(COUNTERS).fetch_one(db).await
}
