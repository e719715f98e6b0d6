//! Looking at runs from outside, and steering them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgExecutor, PgPool};

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
select s.seq, s.fence, s.at, velo.whole(s.delta) as delta, velo.whole(s.control) as control,
       velo.whole(b.control) as before
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

/// The channel on which workers are told that there is something to claim.
pub const CHANNEL: &str = "velo_queue";

pub(crate) const NOTIFY: &str = "\
-- velo: queue.notify
select pg_notify('velo_queue', '')";

/// Wakes waiting workers when the caller's transaction is committed. A hint alone: they also look by themselves.
pub(crate) async fn notify(db: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(NOTIFY).execute(db).await?;
    Ok(())
}

// Of a transaction of its own, since one that notifies keeps all others that do from committing. It waits for no disk: a
// hint need not outlive a crash.
pub(crate) const HINT: &str = "\
-- velo: queue.hint
select set_config('synchronous_commit', 'off', true), pg_notify('velo_queue', '')";

/// Wakes waiting workers at once. A hint alone: they also look by themselves.
pub(crate) async fn hint(db: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(HINT).execute(db).await?;
    Ok(())
}
