use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use velo_agents::agency::NewBrief;
use velo_agents::domain::activity::{self, Activity};
use velo_agents::domain::artifact::{self, Artifact};
use velo_agents::domain::project::{self, Project};
use velo_agents::domain::task::{self, Task};
use velo_agents::domain::{Page, ProjectId};

use crate::caller::Caller;
use crate::http::{Id, JsonBody, Kind, Paging, Problem};
use crate::router::Api;

/// What a project is made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    name: Option<String>,
    #[serde(alias = "brief")]
    description: String,
}

pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(create): JsonBody<Create>,
) -> Result<impl IntoResponse, Problem> {
    let brief = NewBrief {
        name: create.name,
        brief: create.description,
    };
    let key = request_key(&headers)?;
    let project = api
        .agency
        .create_project(caller.tenant, caller.user, &brief, key)
        .await?;
    let location = [(LOCATION, format!("/api/project/{}", project.id))];
    Ok((StatusCode::CREATED, location, Json(project)))
}

fn request_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let key = headers.get("idempotency-key").map(|key| key.to_str());
    key.transpose().map_err(|_| {
        let detail = "the header `idempotency-key` has characters that are not ASCII: use a UUID";
        Problem::new(Kind::Malformed, detail)
    })
}

pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Paging(page): Paging,
) -> Result<Json<Page<Project>>, Problem> {
    Ok(Json(
        project::list(api.agency.pool(), caller.tenant, page).await?,
    ))
}

pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ProjectId>,
) -> Result<Json<Project>, Problem> {
    found(&api, caller, id).await.map(Json)
}

pub(crate) async fn tasks(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ProjectId>,
    Paging(page): Paging,
) -> Result<Json<Page<Task>>, Problem> {
    found(&api, caller, id).await?;
    Ok(Json(
        task::list(api.agency.pool(), caller.tenant, id, page).await?,
    ))
}

pub(crate) async fn artifacts(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ProjectId>,
    Paging(page): Paging,
) -> Result<Json<Page<Artifact>>, Problem> {
    found(&api, caller, id).await?;
    Ok(Json(
        artifact::list(api.agency.pool(), caller.tenant, id, page).await?,
    ))
}

pub(crate) async fn activity(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ProjectId>,
    Paging(page): Paging,
) -> Result<Json<Page<Activity>>, Problem> {
    found(&api, caller, id).await?;
    Ok(Json(
        activity::list(api.agency.pool(), caller.tenant, id, page).await?,
    ))
}

/// The project, which must be the caller's: what is another tenant's is not there.
async fn found(api: &Api, caller: Caller, id: ProjectId) -> Result<Project, Problem> {
    project::get(api.agency.pool(), caller.tenant, id)
        .await?
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no project {id}")))
}
