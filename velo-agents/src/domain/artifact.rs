//! An artifact: a document or file that an agent or a person made, with all its versions. Rows
//! say what and where; the content is in the blob store ([`crate::blob`]).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::{
    ArtifactId, Cursor, Page, PageRequest, ProjectId, StoreError, TaskId, TenantId, UserId,
    VersionId,
};
use crate::blob::Blob;

/// An artifact and its current version, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Artifact {
    /// Its id, the same for all versions.
    pub id: ArtifactId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The project that it is part of.
    pub project_id: ProjectId,
    /// The task that it was made for.
    pub task_id: Option<TaskId>,
    /// The agent that made it.
    pub agent_name: String,
    /// That agent's division.
    pub agent_division: String,
    /// Its path inside the project, unique there.
    pub file_name: String,
    /// What it is, such as `prd` or `source_code`; open vocabulary.
    pub file_type: String,
    /// Number of the current version, from 1.
    pub version: i32,
    /// Where the content is in the blob store.
    pub gcs_path: String,
    /// Hash of the content, 64 lowercase hexadecimal digits.
    pub sha256: String,
    /// Length of the content.
    pub bytes: i64,
    /// Media type of the content.
    pub media_type: String,
    /// When its first version was made.
    pub created_at: DateTime<Utc>,
    /// When its current version was made.
    pub updated_at: DateTime<Utc>,
}

/// One version of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct ArtifactVersion {
    /// Its id.
    pub id: VersionId,
    /// The artifact that it is a version of.
    pub artifact_id: ArtifactId,
    /// Its number, from 1.
    pub version_number: i32,
    /// Where the content is in the blob store.
    pub gcs_path: String,
    /// Hash of the content, 64 lowercase hexadecimal digits.
    pub sha256: String,
    /// Length of the content.
    pub bytes: i64,
    /// Media type of the content.
    pub media_type: String,
    /// The person who made it; `None` when an agent did.
    pub created_by: Option<UserId>,
    /// How an agent made it; `None` when a person did.
    pub produced_by: Option<Json<Provenance>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// How an agent made a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The model, as the provider names it.
    pub model: String,
    /// Whether rules made it rather than a model; to be shown wherever the artifact is.
    pub offline: bool,
    /// SHA-256 of the prompt, in hexadecimal digits.
    pub prompt_sha256: String,
    /// The engine's run, as text.
    pub run_id: Option<String>,
}

/// Content to keep as an artifact's next version. Put it into the blob store first: a row must
/// never point at nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The project that it is part of.
    pub project: ProjectId,
    /// The task that it was made for.
    pub task: Option<TaskId>,
    /// The agent that made it, not empty.
    pub agent_name: String,
    /// That agent's division.
    pub agent_division: String,
    /// Its path inside the project: relative, without `..`.
    pub file_name: String,
    /// What it is, not empty.
    pub file_type: String,
    /// Media type of the content.
    pub media_type: String,
    /// The content, as the blob store keeps it.
    pub blob: Blob,
    /// The person who made it, if one did.
    pub created_by: Option<UserId>,
    /// How an agent made it, if one did.
    pub produced_by: Option<Provenance>,
}

// The conflict takes the artifact's row lock, so two writers of one file number their versions
// one after the other. Equal content returns no row: it is no new version.
pub(super) const SAVE: &str = "\
-- velo: artifact.save
insert into velo.artifacts as artifact
       (id, tenant_id, project_id, task_id, agent_name, agent_division, file_name, file_type,
        version, gcs_path, sha256, bytes, media_type)
values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11, $12)
on conflict (project_id, file_name) do update
set task_id = excluded.task_id,
    agent_name = excluded.agent_name,
    agent_division = excluded.agent_division,
    file_type = excluded.file_type,
    version = artifact.version + 1,
    gcs_path = excluded.gcs_path,
    sha256 = excluded.sha256,
    bytes = excluded.bytes,
    media_type = excluded.media_type,
    updated_at = now()
where artifact.tenant_id = excluded.tenant_id
  and artifact.sha256 <> excluded.sha256
returning id, tenant_id, project_id, task_id, agent_name, agent_division, file_name, file_type,
          version, gcs_path, sha256, bytes, media_type, created_at, updated_at";

