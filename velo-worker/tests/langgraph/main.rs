//! What a graph does when a worker runs it and Postgres keeps it, where others have shown what to expect.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failing;
mod keeping;
mod limits;
mod parallel;
mod support;
