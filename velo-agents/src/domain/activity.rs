//! The activity log: what each agent did for a project, when, and how it went.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};

use super::{ActivityId, Cursor, Page, PageRequest, ProjectId, StoreError, TaskId, TenantId};

/// One entry of the log, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Activity {
    /// Its id.
    pub id: ActivityId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The project that was worked for.
    pub project_id: ProjectId,
    /// The task that was worked on, if it was one.
    pub task_id: Option<TaskId>,
    /// The agent.
    pub agent_name: String,
    /// That agent's division.
    pub agent_division: String,
    /// What was done, such as `Generating PRD`.
    pub action: String,
    /// How far it is.
    pub status: ActivityStatus,
    /// Why it failed, when it did.
    pub error_message: Option<String>,
    /// The engine's run; in JSON as text.
    #[serde(serialize_with = "super::run_id_as_text")]
    pub run_id: Option<i64>,
    /// When it began.
    pub timestamp: DateTime<Utc>,
    /// How long it took, once it has ended.
    pub duration_ms: Option<i64>,
}

/// How far an activity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ActivityStatus {
    /// Begun.
    Started,
    /// Going on.
    InProgress,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
}

/// What to write into the log: a new entry, or how an entry of the same id now stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivity {
    /// Its id. Derive it from the step ([`ActivityId::named`]), so that a second run of the step
    /// finds its own entry.
    pub id: ActivityId,
    /// The project that is worked for.
    pub project: ProjectId,
    /// The task that is worked on, if it is one.
    pub task: Option<TaskId>,
    /// The agent, not empty.
    pub agent_name: String,
    /// That agent's division.
    pub agent_division: String,
    /// What is done, not empty.
    pub action: String,
    /// How far it is.
    pub status: ActivityStatus,
    /// Why it failed, when it did.
    pub error_message: Option<String>,
    /// The engine's run.
    pub run_id: Option<i64>,
    /// How long it took in milliseconds, once it has ended.
    pub duration_ms: Option<i64>,
}

// What has ended stays as it ended: a step that runs again begins by saying `started`.
pub(super) const RECORD: &str = "\
-- velo: activity.record
insert into velo.agent_activities as activity
       (id, tenant_id, project_id, task_id, agent_name, agent_division, action, status,
        error_message, run_id, duration_ms)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict (id) do update
set status = excluded.status,
    error_message = excluded.error_message,
    duration_ms = excluded.duration_ms
where activity.tenant_id = excluded.tenant_id
  and activity.status in ('started', 'in_progress')
  and (activity.status, activity.error_message, activity.duration_ms)
      is distinct from (excluded.status, excluded.error_message, excluded.duration_ms)";

/// Writes an entry, or brings the entry of that id up to date; says whether anything changed. An
/// entry that has ended is not changed again.
///
/// # Errors
/// [`StoreError`] when the statement fails, as it does for a project of another tenant.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn record(
    conn: &mut PgConnection,
    tenant: TenantId,
    new: &NewActivity,
) -> Result<bool, StoreError> {
    let done = sqlx::query(RECORD)
        .bind(new.id)
        .bind(tenant)
        .bind(new.project)
        .bind(new.task)
        .bind(&new.agent_name)
        .bind(&new.agent_division)
        .bind(&new.action)
        .bind(new.status)
        .bind(&new.error_message)
        .bind(new.run_id)
        .bind(new.duration_ms)
        .execute(conn)
        .await
        .map_err(StoreError::while_doing("record the agent's activity"))?;
    Ok(done.rows_affected() == 1)
}

pub(super) const LIST: &str = "\
-- velo: activity.list
select id, tenant_id, project_id, task_id, agent_name, agent_division, action, status,
       error_message, run_id, \"timestamp\", duration_ms
from velo.agent_activities
where tenant_id = $1
  and project_id = $2
  and (\"timestamp\", id) < (coalesce($3, 'infinity'::timestamptz),
                           coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
order by \"timestamp\" desc, id desc
limit $5";

/// Lists what was done for a project, newest first.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    project: ProjectId,
    page: PageRequest,
) -> Result<Page<Activity>, StoreError> {
    let rows: Vec<Activity> = sqlx::query_as(LIST)
        .bind(tenant)
        .bind(project)
        .bind(page.after_time())
        .bind(page.after_id())
        .bind(page.probe())
        .fetch_all(db)
        .await
        .map_err(StoreError::while_doing("list the project's activities"))?;
    Ok(Page::cut(rows, page, |last| {
        Cursor::by_time(last.timestamp, last.id.0)
    }))
}