pub(super) const ADD_VERSION: &str = "\
-- velo: artifact.add_version
insert into velo.artifact_versions
       (id, tenant_id, artifact_id, version_number, gcs_path, sha256, bytes, media_type,
        created_by, produced_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

pub(super) const BY_NAME: &str = "\
-- velo: artifact.by_name
select id, tenant_id, project_id, task_id, agent_name, agent_division, file_name, file_type,
       version, gcs_path, sha256, bytes, media_type, created_at, updated_at
from velo.artifacts
where tenant_id = $1
  and project_id = $2
  and file_name = $3";

/// Keeps content as the next version of the project's file of that name, the first if there is
/// none. Content equal to the current version's changes nothing, so a step that runs again writes
/// once.
///
/// # Errors
/// [`StoreError`] when a statement fails, as it does for a project of another tenant or a file
/// name that leaves the project.
///
/// # Cancel safety
/// Part of the caller's transaction, which must not be committed after an error.
pub async fn save(
    conn: &mut PgConnection,
    tenant: TenantId,
    new: &NewVersion,
) -> Result<Artifact, StoreError> {
    const DOING: &str = "save the artifact";
    let saved: Option<Artifact> = sqlx::query_as(SAVE)
        .bind(ArtifactId::named(new.project.0, &new.file_name))
        .bind(tenant)
        .bind(new.project)
        .bind(new.task)
        .bind(&new.agent_name)
        .bind(&new.agent_division)
        .bind(&new.file_name)
        .bind(&new.file_type)
        .bind(&new.blob.path)
        .bind(&new.blob.sha256)
        .bind(new.blob.bytes)
        .bind(&new.media_type)
        .fetch_optional(&mut *conn)
        .await
        .map_err(StoreError::while_doing(DOING))?;
    let Some(artifact) = saved else {
        return by_name(conn, tenant, new.project, &new.file_name)
            .await?
            .ok_or_else(|| StoreError::new(DOING, sqlx::Error::RowNotFound));
    };
    sqlx::query(ADD_VERSION)
        .bind(VersionId::new())
        .bind(tenant)
        .bind(artifact.id)
        .bind(artifact.version)
        .bind(&artifact.gcs_path)
        .bind(&artifact.sha256)
        .bind(artifact.bytes)
        .bind(&artifact.media_type)
        .bind(new.created_by)
        .bind(new.produced_by.as_ref().map(Json))
        .execute(conn)
        .await
        .map_err(StoreError::while_doing(DOING))?;
    Ok(artifact)
}

/// Reads the project's artifact of that file name, if there is one.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn by_name(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    project: ProjectId,
    file_name: &str,
) -> Result<Option<Artifact>, StoreError> {
    sqlx::query_as(BY_NAME)
        .bind(tenant)
        .bind(project)
        .bind(file_name)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the artifact"))
}

pub(super) const GET: &str = "\
-- velo: artifact.get
select id, tenant_id, project_id, task_id, agent_name, agent_division, file_name, file_type,
       version, gcs_path, sha256, bytes, media_type, created_at, updated_at
from velo.artifacts
where tenant_id = $1
  and id = $2";

/// Reads an artifact; `None` when this tenant has no such one.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn get(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: ArtifactId,
) -> Result<Option<Artifact>, StoreError> {
    sqlx::query_as(GET)
        .bind(tenant)
        .bind(id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the artifact"))
}

pub(super) const LIST: &str = "\
-- velo: artifact.list
select id, tenant_id, project_id, task_id, agent_name, agent_division, file_name, file_type,
       version, gcs_path, sha256, bytes, media_type, created_at, updated_at
from velo.artifacts
where tenant_id = $1
  and project_id = $2
  and (created_at, id) > (coalesce($3, '-infinity'::timestamptz),
                          coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))
order by created_at, id
limit $5";

/// Lists a project's artifacts, oldest first.
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
) -> Result<Page<Artifact>, StoreError> {
    let rows: Vec<Artifact> = sqlx::query_as(LIST)
        .bind(tenant)
        .bind(project)
        .bind(page.after_time())
        .bind(page.after_id())
        .bind(page.probe())
        .fetch_all(db)
        .await
        .map_err(StoreError::while_doing("list the project's artifacts"))?;
    Ok(Page::cut(rows, page, |last| {
        Cursor::by_time(last.created_at, last.id.0)
    }))
}

pub(super) const VERSIONS: &str = "\
-- velo: artifact.versions
select id, artifact_id, version_number, gcs_path, sha256, bytes, media_type, created_by,
       produced_by, created_at
from velo.artifact_versions
where tenant_id = $1
  and artifact_id = $2
  and (version_number, id) > (coalesce($3, 0), coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))
order by version_number, id
limit $5";

/// Lists an artifact's versions, oldest first.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn versions(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: ArtifactId,
    page: PageRequest,
) -> Result<Page<ArtifactVersion>, StoreError> {
    let rows: Vec<ArtifactVersion> = sqlx::query_as(VERSIONS)
        .bind(tenant)
        .bind(id)
        .bind(page.after_key())
        .bind(page.after_id())
        .bind(page.probe())
        .fetch_all(db)
        .await
        .map_err(StoreError::while_doing("list the artifact's versions"))?;
    Ok(Page::cut(rows, page, |last| {
        Cursor::by_position(last.version_number, last.id.0)
    }))
}
