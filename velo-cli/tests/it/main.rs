//! The binary as its user meets it: good and bad input, a model that fails in every way, interruptions,
//! several processes at once, and a machine without a database.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod house;

mod check;
mod database;
mod doctor;
mod fleet;
mod input;
mod model;
#[cfg(feature = "otel")]
mod otel;
mod outage;
mod past;
mod private;
mod questions;
mod resuming;
mod retention;
mod schedules;
mod serving;
mod steering;
mod streaming;
mod together;
mod top;
