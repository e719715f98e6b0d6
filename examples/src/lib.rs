#![doc = include_str!("../../docs/guide.md")]
#![deny(missing_docs)]

pub mod order_fulfilment;
pub mod report;

/// Time, failures and dying workers in tests.
#[doc = include_str!("../../docs/testing.md")]
pub mod testing {}

/// LangGraph's constructs beside Velo's.
#[doc = include_str!("../../docs/from-langgraph.md")]
pub mod from_langgraph {}
