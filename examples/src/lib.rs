#![doc = include_str!("../../docs/guide.md")]
#![deny(missing_docs)]

pub mod order_fulfilment;
