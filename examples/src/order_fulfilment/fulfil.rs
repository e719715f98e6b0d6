//! The way of an order that goes well.

use serde::{Deserialize, Serialize};
use serde_json::json;
use velo_engine::prelude::*;

use super::order::{Item, Order, PACK, REFUND};
use super::payments::Payments;

const TAKE: &str = "\
update shop.stock
set available = available - $2
where sku = $1
  and available >= $2";

/// Takes every item from the stock, or none: the statements commit with the step.
pub(super) async fn reserve(cx: Context<Order>) -> NodeResult<Order> {
    let mut tx = cx.tx().await?;
    for Item { sku, quantity, .. } in &cx.state().items {
        let take = sqlx::query(TAKE).bind(sku).bind(quantity);
        if take.execute(&mut *tx).await?.rows_affected() == 0 {
            // Trying again brings no goods: the run is paused until somebody resumes it.
            return Err(NodeError::permanent(format!(
                "fewer than {quantity} {sku} in stock"
            )));
        }
    }
    Ok(Next::none())
}

/// Charges the card. Asked twice with one key, the provider answers twice and charges once.
pub(super) async fn charge(cx: Context<Order>) -> NodeResult<Order> {
    let (order, payments) = (cx.state(), cx.resource::<Payments>()?);
    let receipt = cx
        .step("charge", |key| {
            payments.charge(key.to_string(), order.id, order.cents())
        })
        .await?;
    Ok(
        Next::send_all(PACK, order.items.clone())
            .and_update(Order::update().receipt(Some(receipt))),
    )
}

/// Packs one item, beside the packers of the others.
pub(super) async fn pack(cx: Context<Order, Item>) -> NodeResult<Order> {
    let Item { sku, quantity, .. } = cx.input();
    Ok(Order::update()
        .boxes(vec![format!("{quantity} x {sku}")])
        .into())
}

/// What the carrier says. A refusal is an answer and no error: an error would be tried again, and
/// then pause the run, while an answer can be routed on.
#[derive(Serialize, Deserialize)]
enum Booking {
    Accepted { tracking: String },
    Refused { why: String },
}

/// Stands in for a carrier, whose answer depends on nothing but what it is asked.
async fn book(key: String, country: String) -> Result<Booking, NodeError> {
    Ok(match country.as_str() {
        "Atlantis" => Booking::Refused {
            why: "no road leads to Atlantis".to_owned(),
        },
        _ => Booking::Accepted {
            tracking: format!("parcel {key}"),
        },
    })
}

// No key of the table keeps a second parcel out, and none is needed.
const SHIPPED: &str = "\
insert into shop.parcel (order_id, tracking, boxes)
values ($1, $2, $3)";

const END_SHIPPED: &str = "\
update shop.orders
set status = 'shipped'
where id = $1";

/// Books the carrier, and notes the parcel in the shop's own table in the step's transaction.
pub(super) async fn ship(cx: Context<Order>) -> NodeResult<Order> {
    let order = cx.state();
    let booked = cx.step("book", |key| book(key.to_string(), order.country.clone()));
    let tracking = match booked.await? {
        Booking::Accepted { tracking } => tracking,
        Booking::Refused { why } => return Ok(Order::update().refusal(Some(why)).goto(REFUND)),
    };
    let mut tx = cx.tx().await?;
    let parcel = sqlx::query(SHIPPED)
        .bind(order.id)
        .bind(tracking)
        .bind(&order.boxes);
    parcel.execute(&mut *tx).await?;
    sqlx::query(END_SHIPPED)
        .bind(order.id)
        .execute(&mut *tx)
        .await?;
    Ok(Next::none())
}

/// Tells how the order ended, in the run's stream of events.
pub(super) async fn notify(cx: Context<Order>) -> NodeResult<Order> {
    let order = cx.state();
    match &order.refusal {
        None => cx.emit(
            "order_shipped",
            &json!({ "order": order.id, "boxes": order.boxes }),
        )?,
        Some(why) => cx.emit("order_refunded", &json!({ "order": order.id, "why": why }))?,
    }
    Ok(Next::none())
}
