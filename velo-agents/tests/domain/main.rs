//! The domain's statements against a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifacts;
mod logs;
mod plans;
mod projects;
mod schema;
mod support;
