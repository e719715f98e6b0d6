//! Looking at runs from outside, and steering them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgExecutor};

use crate::run_id::RunId;

/// A run, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The graph's name.
    pub graph: String,
    /// The graph's version.
    pub version: i32,
    /// The thread that it is part of.
    pub thread: Option<String>,
    /// How far it is.
    pub status: RunStatus,
    /// Why it is paused: `node`, `message`, `causes`, `kind` and `attempt`.
    pub error: Option<Value>,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Steps committed so far, the start not counted. Tasks that run side by side are one step.
    pub steps: i32,
    /// Whether a worker has it at this moment.
    pub is_leased: bool,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RunStatus {
    /// Workers run it, or will.
    Active,
    /// It waits for an answer or a message, and for no time.
    Waiting,
    /// It needs attention: see its error, mend the cause, resume it.
    Paused,
    /// It has come to its end.
    Completed,
    /// It was ended before its end.
    Cancelled,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Waiting,
        Self::Paused,
        Self::Completed,
        Self::Cancelled,
    ];

    /// Its name in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will happen to the run any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// A committed step, for people.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Step {
    /// Which step of the run, from zero: the start.
    pub seq: i32,
    /// The fence of the lease that committed it.
    pub fence: i64,
    /// When it was committed.
    pub at: DateTime<Utc>,
}

pub(crate) const GET: &str = "\
-- velo: run.get
select r.id, r.graph, r.version, r.thread, r.status, r.error, r.created_at, r.finished_at,
       coalesce((select max(s.seq) from velo.step s where s.run_id = r.id), 0) as steps,
       exists (select from velo.queue q where q.run_id = r.id and q.worker is not null) as is_leased
from velo.run r
where r.id = $1";

pub(crate) async fn get(db: impl PgExecutor<'_>, id: RunId) -> Result<Option<Run>, sqlx::Error> {
    sqlx::query_as(GET).bind(id).fetch_optional(db).await
}

pub(crate) const LIST: &str = "\
-- velo: run.list
select r.id, r.graph, r.version, r.thread, r.status, r.error, r.created_at, r.finished_at,
       coalesce((select max(s.seq) from velo.step s where s.run_id = r.id), 0) as steps,
       exists (select from velo.queue q where q.run_id = r.id and q.worker is not null) as is_leased
from velo.run r
where r.id < coalesce($1, 9223372036854775807)
  and r.status = any($2)
order by r.id desc
limit $3";

pub(crate) const UNFINISHED: &str = "\
-- velo: run.list_unfinished
select r.id, r.graph, r.version, r.thread, r.status, r.error, r.created_at, r.finished_at,
       coalesce((select max(s.seq) from velo.step s where s.run_id = r.id), 0) as steps,
       exists (select from velo.queue q where q.run_id = r.id and q.worker is not null) as is_leased
from velo.run r
where r.finished_at is null
  and r.id < coalesce($1, 9223372036854775807)
order by r.id desc
limit $2";

pub(crate) async fn unfinished(
    db: impl PgExecutor<'_>,
    before: Option<RunId>,
    limit: i64,
) -> Result<Vec<Run>, sqlx::Error> {
    sqlx::query_as(UNFINISHED)
        .bind(before)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    statuses: &[RunStatus],
    before: Option<RunId>,
    limit: i64,
) -> Result<Vec<Run>, sqlx::Error> {
    let statuses: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
    sqlx::query_as(LIST)
        .bind(before)
        .bind(statuses)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const HISTORY: &str = "\
-- velo: run.history
select s.seq, s.fence, s.at, s.delta, s.control, b.control as before
from velo.step s
left join velo.step b on b.run_id = s.run_id and b.seq = s.seq - 1
where s.run_id = $1
  and s.seq > $2
order by s.seq
limit $3";

/// A step with its payloads, and what was to be done in it.
#[derive(Debug, FromRow)]
pub(crate) struct StoredHistory {
    pub(crate) seq: i32,
    pub(crate) fence: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) delta: Vec<u8>,
    pub(crate) control: Vec<u8>,
    pub(crate) before: Option<Vec<u8>>,
}

pub(crate) async fn history(
    db: impl PgExecutor<'_>,
    id: RunId,
    after: i32,
    limit: i64,
) -> Result<Vec<StoredHistory>, sqlx::Error> {
    sqlx::query_as(HISTORY)
        .bind(id)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const STEPS: &str = "\
-- velo: run.steps
select seq, fence, at
from velo.step
where run_id = $1
  and seq > $2
order by seq
limit $3";

pub(crate) async fn steps(
    db: impl PgExecutor<'_>,
    id: RunId,
    after: i32,
    limit: i64,
) -> Result<Vec<Step>, sqlx::Error> {
    sqlx::query_as(STEPS)
        .bind(id)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

// What is decided by is read under the row's lock: the snapshot's version may be one that a worker has
// claimed since. A run that some worker has is ended by that worker: only it knows that no node of the
// run is at work any more.
pub(crate) const CANCEL: &str = "\
-- velo: run.cancel
with locked as (
  select run_id, branch, worker
  from velo.queue
  where run_id = $1
  for update
), asked as (
  update velo.queue q
  set is_cancelled = true
  from locked l
  where q.run_id = l.run_id and q.branch = l.branch and l.worker is not null
), gone as (
  delete from velo.queue q
  using locked l
  where q.run_id = l.run_id and q.branch = l.branch and l.worker is null
  returning q.run_id
), done as (
  update velo.run
  set status = 'cancelled', finished_at = clock_timestamp()
  from gone
  where id = gone.run_id
  returning id, thread
), freed as (
  update velo.thread
  set is_live = false
  from done
  where name = done.thread and run_id = done.id
)
select count(*) from locked";

/// Cancels the run; `false` when it has ended.
pub(crate) async fn cancel(db: impl PgExecutor<'_>, id: RunId) -> Result<bool, sqlx::Error> {
    let touched: i64 = sqlx::query_scalar(CANCEL).bind(id).fetch_one(db).await?;
    Ok(touched > 0)
}

pub(crate) const RESUME: &str = "\
-- velo: run.resume
with readied as (
  update velo.queue
  set ready_at = clock_timestamp(), wake_at = null, crashes = 0, resumed_at = clock_timestamp(),
      resumed_seq = (select max(s.seq) from velo.step s where s.run_id = $1)
  where run_id = $1 and branch = 0 and worker is null and gated_at is null
    and (wake_at is not null or ready_at is null)
  returning run_id, code
), settled as (
  update velo.failure f
  set is_settled = true
  from readied
  where f.run_id = readied.run_id and not f.is_settled
), resumed as (
  update velo.run r
  set status = 'active', error = null, failed_as = null
  from readied
  where r.id = readied.run_id
)
select count(*) from readied";

/// Has a paused or sleeping run go on now; `false` when it is neither.
pub(crate) async fn resume(db: impl PgExecutor<'_>, id: RunId) -> Result<bool, sqlx::Error> {
    let readied: i64 = sqlx::query_scalar(RESUME).bind(id).fetch_one(db).await?;
    Ok(readied == 1)
}

/// The channel on which workers are told that there is something to claim.
pub const CHANNEL: &str = "velo_queue";

pub(crate) const NOTIFY: &str = "\
-- velo: queue.notify
select pg_notify('velo_queue', '')";

/// Wakes waiting workers. A hint alone: they also look by themselves.
pub(crate) async fn notify(db: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(NOTIFY).execute(db).await?;
    Ok(())
}
