//! The domain's statements against a real Postgres.

mod artifacts;
mod logs;
mod plans;
mod projects;
mod schema;
mod support;
