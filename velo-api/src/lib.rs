//! The agency over HTTP: a thin REST interface to its projects, tasks, artifacts and agents, and a
//! WebSocket on which each project tells what happens in it.
//!
//! There is no sign-in yet: everybody who reaches the port acts as the local user. So [`serve`]
//! refuses any address but this machine's own unless [`Bind::AnyAddress`] says otherwise, and a web
//! page of another origin can neither send a request nor open the WebSocket.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use tokio_util::sync::CancellationToken;
//! use velo_agents::{agency::Agency, blob::Blobs, domain, model::offline::OfflineModel};
//! use velo_api::Bind;
//! use velo_engine::Engine;
//!
//! let engine = Engine::migrate_and_connect(pool).await?;
//! domain::migrate(engine.pool()).await?;
//! let blobs = Blobs::local(".velo/blobs".as_ref())?;
//! let agency = Agency::new(engine, blobs, Arc::new(OfflineModel));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:7878").await?;
//! velo_api::serve(listener, Bind::LoopbackOnly, agency, CancellationToken::new()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # REST
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/project/create` | 201 and the project; body `{"description": "…", "name": "…"}`, the name optional, `brief` another word for `description`; with an `Idempotency-Key` a repeated request makes nothing |
//! | `GET /api/project/list` | the projects, newest first |
//! | `GET /api/project/{id}` | the project |
//! | `GET /api/project/{id}/tasks` | its tasks, in the plan's order |
//! | `GET /api/project/{id}/artifacts` | its artifacts, oldest first |
//! | `GET /api/project/{id}/activity` | what agents did for it, newest first |
//! | `GET /api/artifact/{id}` | the artifact |
//! | `GET /api/artifact/{id}/download` | the content of its current version |
//! | `GET /api/agents`, `GET /api/agents/{name}` | all agents; one by id or name |
//! | `GET /healthz` | 200 while the database answers, else 503 |
//!
//! Lists are `{"items": […], "next_cursor": …}`, read on with `?after=<next_cursor>&limit=`. Errors
//! are `application/problem+json` with `type`, `title`, `status`, `detail` and `request_id`; every
//! answer has its `x-request-id`, which the log has too.
//!
//! # WebSocket
//!
//! `GET /ws`. A client sends `{"type":"subscribe","project_id":…,"after":…}` and is sent
//! `subscribed`, then every event of the project after the place `after` (from the first if there is
//! none), then those to come: `project_created`, `agent_activity`, `task_created` and
//! `project_status`, each with its place `seq`. Places are without gaps, and none comes twice; after
//! a lost connection, go on with the last `seq` as `after`. `{"type":"ping","timestamp":…}` is
//! answered by a `pong`; what is not understood by an `error`, and the socket stays open.
//!
//! A socket closes with 1001 when the server stops and 1013 when its client reads too slowly.
#![deny(missing_docs)]

mod caller;
mod http;
mod live;
mod rest;
mod router;
mod serve;

pub use http::{MAX_BODY, MAX_CONNECTIONS, MAX_DOWNLOADS, REQUEST_TIME};
pub use live::{
    Live, MAX_MESSAGE, MAX_SOCKETS, MAX_SUBSCRIPTIONS, PING_EVERY, POLL_EVERY, SEND_TIME,
};
pub use router::router;
pub use serve::{Bind, BindRefused, STOP_TIME, serve};
