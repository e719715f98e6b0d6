//! Runs that are paused on purpose.

use sqlx::PgExecutor;

use crate::breakpoint;
use crate::run_id::RunId;

pub(crate) const HALTED: &str = "\
-- velo: run.halted
with recursive family as (
  select $1::bigint as id, 0 as depth
  union all
  select c.child, f.depth + 1
  from family f
  join velo.child c on c.run_id = f.id and c.is_awaited
  join velo.queue q on q.run_id = c.child and q.branch = 0
  where f.depth < $2
)
select r.id
from family f
join velo.run r on r.id = f.id
where r.status = 'paused'
  and r.error ->> 'kind' = $3
order by f.depth, r.id";

/// Those of a run and the runs that it waits for that are paused at a breakpoint.
pub(crate) async fn halted(db: impl PgExecutor<'_>, run: RunId) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(HALTED)
        .bind(run)
        .bind(super::child::DEPTH_MAX)
        .bind(breakpoint::KIND)
        .fetch_all(db)
        .await
}
