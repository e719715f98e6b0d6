//! The long-term store: documents under a namespace and a key, which outlive runs.
//!
//! Under a [codec](crate::codec) values are sealed, and the database cannot look into them: documents are found by
//! namespace and key alone, and whatever would need more is refused with [`ItemError::UnderCodec`].
//!
//! What callers write through [`Engine::items`] is there at once, or with their own transaction. What a
//! node writes through [`Context::put`](crate::Context::put) is there when its step is committed, once, and
//! not at all when the attempt fails or its worker has lost the run.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use velo_engine::Engine;
//! use serde_json::json;
//! use velo_engine::item::{Filter, Namespace};
//!
//! # async fn example(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
//! let ada = Namespace::new(["users", "ada"])?;
//! let month = Duration::from_secs(30 * 86_400);
//! let items = engine.items();
//! items.put(&ada, "colour", &json!({ "likes": "blue", "sure": 0.9 })).ttl(month).await?;
//!
//! let found = items
//!     .search(&Namespace::new(["users"])?)
//!     .filter(Filter::gt("sure", 0.5))
//!     .text("blue")
//!     .limit(20)
//!     .await?;
//! for item in &found.items {
//!     println!("{} of {}: {}", item.key, item.namespace, item.value);
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod filter;
mod listing;
mod namespace;
mod put;
mod read;
mod search;
mod sweep;
mod text;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use crate::engine::Engine;
use crate::store;
use crate::vault::Vault;

pub use error::ItemError;
pub use filter::{FILTERS_MAX, Filter};
pub use listing::{NamespaceCursor, NamespacePage, Namespaces, WALK_MAX};
pub use namespace::{LABEL_MAX, LABELS_MAX, Namespace};
pub use put::{EMBEDDING_MAX, Put, VALUE_MAX};
pub(crate) use put::{NewItem, Target};
pub use read::Get;
pub use search::{ITEMS_MAX, ItemCursor, ItemPage, LIMIT_DEFAULT, Search};
pub use sweep::{SWEEP_BATCH, SWEEPS_MAX, sweep};
pub use text::TEXT_MAX;

/// Most bytes of a key.
pub const KEY_MAX: usize = 1_024;

/// A document of the long-term store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Where it is.
    pub namespace: Namespace,
    /// Its name there.
    pub key: String,
    /// What was put.
    pub value: Value,
    /// When it was first put.
    pub created_at: DateTime<Utc>,
    /// When it was last put.
    pub updated_at: DateTime<Utc>,
    /// From when on it is not there any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// How well it fits what was searched for, more being better: by text its rank, by vector the cosine of
    /// the angle, from -1 to 1. `None` when it was found otherwise.
    pub score: Option<f64>,
}

impl Item {
    /// The value as a type.
    ///
    /// # Errors
    /// [`ItemError::Unreadable`] when it is none of `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ItemError> {
        T::deserialize(&self.value).map_err(|source| ItemError::Unreadable {
            namespace: self.namespace.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

/// The long-term store of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Items {
    pool: PgPool,
    vault: Vault,
}

impl Engine {
    /// The long-term store.
    #[must_use]
    pub fn items(&self) -> Items {
        Items {
            pool: self.pool().clone(),
            vault: self.vault().clone(),
        }
    }
}

impl Items {
    /// Puts a document, in place of one that is there: await what is returned, or say more first.
    ///
    /// All texts in `value` are indexed for full-text search, up to [`TEXT_MAX`] bytes.
    pub fn put<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a str,
        value: &impl Serialize,
    ) -> Put<'a> {
        Put::new(Target::Pool(&self.pool, &self.vault), namespace, key, value)
    }

    /// The document of this key, unless it has expired: await what is returned.
    pub fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a str) -> Get<'a> {
        Get::new(Target::Pool(&self.pool, &self.vault), namespace, key)
    }

    /// Deletes the document of this key; whether there was one.
    ///
    /// # Errors
    /// [`ItemError::Key`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn delete(&self, namespace: &Namespace, key: &str) -> Result<bool, ItemError> {
        check_key(key)?;
        let deleted = store::item::delete(&self.pool, &namespace.encoded(), key).await;
        deleted.map_err(ItemError::on("delete the item"))
    }

    /// As [`delete`](Self::delete), in the caller's transaction.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    ///
    /// # Cancel safety
    /// Part of the caller's transaction.
    pub async fn delete_in_tx(
        &self,
        conn: &mut PgConnection,
        namespace: &Namespace,
        key: &str,
    ) -> Result<bool, ItemError> {
        check_key(key)?;
        let deleted = store::item::delete(conn, &namespace.encoded(), key).await;
        deleted.map_err(ItemError::on("delete the item"))
    }

    /// Searches the documents of this namespace and of all that are under it: await what is returned, or
    /// say more first.
    pub fn search(&self, prefix: &Namespace) -> Search {
        Search::new(self.pool.clone(), self.vault.clone(), prefix.range())
    }

    /// Searches all documents.
    pub fn search_all(&self) -> Search {
        Search::new(
            self.pool.clone(),
            self.vault.clone(),
            namespace::everything(),
        )
    }

    /// Lists the namespaces that have documents, in their order: await what is returned, or say more first.
    pub fn namespaces(&self) -> Namespaces {
        Namespaces::new(self.pool.clone())
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), ItemError> {
    if key.is_empty() || key.len() > KEY_MAX || key.contains('\0') {
        return Err(ItemError::Key);
    }
    Ok(())
}
