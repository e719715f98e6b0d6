//! The way back of an order that cannot be shipped.

use velo_engine::prelude::*;

use super::order::{Item, Order};
use super::payments::Payments;

/// Gives the money back.
pub(super) async fn refund(cx: Context<Order>) -> NodeResult<Order> {
    let payments = cx.resource::<Payments>()?;
    let Some(receipt) = cx.state().receipt.clone() else {
        return Err(NodeError::permanent("there is no charge to give back"));
    };
    // A second refund of one receipt changes nothing at the provider, so that no key is needed.
    cx.step("refund", |_| payments.refund(receipt)).await?;
    Ok(Next::none())
}

const PUT_BACK: &str = "\
update shop.stock
set available = available + $2
where sku = $1";

const END_REFUNDED: &str = "\
update shop.orders
set status = 'refunded'
where id = $1";

/// Gives the stock back. Nothing here says how to notice a second time: there is none.
pub(super) async fn release(cx: Context<Order>) -> NodeResult<Order> {
    let mut tx = cx.tx().await?;
    for Item { sku, quantity, .. } in &cx.state().items {
        let put_back = sqlx::query(PUT_BACK).bind(sku).bind(quantity);
        put_back.execute(&mut *tx).await?;
    }
    sqlx::query(END_REFUNDED)
        .bind(cx.state().id)
        .execute(&mut *tx)
        .await?;
    Ok(Next::none())
}
