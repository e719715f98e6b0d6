//! The interface over real HTTP, on a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod create;
mod follow;
mod guard;
mod reads;
mod socket;
mod support;
