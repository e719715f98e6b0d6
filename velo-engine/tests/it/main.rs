//! What a user of the typed graph can observe, and what its events promise on a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deferring;
mod events;
mod executor;
mod fields;
mod items;
mod joins;
mod misuse;
mod pictures;
mod routing;
mod sagas;
mod shape;
mod state;
mod support;
