//! Runs that were started by nodes of other runs.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor};

use super::run::RunStatus;
use super::start::NewRun;
use crate::lease::Lease;
use crate::run_id::RunId;

/// What becomes of a child run when its parent ends before it, however that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum OnClose {
    /// It is cancelled.
    Cancel,
    /// It goes on.
    Abandon,
}

/// A run that was started by a node of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct ChildRun {
    /// The run.
    pub run: RunId,
    /// The run whose node started it.
    pub parent: RunId,
    /// The step of the parent in which that was.
    pub seq: i32,
    /// The task of that step.
    pub task: i32,
    /// The node.
    pub node: String,
    /// The name that the node gave it, unique in its task.
    pub name: String,
    /// Its graph.
    pub graph: String,
    /// How far it is.
    pub status: RunStatus,
    /// Whether its parent waits for its end.
    pub is_awaited: bool,
    /// What becomes of it when its parent ends before it.
    pub on_close: OnClose,
}

/// Most runs above a run. The function that starts children has the same number.
pub(crate) const DEPTH_MAX: i32 = 32;

/// The SQLSTATE of a start that would be deeper.
pub(crate) const TOO_DEEP: &str = "VL002";

/// Where a child is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) lease: Lease,
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) name: &'a str,
    pub(crate) node: &'a str,
}

