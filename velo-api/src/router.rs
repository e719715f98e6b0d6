//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use velo_agents::agency::Agency;

use crate::http::{self, MAX_BODY, MAX_DOWNLOADS};
use crate::live::{self, Live};
use crate::rest::{agent, artifact, health, project};
use crate::serve::Bind;

/// What every handler may use.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) agency: Agency,
    pub(crate) live: Live,
    pub(crate) downloads: Arc<Semaphore>,
}

/// The whole interface, for a server of one's own; [`serve`](crate::serve) is one.
///
/// `live` must be running ([`Live::run`]), or nothing wakes the WebSockets early and nothing closes
/// them at the end. `bind` says which `Host` names a request may have.
///
/// ```no_run
/// # async fn example(agency: velo_agents::agency::Agency) -> std::io::Result<()> {
/// use tokio_util::sync::CancellationToken;
/// use velo_api::{Bind, Live};
///
/// let shutdown = CancellationToken::new();
/// let live = Live::new(agency.pool().clone());
/// let app = velo_api::router(agency, live.clone(), Bind::LoopbackOnly);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
/// let (served, ()) = tokio::join!(server.into_future(), live.run(&shutdown));
/// served
/// # }
/// ```
pub fn router(agency: Agency, live: Live, bind: Bind) -> Router {
    let api = Api {
        agency,
        live,
        downloads: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
    };
    Router::new()
        .route("/api/project/create", post(project::create))
        .route("/api/project/list", get(project::list))
        .route("/api/project/{id}", get(project::show))
        .route("/api/project/{id}/tasks", get(project::tasks))
        .route("/api/project/{id}/artifacts", get(project::artifacts))
        .route("/api/project/{id}/activity", get(project::activity))
        .route("/api/artifact/{id}", get(artifact::show))
        .route("/api/artifact/{id}/download", get(artifact::download))
        .route("/api/agents", get(agent::list))
        .route("/api/agents/{name}", get(agent::show))
        .route("/healthz", get(health::show))
        .route("/ws", get(live::open))
        .fallback(http::no_such_path)
        .method_not_allowed_fallback(http::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(bind, http::same_origin))
        .layer(middleware::from_fn(http::answer))
        .with_state(api)
}
