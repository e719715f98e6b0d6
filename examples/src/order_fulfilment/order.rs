//! What is known of an order while it is on its way, and the names of the stations.

use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

/// The state of an order's run.
#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
pub struct Order {
    /// Its row in `shop.orders`.
    pub id: i64,
    /// Where it goes.
    pub country: String,
    /// What was bought; at least one item.
    pub items: Vec<Item>,
    /// What the payment provider gave for the charge.
    pub receipt: Option<String>,
    /// One label a box; packers write it side by side, so it needs a reducer.
    #[state(append)]
    pub boxes: Vec<String>,
    /// Why the carrier refused, if it did.
    pub refusal: Option<String>,
}

/// So many of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Names the thing.
    pub sku: String,
    /// How many.
    pub quantity: i32,
    /// The price of one, in cents.
    pub cents: i64,
}

impl Order {
    /// The price of all of it, in cents.
    #[must_use]
    pub fn cents(&self) -> i64 {
        let prices = self
            .items
            .iter()
            .map(|item| item.cents * i64::from(item.quantity));
        prices.sum()
    }
}

/// Takes the items from the stock.
pub const RESERVE: NodeKey<Order> = NodeKey::new("reserve");
/// Charges the card.
pub const CHARGE: NodeKey<Order> = NodeKey::new("charge");
/// Packs one item: one task for each.
pub const PACK: NodeKey<Order, Item> = NodeKey::new("pack");
/// Hands the boxes to the carrier.
pub const SHIP: NodeKey<Order> = NodeKey::new("ship");
/// Gives the money back.
pub const REFUND: NodeKey<Order> = NodeKey::new("refund");
/// Gives the stock back.
pub const RELEASE: NodeKey<Order> = NodeKey::new("release");
/// Tells how the order ended.
pub const NOTIFY: NodeKey<Order> = NodeKey::new("notify");
