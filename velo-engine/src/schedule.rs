//! Schedules: runs that are started when their time comes.
//!
//! A schedule is a row with what its runs begin with, and with its next time. Any worker fires it when
//! that has come, whether or not it has code for the graph: the run waits for a worker that has. The
//! record of the fire, the start of the run and the move to the next time are one transaction, so that
//! each time fires once, however many workers look and whenever one dies.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use serde::{Deserialize, Serialize};
//! # use velo_engine::prelude::*;
//! # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
//! # struct Report { topic: String }
//! use velo_engine::schedule::{Overlap, Spec};
//!
//! # async fn example(engine: &Engine, graph: &Graph<Report>) -> Result<(), Box<dyn std::error::Error>> {
//! let every_night = Spec::cron("30 2 * * MON-FRI", "Europe/Stockholm")?;
//! engine
//!     .schedule(graph, "reports/nightly", every_night, Report { topic: "sales".to_owned() })
//!     .overlap(Overlap::BufferOne)
//!     .catch_up(Duration::from_secs(6 * 3_600))
//!     .jitter(Duration::from_secs(120))
//!     .replace()
//!     .await?;
//! for next in engine.next_fires("reports/nightly", 10).await? {
//!     println!("{}", next.due_at);
//! }
//! # Ok(())
//! # }
//! ```

mod calendar;
mod error;
mod firing;
mod interval;
mod overlap;
mod plan;
mod setup;
mod spec;
mod steering;

pub use crate::store::schedule::{Fire, FireCause, FireOutcome, Schedule};
pub use error::ScheduleError;
pub use firing::{FIRES_PER_TURN, Fired, TURNS_MAX, fire_due, fire_due_at};
pub use overlap::{BUFFER_MAX, Overlap};
pub use plan::NextFire;
pub use setup::{CATCH_UP_DEFAULT, CATCH_UP_MIN, DURATION_MAX, ScheduleSetup};
pub use spec::{Spec, SpecError};
pub use steering::{BACKFILL_MAX, NEXT_MAX};
