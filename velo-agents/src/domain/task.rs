//! A task: one piece of a project's plan, for one agent.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};

use super::{Cursor, Page, PageRequest, ProjectId, StoreError, TaskId, TenantId};

/// A task, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The project that it is part of.
    pub project_id: ProjectId,
    /// The plan's name for it, such as `T-001`; unique in the project.
    pub key: String,
    /// The task's id in Plane, once it is there.
    pub plane_issue_id: Option<String>,
    /// What is to be done, in one line.
    pub title: String,
    /// What is to be done, at length.
    pub description: String,
    /// What kind of work it is; open vocabulary.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// How far it is.
    pub status: TaskStatus,
    /// Name of the agent that does it.
    pub assigned_agent: Option<String>,
    /// Keys of the tasks that come first.
    pub depends_on: Vec<String>,
    /// Ids of the PRD's requirements that it serves.
    pub requirement_ids: Vec<String>,
    /// Its acceptance criteria.
    pub acceptance: serde_json::Value,
    /// How much work it is thought to be.
    pub estimate: Option<serde_json::Value>,
    /// Its place in the plan.
    pub position: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// How urgent a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Priority {
    /// When there is time.
    Low,
    /// In turn.
    Medium,
    /// Before others.
    High,
    /// Now.
    Urgent,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum TaskStatus {
    /// Not begun.
    Pending,
    /// An agent is at it.
    InProgress,
    /// Done, with evidence.
    Completed,
    /// Given up; a person should look.
    Failed,
    /// Done by an agent, not yet accepted.
    PendingReview,
    /// Waits for something that the plan did not foresee.
    Blocked,
    /// No longer wanted.
    Cancelled,
}

/// What is known of a task when it is planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its id, unless the project has a task of this key already.
    pub id: TaskId,
    /// The plan's name for it, not empty.
    pub key: String,
    /// What is to be done, in one line, not empty.
    pub title: String,
    /// What is to be done, at length.
    pub description: String,
    /// What kind of work it is, not empty.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Name of the agent that is to do it.
    pub assigned_agent: Option<String>,
    /// Keys of the tasks that come first.
    pub depends_on: Vec<String>,
    /// Ids of the PRD's requirements that it serves.
    pub requirement_ids: Vec<String>,
    /// Its acceptance criteria.
    pub acceptance: serde_json::Value,
    /// How much work it is thought to be.
    pub estimate: Option<serde_json::Value>,
    /// Its place in the plan, zero or more.
    pub position: i32,
}

pub(super) const ADD: &str = "\
-- velo: task.add
insert into velo.tasks (id, tenant_id, project_id, key, title, description, kind, priority,
                        assigned_agent, depends_on, requirement_ids, acceptance, estimate, position)
select new.id, $1, $2, new.key, new.title, new.description, new.kind, new.priority,
       new.assigned_agent, new.depends_on, new.requirement_ids, new.acceptance,
       nullif(new.estimate, 'null'), new.position
from jsonb_to_recordset($3) as new (id uuid, key text, title text, description text, kind text,
                                    priority text, assigned_agent text, depends_on text[],
                                    requirement_ids text[], acceptance jsonb, estimate jsonb,
                                    position integer)
on conflict (project_id, key) do nothing";

pub(super) const BY_KEYS: &str = "\
-- velo: task.by_keys
select id, tenant_id, project_id, key, plane_issue_id, title, description, kind, priority, status,
       assigned_agent, depends_on, requirement_ids, acceptance, estimate, position, created_at,
       updated_at
from velo.tasks
where tenant_id = $1
  and project_id = $2
  and key = any($3)
order by position, id";

/// Adds tasks to a project in one statement, and returns them in the plan's order. A task whose
/// key the project has already is left as it is and returned as it is.
///
/// # Errors
/// [`StoreError`] when a statement fails, as it does for a project of another tenant.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn add_all(
    conn: &mut PgConnection,
    tenant: TenantId,
    project: ProjectId,
    tasks: &[NewTask],
) -> Result<Vec<Task>, StoreError> {
    const DOING: &str = "add the project's tasks";
    sqlx::query(ADD)
        .bind(tenant)
        .bind(project)
        .bind(sqlx::types::Json(tasks))
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_doing(DOING))?;
    let keys: Vec<&str> = tasks.iter().map(|task| task.key.as_str()).collect();
    sqlx::query_as(BY_KEYS)
        .bind(tenant)
        .bind(project)
        .bind(keys)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_doing(DOING))
}

pub(super) const GET: &str = "\
-- velo: task.get
select id, tenant_id, project_id, key, plane_issue_id, title, description, kind, priority, status,
       assigned_agent, depends_on, requirement_ids, acceptance, estimate, position, created_at,
       updated_at
from velo.tasks
where tenant_id = $1
  and id = $2";

/// Reads a task; `None` when this tenant has no such one.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn get(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: TaskId,
) -> Result<Option<Task>, StoreError> {
    sqlx::query_as(GET)
        .bind(tenant)
        .bind(id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the task"))
}

pub(super) const LIST: &str = "\
-- velo: task.list
select id, tenant_id, project_id, key, plane_issue_id, title, description, kind, priority, status,
       assigned_agent, depends_on, requirement_ids, acceptance, estimate, position, created_at,
       updated_at
from velo.tasks
where tenant_id = $1
  and project_id = $2
  and (position, id) > (coalesce($3, -1), coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))
order by position, id
limit $5";

/// Lists a project's tasks in the plan's order.
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
) -> Result<Page<Task>, StoreError> {
    let rows: Vec<Task> = sqlx::query_as(LIST)
        .bind(tenant)
        .bind(project)
        .bind(page.after_key())
        .bind(page.after_id())
        .bind(page.probe())
        .fetch_all(db)
        .await
        .map_err(StoreError::while_doing("list the project's tasks"))?;
    Ok(Page::cut(rows, page, |last| {
        Cursor::by_position(last.position, last.id.0)
    }))
}

pub(super) const SET_STATUS: &str = "\
-- velo: task.set_status
update velo.tasks
set status = $3,
    updated_at = now()
where tenant_id = $1
  and id = $2
  and status <> $3";

/// Sets how far a task is, and returns it as it then is; `None` when this tenant has no such task.
///
/// # Errors
/// [`StoreError`] when a statement fails.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn set_status(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TaskId,
    status: TaskStatus,
) -> Result<Option<Task>, StoreError> {
    sqlx::query(SET_STATUS)
        .bind(tenant)
        .bind(id)
        .bind(status)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_doing("change the task's status"))?;
    get(conn, tenant, id).await
}
