//! What a user of engine and worker can observe, on a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failing;
mod fencing;
mod history;
mod interleavings;
mod proxy;
mod running;
mod starting;
mod support;
mod surviving;
mod waiting;
