//! How far the nodes of a run are.

use sqlx::{FromRow, PgConnection};

use crate::run_id::RunId;

pub(crate) const CONTROLS: &str = "\
-- velo: progress.controls
select seq, velo.whole(control) as control
from velo.step
where run_id = $1
  and seq > $2
order by seq
limit $3";

/// What came next after a step.
#[derive(Debug, FromRow)]
pub(crate) struct StoredControl {
    pub(crate) seq: i32,
    pub(crate) control: Vec<u8>,
}

pub(crate) async fn controls(
    conn: &mut PgConnection,
    run: RunId,
    after: i32,
    limit: i64,
) -> Result<Vec<StoredControl>, sqlx::Error> {
    sqlx::query_as(CONTROLS)
        .bind(run)
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await
}

pub(crate) const TASKS: &str = "\
-- velo: progress.tasks
select 'done' as state, o.task
from velo.outcome o
where o.run_id = $1 and o.seq = $2
union all
select distinct 'waiting', w.task
from velo.wait w
where w.run_id = $1 and w.seq = $2 and not w.is_seen
  and w.answer is null
  and (w.due_at is null or w.due_at > clock_timestamp())
union all
select case when bool_or(f.retry_at is null) then 'failed' else 'retrying' end, f.task
from velo.failure f
where f.run_id = $1 and f.seq = $2 and not f.is_settled
group by f.task";

/// What is stored of a task of the step under way.
#[derive(Debug, FromRow)]
pub(crate) struct StoredTaskState {
    pub(crate) state: String,
    pub(crate) task: i32,
}

pub(crate) async fn tasks(
    conn: &mut PgConnection,
    run: RunId,
    seq: i32,
) -> Result<Vec<StoredTaskState>, sqlx::Error> {
    sqlx::query_as(TASKS)
        .bind(run)
        .bind(seq)
        .fetch_all(conn)
        .await
}
