//! Stands in for a payment provider: somebody else's service, which fails now and then and keeps its
//! own books.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use sqlx::PgPool;

/// Of so many orders, one is told to come again, and one is charged and never told so.
const TROUBLE_EVERY: i64 = 3;

/// The provider, as seen from this process.
///
/// Its books are a table, so that they outlive the process as those of a real one would; it writes
/// them at once and never in the transaction of a node.
#[derive(Debug)]
pub struct Payments {
    books: PgPool,
    troubled: Mutex<HashSet<String>>,
    charged: AtomicU32,
    silent_at: Option<u32>,
}

/// Why the provider gave no answer. All of it passes.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// It did nothing.
    #[error("the payment provider is busy")]
    Busy,
    /// It may have done what it was asked for.
    #[error("the payment provider's answer got lost")]
    AnswerLost,
    /// Its books are out of reach.
    #[error("the payment provider could not open its books")]
    Books(#[from] sqlx::Error),
}

const CHARGE: &str = "\
insert into shop.charge (key, order_id, cents)
values ($1, $2, $3)
on conflict (key) do update set asked = shop.charge.asked + 1
returning asked";

const REFUND: &str = "\
update shop.charge
set is_refunded = true
where key = $1";

impl Payments {
    /// A provider that fails now and then.
    #[must_use]
    pub fn new(books: PgPool) -> Self {
        Self {
            books,
            troubled: Mutex::default(),
            charged: AtomicU32::new(0),
            silent_at: None,
        }
    }

    /// A provider that goes silent at the charge of this number, counted from one in this process, and at
    /// every later one: it charges the card, says so on standard output and never answers.
    #[must_use]
    pub fn silent_at(mut self, charge: u32) -> Self {
        self.silent_at = Some(charge);
        self
    }

    /// Charges `cents` for `order` and returns a receipt. A second time with the same `key` returns
    /// the same receipt and charges nothing.
    ///
    /// # Errors
    /// [`PaymentError`]; after any of them the card may have been charged.
    ///
    /// # Cancel safety
    /// Dropped half-way, the card may have been charged: ask again with the same key.
    pub async fn charge(
        &self,
        key: String,
        order: i64,
        cents: i64,
    ) -> Result<String, PaymentError> {
        let is_first = self.is_first(&key);
        if is_first && order % TROUBLE_EVERY == 0 {
            return Err(PaymentError::Busy);
        }
        let charge = sqlx::query_scalar(CHARGE)
            .bind(&key)
            .bind(order)
            .bind(cents);
        let asked: i32 = charge.fetch_one(&self.books).await?;
        if asked == 1 {
            self.fall_silent(order).await;
        }
        if is_first && order % TROUBLE_EVERY == 1 {
            return Err(PaymentError::AnswerLost);
        }
        Ok(key)
    }

    /// Gives the money of a receipt back; a second time does no harm.
    ///
    /// # Errors
    /// [`PaymentError`]; the money may have been given back.
    ///
    /// # Cancel safety
    /// Dropped half-way, the money may have been given back: ask again.
    pub async fn refund(&self, receipt: String) -> Result<(), PaymentError> {
        sqlx::query(REFUND)
            .bind(receipt)
            .execute(&self.books)
            .await?;
        Ok(())
    }

    fn is_first(&self, key: &str) -> bool {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        troubled.insert(key.to_owned())
    }

    async fn fall_silent(&self, order: i64) {
        let charged = self.charged.fetch_add(1, Ordering::SeqCst) + 1;
        if self.silent_at.is_some_and(|silent_at| charged >= silent_at) {
            println!("order {order} is charged, and the answer is on its way");
            std::future::pending::<()>().await;
        }
    }
}
