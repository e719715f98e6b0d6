//! Workers for `velo-engine`: processes that lease runs, execute their nodes, and take over from each
//! other.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use velo_engine::prelude::*;
//! use velo_worker::Worker;
//!
//! #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
//! struct Greeting { name: String, text: String }
//!
//! const GREET: NodeKey<Greeting> = NodeKey::new("greet");
//!
//! async fn greet(cx: Context<Greeting>) -> NodeResult<Greeting> {
//!     Ok(Greeting::update().text(format!("hello {}", cx.state().name)).into())
//! }
//!
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! let graph = Graph::builder("greeting", 1).node(GREET, greet).start(GREET).compile()?;
//! let engine = Engine::migrate_and_connect(pool).await?;
//! let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
//! Worker::builder(engine).serve(graph).concurrency(64).run(until_ctrl_c).await?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod caretaker;
mod claimer;
mod codes;
mod committer;
mod heartbeat;
mod host;
mod live;
pub mod metrics;
#[cfg(feature = "test-kit")]
pub mod test_kit;
mod worker;

pub use worker::{DEFAULT_LEASE, Stopped, Worker, WorkerBuilder, WorkerError};
