//! What a private Postgres server promises, on real servers in temporary folders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failing;
mod other;
mod starting;
mod stopping;
mod support;
mod temporary;
