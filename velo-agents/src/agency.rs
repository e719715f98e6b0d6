//! The agency's front door: a brief goes in, a project comes out, and its planning has begun.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use velo_agents::agency::{Agency, NewBrief};
//! use velo_agents::blob::Blobs;
//! use velo_agents::domain::{self, LOCAL_TENANT, LOCAL_USER};
//! use velo_agents::model::offline::OfflineModel;
//! use velo_engine::Engine;
//!
//! let engine = Engine::migrate_and_connect(pool).await?;
//! domain::migrate(engine.pool()).await?;
//! let blobs = Blobs::local(".velo/blobs".as_ref())?;
//! let agency = Agency::new(engine, blobs, Arc::new(OfflineModel));
//! let brief = NewBrief::new("A shop for tea, with a blog about brewing it");
//! let project = agency.create_project(LOCAL_TENANT, LOCAL_USER, &brief, Some("request-1")).await?;
//! println!("{} is {}", project.name, project.status);
//! # Ok(())
//! # }
//! ```

mod brief;
mod error;

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use velo_engine::{Engine, Graph, events};

use crate::blob::Blobs;
use crate::domain::project::{self, NewProject, Project};
use crate::domain::{ProjectEvent, ProjectId, StoreError, TenantId, UserId};
use crate::model::ChatModel;
use crate::planning::{self, Planning};

pub use brief::{DERIVED_NAME_MAX, MAX_BRIEF, MAX_NAME, NewBrief};
pub use error::AgencyError;

/// The longest request key, in bytes.
pub const MAX_REQUEST_KEY: usize = 255;

/// What the agency works with: the engine, the store of contents and the workflows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agency {
    engine: Engine,
    blobs: Blobs,
    planning: Graph<Planning>,
}

impl Agency {
    /// An agency that works with `engine`, in whose database
    /// [`domain::migrate`](crate::domain::migrate) has run, keeps contents in `blobs`, and whose own
    /// workers ask `model`. Workers of other processes ask theirs.
    #[must_use]
    pub fn new(engine: Engine, blobs: Blobs, model: Arc<dyn ChatModel>) -> Self {
        Self {
            planning: planning::graph(model, blobs.clone()),
            engine,
            blobs,
        }
    }

    /// The database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.engine.pool()
    }

    /// The engine that runs the workflows.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The planning workflow, for a worker to serve.
    #[must_use]
    pub fn planning(&self) -> &Graph<Planning> {
        &self.planning
    }

    /// The store of contents.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Makes a project of a brief and begins its planning, all in one transaction: when this
    /// returns, neither can be lost.
    ///
    /// With a `request_key`, a repetition of the request returns the project that the first one
    /// made, as it now stands, and makes nothing. Give one whenever the answer may get lost. The
    /// name is not compared between repetitions, because it may have been changed since.
    ///
    /// # Errors
    /// A refusal of the brief, the name or the key (see [`AgencyError`]), which leaves nothing
    /// behind; [`AgencyError::KeyReused`] when the key came with another brief before; or
    /// [`AgencyError::Store`], after which the project may exist if it was the commit that failed:
    /// try again with the same key.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the project exists whole or not at all. Try again with the same
    /// key.
    pub async fn create_project(
        &self,
        tenant: TenantId,
        user: UserId,
        brief: &NewBrief,
        request_key: Option<&str>,
    ) -> Result<Project, AgencyError> {
        const DOING: &str = "create the project";
        let name = brief.checked_name()?;
        let new = NewProject {
            id: project_id(tenant, request_key)?,
            tenant,
            user,
            name,
            description: brief.brief.trim().to_owned(),
            brief: brief.brief.clone(),
            run_id: None,
        };
        let failed = |source| StoreError::new(DOING, source);
        let mut tx = self.pool().begin().await.map_err(failed)?;
        if !project::add(&mut tx, &new).await? {
            return self.repeated(&mut tx, &new).await;
        }
        let created = ProjectEvent::ProjectCreated {
            project_id: new.id,
            project_name: new.name.clone(),
            status: project::ProjectStatus::Planning,
        };
        let stream = ProjectEvent::stream(new.id);
        events::append(&mut tx, &stream, created.kind(), &created.body())
            .await
            .map_err(failed)?;
        let project = found(&mut tx, &new).await?;
        self.begin_planning(&mut tx, &project, &new.brief).await?;
        // Read again, because planning notes its run in the row.
        let project = found(&mut tx, &new).await?;
        tx.commit().await.map_err(failed)?;
        Ok(project)
    }

    /// What the first request with this key made.
    async fn repeated(
        &self,
        conn: &mut PgConnection,
        new: &NewProject,
    ) -> Result<Project, AgencyError> {
        let kept = project::brief(&mut *conn, new.tenant, new.id).await?;
        let project = found(conn, new).await?;
        if kept.as_ref() == Some(&new.brief) {
            Ok(project)
        } else {
            Err(AgencyError::KeyReused {
                project: project.id,
            })
        }
    }

    /// Starts the planning run in the transaction that makes the project, so that there is no
    /// project that nobody plans.
    async fn begin_planning(
        &self,
        conn: &mut PgConnection,
        project: &Project,
        brief: &str,
    ) -> Result<(), AgencyError> {
        let Project {
            id,
            tenant_id: tenant,
            user_id: user,
            ..
        } = *project;
        let state = Planning::new(tenant, user, id, brief.to_owned());
        let start = self.engine.start(&self.planning, state);
        let run = start.thread(ProjectEvent::stream(id)).in_tx(conn).await?;
        project::attach_run(conn, tenant, id, run.as_i64()).await?;
        Ok(())
    }
}

async fn found(conn: &mut PgConnection, new: &NewProject) -> Result<Project, StoreError> {
    project::get(conn, new.tenant, new.id)
        .await?
        .ok_or_else(|| StoreError::new("create the project", sqlx::Error::RowNotFound))
}

/// The id of the project that a request makes: its own for each key of a tenant.
fn project_id(tenant: TenantId, request_key: Option<&str>) -> Result<ProjectId, AgencyError> {
    let Some(key) = request_key else {
        return Ok(ProjectId::new());
    };
    if key.is_empty() || key.len() > MAX_REQUEST_KEY {
        return Err(AgencyError::KeyLength { bytes: key.len() });
    }
    Ok(ProjectId::named(tenant.0, &format!("project/create/{key}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LOCAL_TENANT;

    #[test]
    fn a_request_key_names_one_project_of_one_tenant() {
        let id = |tenant, key| project_id(tenant, Some(key)).unwrap();
        assert_eq!(id(LOCAL_TENANT, "a"), id(LOCAL_TENANT, "a"));
        assert_ne!(id(LOCAL_TENANT, "a"), id(LOCAL_TENANT, "b"));
        assert_ne!(id(LOCAL_TENANT, "a"), id(TenantId::new(), "a"));
        let unnamed = || project_id(LOCAL_TENANT, None).unwrap();
        assert_ne!(unnamed(), unnamed());
    }

    #[test]
    fn a_request_key_has_a_length_between_one_and_the_maximum() {
        let longest = "k".repeat(MAX_REQUEST_KEY);
        assert!(project_id(LOCAL_TENANT, Some(&longest)).is_ok());
        for key in ["", &format!("{longest}k")] {
            let error = project_id(LOCAL_TENANT, Some(key)).unwrap_err();
            assert!(
                matches!(error, AgencyError::KeyLength { bytes } if bytes == key.len()),
                "{error}"
            );
        }
    }
}
