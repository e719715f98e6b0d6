//! What others ask of whatever keeps their checkpoints, asked of a run's steps and of what is kept between
//! them.
//!
//! A test whose documentation begins with a mark, such as `put/roundtrip`, shows that case of that group in
//! `docs/langgraph.md`.

mod beyond;
mod delete;
mod delta_channel_history;
mod get_tuple;
mod list;
mod prune;
mod put;
mod put_writes;
mod support;