pub(crate) const START: &str = "\
-- velo: child.start
select velo.start_child($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// Starts it, once for each spot; returns the one that was started there, or `None` when the lease is
/// gone.
pub(crate) async fn start(
    db: impl PgExecutor<'_>,
    spot: Spot<'_>,
    is_awaited: bool,
    on_close: OnClose,
    new: &NewRun<'_>,
) -> Result<Option<RunId>, sqlx::Error> {
    sqlx::query_scalar(START)
        .bind(spot.lease.worker)
        .bind(spot.lease.run)
        .bind(spot.lease.fence)
        .bind(spot.seq)
        .bind(spot.task)
        .bind(spot.name)
        .bind(spot.node)
        .bind(is_awaited)
        .bind(on_close)
        .bind(new.id)
        .bind(new.nonce)
        .bind(new.graph)
        .bind(new.version)
        .bind(new.fingerprint)
        .bind(new.control)
        .bind(new.state)
        .bind(new.code)
        .fetch_one(db)
        .await
}

pub(crate) const AT: &str = "\
-- velo: child.at
select c.child, r.status
from velo.child c
join velo.run r on r.id = c.child
where c.run_id = $1
  and c.seq = $2
  and c.task = $3
  and c.name = $4";

/// The child that was started at a spot, and how it stands.
pub(crate) async fn at(
    db: impl PgExecutor<'_>,
    spot: Spot<'_>,
) -> Result<Option<(RunId, RunStatus)>, sqlx::Error> {
    sqlx::query_as(AT)
        .bind(spot.lease.run)
        .bind(spot.seq)
        .bind(spot.task)
        .bind(spot.name)
        .fetch_optional(db)
        .await
}

// A fork goes on from a step of another run: what that run's children had left by then is its past too.
pub(crate) const LAST: &str = "\
-- velo: child.last
with recursive line (run_id, before_seq, depth) as (
  select $1::bigint, $2::integer, 0
  union all
  select r.origin_run, r.origin_seq + 1, l.depth + 1
  from line l
  join velo.run r on r.id = l.run_id
  where r.origin_run is not null
    and l.depth < 1000
)
select c.child
from line l
join velo.child c on c.run_id = l.run_id
join velo.run r on r.id = c.child
where c.seq < l.before_seq
  and c.name = $3
  and c.node = $4
  and r.status = 'completed'
order by l.depth, c.seq desc, c.task desc
limit 1";

/// The newest child of this name that a node has started in an earlier step, of this run or of one that it
/// was forked from, and that has completed.
pub(crate) async fn last(
    db: impl PgExecutor<'_>,
    spot: Spot<'_>,
) -> Result<Option<RunId>, sqlx::Error> {
    sqlx::query_scalar(LAST)
        .bind(spot.lease.run)
        .bind(spot.seq)
        .bind(spot.name)
        .bind(spot.node)
        .fetch_optional(db)
        .await
}

pub(crate) const OF: &str = "\
-- velo: child.of
select c.child as run, c.run_id as parent, c.seq, c.task, c.node, c.name,
       r.graph || '@' || r.version as graph, r.status, c.is_awaited, c.on_close
from velo.child c
join velo.run r on r.id = c.child
where c.run_id = $1
order by c.seq, c.task, c.name
limit $2";

/// The children of a run, in the order of the steps that started them.
pub(crate) async fn of(
    db: impl PgExecutor<'_>,
    run: RunId,
    limit: i64,
) -> Result<Vec<ChildRun>, sqlx::Error> {
    sqlx::query_as(OF).bind(run).bind(limit).fetch_all(db).await
}

pub(crate) const PATH: &str = "\
-- velo: child.path
with recursive above as (
  select c.*, 1 as height
  from velo.child c
  where c.child = $1
  union all
  select c.*, a.height + 1
  from above a
  join velo.child c on c.child = a.run_id
  where a.height < $2
)
select a.child as run, a.run_id as parent, a.seq, a.task, a.node, a.name,
       r.graph || '@' || r.version as graph, r.status, a.is_awaited, a.on_close
from above a
join velo.run r on r.id = a.child
order by a.height desc";

/// How a run came to be: the first child on the way to it first, itself last.
pub(crate) async fn path(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Vec<ChildRun>, sqlx::Error> {
    sqlx::query_as(PATH)
        .bind(run)
        .bind(DEPTH_MAX)
        .fetch_all(db)
        .await
}

pub(crate) const IS_STUCK: &str = "\
-- velo: child.is_stuck
with recursive family as (
  select $1::bigint as id, 0 as depth
  union all
  select c.child, f.depth + 1
  from family f
  join velo.child c on c.run_id = f.id and c.is_awaited
  join velo.queue q on q.run_id = c.child and q.branch = 0
  where f.depth < $2
)
select exists (
  select from family f
  join velo.run r on r.id = f.id
  where r.status = 'paused'
     or (r.status = 'waiting'
         and exists (select from velo.wait w
                     where w.run_id = r.id and w.kind in ('ask', 'signal') and w.answer is null and not w.is_closed
                       and w.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = r.id))))";

/// Whether somebody outside has to act, on the run or on one that it waits for.
pub(crate) async fn is_stuck(db: impl PgExecutor<'_>, run: RunId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_STUCK)
        .bind(run)
        .bind(DEPTH_MAX)
        .fetch_one(db)
        .await
}

pub(crate) const ENDING: &str = "\
-- velo: child.ending
select waiter
from velo.ending
where run_id = $1";

/// Who waits for a run whose relatives have not been told that it has ended; `None` when they have, or
/// it has none, or has not ended.
pub(crate) async fn ending(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Option<Option<RunId>>, sqlx::Error> {
    sqlx::query_scalar(ENDING)
        .bind(run)
        .fetch_optional(db)
        .await
}

pub(crate) const ENDINGS: &str = "\
-- velo: child.endings
select run_id
from velo.ending
order by run_id
limit $1";

/// Runs whose relatives have not been told that they have ended.
pub(crate) async fn endings(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(ENDINGS).bind(limit).fetch_all(db).await
}

// As a signal that has no payload: the run's row in the queue is locked before anything is decided.
pub(crate) const POKE: &str = concat!(
    "\
-- velo: child.poke
",
    lock_run!(),
    ", poked as (
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

/// Has a run look again at what it waits for; `false` when it has ended.
pub(crate) async fn poke(db: impl PgExecutor<'_>, run: RunId) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(POKE).bind(run).fetch_one(db).await?;
    Ok(found == 1)
}

pub(crate) const TO_CANCEL: &str = "\
-- velo: child.to_cancel
select c.child
from velo.child c
join velo.queue q on q.run_id = c.child and q.branch = 0
where c.run_id = $1
  and c.on_close = 'cancel'
  and not q.is_cancelled
limit $2";

/// Children that end with their parent, and have not been asked to.
pub(crate) async fn to_cancel(
    db: impl PgExecutor<'_>,
    run: RunId,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(TO_CANCEL)
        .bind(run)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const TOLD: &str = "\
-- velo: child.told
delete from velo.ending
where run_id = $1";

/// Notes that all relatives have been told.
pub(crate) async fn told(db: impl PgExecutor<'_>, run: RunId) -> Result<(), sqlx::Error> {
    sqlx::query(TOLD).bind(run).execute(db).await?;
    Ok(())
}
