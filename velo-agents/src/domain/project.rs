//! A project: what a person asked for, and how far the agency is with it.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};

use super::{Cursor, Page, PageRequest, ProjectId, StoreError, TenantId, UserId};

/// A project, as the API shows it. Its brief is read apart ([`brief`]), being long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Who asked for it.
    pub user_id: UserId,
    /// Its name.
    pub name: String,
    /// What it is about. In lists only the first thousand characters.
    pub description: String,
    /// The project's id in Plane, once it is there.
    pub plane_project_id: Option<String>,
    /// How far it is.
    pub status: ProjectStatus,
    /// One sentence about the status, such as why planning stopped.
    pub status_message: Option<String>,
    /// The engine's run that works on it; in JSON as text.
    #[serde(serialize_with = "super::run_id_as_text")]
    pub run_id: Option<i64>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// How far a project is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ProjectStatus {
    /// Its PRD and plan are being written.
    Planning,
    /// Its tasks are being worked on.
    InProgress,
    /// All of it is done.
    Completed,
    /// Put away; nothing changes any more.
    Archived,
    /// Planning stopped; the status message says why.
    Failed,
}

impl ProjectStatus {
    const ALL: [Self; 5] = [
        Self::Planning,
        Self::InProgress,
        Self::Completed,
        Self::Archived,
        Self::Failed,
    ];

    /// Its name in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Archived => "archived",
            Self::Failed => "failed",
        }
    }

    /// Whether a project may go from this status to `next`. Staying is always allowed, so that a
    /// step which runs again does no harm.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use ProjectStatus::{Archived, Completed, Failed, InProgress, Planning};
        self == next
            || matches!(
                (self, next),
                (Planning, InProgress | Failed)
                    | (InProgress, Completed | Failed | Planning)
                    | (Completed, InProgress)
                    | (Failed, Planning | InProgress)
                    | (Planning | InProgress | Completed | Failed, Archived)
            )
    }
}

impl fmt::Display for ProjectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a project when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProject {
    /// Its id; a second project with it is not made.
    pub id: ProjectId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who asks for it.
    pub user: UserId,
    /// Its name, not empty.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// What the person asked for, word for word.
    pub brief: String,
    /// The engine's run that works on it, if it is known already.
    pub run_id: Option<i64>,
}

pub(super) const CREATE: &str = "\
-- velo: project.create
insert into velo.projects (id, tenant_id, user_id, name, description, brief, run_id)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do nothing";

/// Makes a project in status `planning`, unless there is one of this id; says whether it did.
///
/// Of two callers with the same id at once, the second waits for the first's transaction.
///
/// # Errors
/// [`StoreError`] when the statement fails.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn add(conn: &mut PgConnection, new: &NewProject) -> Result<bool, StoreError> {
    let done = sqlx::query(CREATE)
        .bind(new.id)
        .bind(new.tenant)
        .bind(new.user)
        .bind(&new.name)
        .bind(&new.description)
        .bind(&new.brief)
        .bind(new.run_id)
        .execute(conn)
        .await
        .map_err(StoreError::while_doing("create the project"))?;
    Ok(done.rows_affected() == 1)
}

/// Makes a project in status `planning`, or leaves the one of this id as it is; returns it.
///
/// # Errors
/// [`StoreError`] when a statement fails, or when the id is taken by another tenant's project.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn create(conn: &mut PgConnection, new: &NewProject) -> Result<Project, StoreError> {
    add(conn, new).await?;
    get(conn, new.tenant, new.id)
        .await?
        .ok_or_else(|| StoreError::new("create the project", sqlx::Error::RowNotFound))
}

pub(super) const GET: &str = "\
-- velo: project.get
select id, tenant_id, user_id, name, description, plane_project_id, status, status_message, run_id,
       created_at, updated_at
from velo.projects
where tenant_id = $1
  and id = $2";

/// Reads a project; `None` when this tenant has no such one.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn get(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: ProjectId,
) -> Result<Option<Project>, StoreError> {
    sqlx::query_as(GET)
        .bind(tenant)
        .bind(id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the project"))
}

pub(super) const BRIEF: &str = "\
-- velo: project.brief
select brief
from velo.projects
where tenant_id = $1
  and id = $2";

/// Reads what the person asked for, word for word; `None` when this tenant has no such project.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn brief(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: ProjectId,
) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar(BRIEF)
        .bind(tenant)
        .bind(id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the project's brief"))
}

// A missing cursor is replaced by the end of all values, not tested with `is null or`: so the
// comparison stays one that the index answers, also in a generic plan.
pub(super) const LIST: &str = "\
-- velo: project.list
select id, tenant_id, user_id, name, left(description, 1000) as description, plane_project_id,
       status, status_message, run_id, created_at, updated_at
