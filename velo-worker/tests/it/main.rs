//! What a user of engine and worker can observe, on a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asking;
mod behaviours;
mod breakpoints;
mod children;
mod conformance;
mod copies;
mod draining;
mod encryption;
mod failing;
mod fencing;
mod flow;
mod groups;
mod handling;
mod history;
mod interleavings;
mod items;
mod limits;
mod migrating;
mod pictures;
mod pooler;
mod proxy;
mod roles;
mod running;
mod schedules;
mod selecting;
mod starting;
mod steering;
mod streams;
mod support;
mod surviving;
mod threads;
mod tracing_runs;
mod values;
mod versions;
mod waiting;
