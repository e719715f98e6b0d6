//! What a user of the typed graph can observe, and what its events promise on a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod events;
mod executor;
mod misuse;
mod shape;
mod state;
