//! What a graph does when a worker runs it and Postgres keeps it, where others have shown what to expect.
//!
//! A test whose first line of documentation begins with a mark, such as `B6`, shows the behaviour of that
//! number in `docs/langgraph.md`. [`table`] has the table and the marks agree.

mod database;
mod experiments;
mod failure;
mod keeping;
mod limits;
mod parallel;
mod routing;
mod subgraphs;
pub(crate) mod support;
mod table;
mod time_travel;
