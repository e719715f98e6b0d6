//! The shop's own tables.

use sqlx::{FromRow, PgPool};
use velo_engine::EngineError;
use velo_engine::prelude::*;

use super::order::{Item, Order};

/// The shop: a service that had a database before it had an engine.
#[derive(Debug, Clone)]
pub struct Shop {
    engine: Engine,
    graph: Graph<Order>,
}

/// How an order stands, for people.
#[derive(Debug, Clone, FromRow)]
pub struct Ending {
    /// The order.
    pub id: i64,
    /// Its run.
    pub run_id: RunId,
    /// Where it goes.
    pub country: String,
    /// `placed`, `shipped` or `refunded`.
    pub status: String,
    /// Charges in the provider's books.
    pub charges: i64,
    /// How often the provider was asked for them.
    pub asked: i64,
    /// Whether the money was given back.
    pub is_refunded: bool,
    /// Parcels handed to the carrier.
    pub parcels: i64,
}

// Neither `parcel` nor `charge` keeps a second row of one order out: that there is none is the
// engine's work, and can be seen to be.
const TABLES: &str = "\
create schema if not exists shop;
create table if not exists shop.stock (
  sku text primary key,
  available integer not null check (available >= 0)
);
create table if not exists shop.orders (
  id bigint generated always as identity primary key,
  country text not null,
  status text not null default 'placed',
  run_id bigint
);
create table if not exists shop.parcel (
  order_id bigint not null,
  tracking text not null,
  boxes text[] not null
);
create table if not exists shop.charge (
  key text primary key,
  order_id bigint not null,
  cents bigint not null,
  asked integer not null default 1,
  is_refunded boolean not null default false
)";

const LOCK: &str = "\
select pg_advisory_xact_lock(hashtext('shop'))";

const DELIVER: &str = "\
insert into shop.stock (sku, available)
values ($1, $2)
on conflict (sku) do update set available = shop.stock.available + excluded.available";

const INSERT: &str = "\
insert into shop.orders (country)
values ($1)
returning id";

const NOTE_RUN: &str = "\
update shop.orders
set run_id = $2
where id = $1";

const ENDINGS: &str = "\
select o.id, o.run_id, o.country, o.status,
       (select count(*) from shop.charge c where c.order_id = o.id) as charges,
       (select coalesce(sum(c.asked), 0) from shop.charge c where c.order_id = o.id) as asked,
       exists (select from shop.charge c where c.order_id = o.id and c.is_refunded) as is_refunded,
       (select count(*) from shop.parcel p where p.order_id = o.id) as parcels
from shop.orders o
where o.run_id = any ($1)
order by o.id";

impl Shop {
    /// Opens the shop: creates its tables and the engine's.
    ///
    /// # Errors
    /// The database's, or those of the graph.
    ///
    /// # Cancel safety
    /// Call it again.
    pub async fn open(pool: PgPool) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut tx = pool.begin().await?;
        // `if not exists` is no help to two processes that create the same thing at once.
        sqlx::query(LOCK).execute(&mut *tx).await?;
        sqlx::raw_sql(TABLES).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Self {
            engine: Engine::migrate_and_connect(pool).await?,
            graph: super::graph()?,
        })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The way of its orders.
    #[must_use]
    pub fn graph(&self) -> &Graph<Order> {
        &self.graph
    }

    /// Puts goods on the shelf.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the goods may be there or not.
    pub async fn deliver(&self, sku: &str, quantity: i32) -> Result<(), sqlx::Error> {
        let deliver = sqlx::query(DELIVER).bind(sku).bind(quantity);
        deliver.execute(self.engine.pool()).await?;
        Ok(())
    }

    /// Takes an order: its row and its run are there together, or neither is.
    ///
    /// # Errors
    /// The database's, or the engine's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the order may have been taken or not.
    pub async fn place(&self, country: &str, items: Vec<Item>) -> Result<RunId, EngineError> {
        let placing = |source| EngineError::Database {
            doing: "place the order",
            source,
        };
        let mut tx = self.engine.pool().begin().await.map_err(placing)?;
        let insert = sqlx::query_scalar(INSERT).bind(country);
        let id: i64 = insert.fetch_one(&mut *tx).await.map_err(placing)?;
        let order = Order {
            id,
            country: country.to_owned(),
            items,
            ..Order::default()
        };
        let start = self
            .engine
            .start(&self.graph, order)
            .thread(format!("order/{id}"));
        let run = start.in_tx(&mut tx).await?;
        let note = sqlx::query(NOTE_RUN).bind(id).bind(run);
        note.execute(&mut *tx).await.map_err(placing)?;
        tx.commit().await.map_err(placing)?;
        Ok(run)
    }

    /// How the orders of these runs stand.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn endings(&self, runs: &[RunId]) -> Result<Vec<Ending>, sqlx::Error> {
        let ids: Vec<i64> = runs.iter().map(|run| run.as_i64()).collect();
        sqlx::query_as(ENDINGS)
            .bind(ids)
            .fetch_all(self.engine.pool())
            .await
    }
}
