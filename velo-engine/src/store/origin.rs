//! Steps of the past, and runs that were forked from them.

use sqlx::{FromRow, PgExecutor};

use super::load::StoredStep;
use crate::fork::Origin;
use crate::run_id::RunId;

// Only the asked step's control counts, so the others' is left in the server.
pub(crate) const STEPS_AT: &str = "\
-- velo: run.load_steps_at
select seq, velo.whole(delta) as delta, case when seq = $2 then velo.whole(control) end as control,
       velo.whole(snapshot) as snapshot
from velo.step
where run_id = $1
  and seq <= $2
  and seq >= (select seq
              from velo.step
              where run_id = $1 and seq <= $2 and snapshot is not null
              order by seq desc
              limit 1)
order by seq";

/// The steps from the newest snapshot before step `seq` to that step; those that there are.
pub(crate) async fn steps_at(
    db: impl PgExecutor<'_>,
    run: RunId,
    seq: i32,
) -> Result<Vec<StoredStep>, sqlx::Error> {
    sqlx::query_as(STEPS_AT)
        .bind(run)
        .bind(seq)
        .fetch_all(db)
        .await
}

/// Most ancestors that one call returns.
const LINEAGE_MAX: i32 = 1_000;

pub(crate) const LINEAGE: &str = "\
-- velo: run.lineage
with recursive line as (
  select origin_run, origin_seq, 1 as depth
  from velo.run
  where id = $1 and origin_run is not null
  union all
  select r.origin_run, r.origin_seq, l.depth + 1
  from line l
  join velo.run r on r.id = l.origin_run
  where r.origin_run is not null and l.depth < $2
)
select origin_run, origin_seq
from line
order by depth";

pub(crate) const FORKS: &str = "\
-- velo: run.forks
select id
from velo.run
where origin_run = $1
order by id
limit $2";

#[derive(FromRow)]
struct Ancestor {
    origin_run: RunId,
    origin_seq: i32,
}

/// Where the run comes from, nearest first.
pub(crate) async fn lineage(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Vec<Origin>, sqlx::Error> {
    let line: Vec<Ancestor> = sqlx::query_as(LINEAGE)
        .bind(run)
        .bind(LINEAGE_MAX)
        .fetch_all(db)
        .await?;
    let origin = |row: Ancestor| Origin {
        run: row.origin_run,
        seq: row.origin_seq,
    };
    Ok(line.into_iter().map(origin).collect())
}

/// The runs that were forked from the run, oldest first.
pub(crate) async fn forks(
    db: impl PgExecutor<'_>,
    run: RunId,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(FORKS)
        .bind(run)
        .bind(limit)
        .fetch_all(db)
        .await
}
