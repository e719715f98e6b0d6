//! A shop that fulfils orders: reserve the stock, charge the card, pack, ship, tell the customer; and,
//! when the carrier refuses, give the money and the stock back.
//!
//! The program is `src/bin/order_fulfilment.rs`; here is what a service would have in its library.

mod fulfil;
mod order;
mod payments;
mod shop;
mod undo;

use std::time::Duration;

use velo_engine::ShapeErrors;
use velo_engine::prelude::*;

pub use order::{CHARGE, Item, NOTIFY, Order, OrderUpdate, PACK, REFUND, RELEASE, RESERVE, SHIP};
pub use payments::{PaymentError, Payments};
pub use shop::{Ending, Shop};

/// An order's way. Dotted in the drawing is what a node chooses, solid what follows by itself.
///
/// ```
/// let graph = examples::order_fulfilment::graph()?;
/// assert!(graph.shape().mermaid().contains("ship -.-> refund"));
/// # Ok::<(), velo_engine::ShapeErrors>(())
/// ```
///
/// # Errors
/// Never, as long as the test above passes.
pub fn graph() -> Result<Graph<Order>, ShapeErrors> {
    Graph::builder("order", 1)
        .node(RESERVE, fulfil::reserve)
        .node(CHARGE, fulfil::charge)
        .node(PACK, fulfil::pack)
        .node(SHIP, fulfil::ship)
        .node(REFUND, undo::refund)
        .node(RELEASE, undo::release)
        .node(NOTIFY, fulfil::notify)
        .start(RESERVE)
        .edge(RESERVE, CHARGE)
        .may_go(CHARGE, PACK)
        .edge(PACK, SHIP)
        .edge(SHIP, NOTIFY)
        .may_go(SHIP, REFUND)
        .edge(REFUND, RELEASE)
        .edge(RELEASE, NOTIFY)
        .default_retry(RetryPolicy {
            first_delay: Duration::from_millis(50),
            ..RetryPolicy::default()
        })
        .compile()
}