from velo.projects
where tenant_id = $1
  and (created_at, id) < (coalesce($2, 'infinity'::timestamptz),
                          coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
order by created_at desc, id desc
limit $4";

/// Lists the tenant's projects, newest first.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    page: PageRequest,
) -> Result<Page<Project>, StoreError> {
    let rows: Vec<Project> = sqlx::query_as(LIST)
        .bind(tenant)
        .bind(page.after_time())
        .bind(page.after_id())
        .bind(page.probe())
        .fetch_all(db)
        .await
        .map_err(StoreError::while_doing("list the projects"))?;
    Ok(Page::cut(rows, page, |last| {
        Cursor::by_time(last.created_at, last.id.0)
    }))
}

pub(super) const OF_RUN: &str = "\
-- velo: project.of_run
select id, tenant_id, user_id, name, description, plane_project_id, status, status_message, run_id,
       created_at, updated_at
from velo.projects
where tenant_id = $1
  and run_id = $2";

/// Reads the project that a run works on; `None` when this tenant has no such one.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn of_run(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    run_id: i64,
) -> Result<Option<Project>, StoreError> {
    sqlx::query_as(OF_RUN)
        .bind(tenant)
        .bind(run_id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the run's project"))
}

// Whether a run has ended is the engine's to say: its row is asked, and not the project's status.
pub(super) const NEWEST_UNFINISHED: &str = "\
-- velo: project.newest_unfinished
select id, tenant_id, user_id, name, description, plane_project_id, status, status_message, run_id,
       created_at, updated_at
from velo.projects p
where tenant_id = $1
  and ($2::text is null or brief = $2)
  and exists (select from velo.run r where r.id = p.run_id and r.finished_at is null)
order by created_at desc, id desc
limit 1";

/// Reads the tenant's newest project whose run has not ended; with a brief, of that very brief.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn newest_unfinished(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    brief: Option<&str>,
) -> Result<Option<Project>, StoreError> {
    sqlx::query_as(NEWEST_UNFINISHED)
        .bind(tenant)
        .bind(brief)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("look for an unfinished project"))
}

pub(super) const MOVE_TO: &str = "\
-- velo: project.move_to
update velo.projects
set status = $3,
    status_message = $4,
    updated_at = now()
where tenant_id = $1
  and id = $2
  and status = any($5)
  and (status, status_message) is distinct from ($3, $4)";

/// Brings a project to `status` with a sentence about it, and returns it as it then is. A move
/// that [`ProjectStatus::may_become`] does not allow changes nothing: compare the returned status.
///
/// # Errors
/// [`StoreError`] when a statement fails or this tenant has no such project.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn move_to(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ProjectId,
    status: ProjectStatus,
    message: Option<&str>,
) -> Result<Project, StoreError> {
    const DOING: &str = "change the project's status";
    let from: Vec<&str> = ProjectStatus::ALL
        .into_iter()
        .filter(|from| from.may_become(status))
        .map(ProjectStatus::as_str)
        .collect();
    sqlx::query(MOVE_TO)
        .bind(tenant)
        .bind(id)
        .bind(status.as_str())
        .bind(message)
        .bind(from)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_doing(DOING))?;
    get(conn, tenant, id)
        .await?
        .ok_or_else(|| StoreError::new(DOING, sqlx::Error::RowNotFound))
}

pub(super) const ATTACH_RUN: &str = "\
-- velo: project.attach_run
update velo.projects
set run_id = $3,
    updated_at = now()
where tenant_id = $1
  and id = $2
  and run_id is null";

/// Notes which run works on a project that has none yet; says whether it did.
///
/// # Errors
/// [`StoreError`] when the statement fails.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn attach_run(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ProjectId,
    run_id: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(ATTACH_RUN)
        .bind(tenant)
        .bind(id)
        .bind(run_id)
        .execute(conn)
        .await
        .map_err(StoreError::while_doing("note the project's run"))?;
    Ok(done.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::ProjectStatus::{self, Archived, Completed, Failed, InProgress, Planning};

    #[test]
    fn a_project_goes_forward_and_an_archived_one_stays() {
        assert!(
            Planning.may_become(InProgress)
                && InProgress.may_become(Completed)
                && Completed.may_become(Archived)
        );
        assert!(Planning.may_become(Failed) && Failed.may_become(Planning));
        assert!(!Planning.may_become(Completed));
        for next in [Planning, InProgress, Completed, Failed] {
            assert!(!Archived.may_become(next), "{next}");
        }
    }

    #[test]
    fn the_name_in_json_is_the_name_in_the_database() {
        for status in ProjectStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
