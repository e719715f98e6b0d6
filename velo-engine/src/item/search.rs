//! Searching documents.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use sqlx::{Acquire, PgConnection, PgPool};

use super::put::{LANGUAGE, check_embedding};
use super::{FILTERS_MAX, Filter, Item, ItemError, Namespace, filter};
use crate::store;
use crate::store::item::{Found, Wanted};
use crate::vault::Vault;

/// Documents of one page unless somebody says otherwise.
pub const LIMIT_DEFAULT: u32 = 10;
/// Most documents of one page.
pub const ITEMS_MAX: u32 = 100;

const SEARCHING: &str = "search the items";

/// A search about to be made. Await it, or [`in_tx`](Self::in_tx).
///
/// Documents come in the order of namespace and key; by text, those that fit best first; by vector, those
/// nearest first. Documents that have expired are not found.
#[must_use = "nothing is searched before it is awaited"]
pub struct Search {
    pool: PgPool,
    vault: Vault,
    range: (String, String),
    filters: Vec<Filter>,
    text: Option<String>,
    language: String,
    vector: Option<Vec<f32>>,
    limit: u32,
    after: Option<ItemCursor>,
    refresh: bool,
}

/// A page of what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemPage {
    /// The documents.
    pub items: Vec<Item>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<ItemCursor>,
}

/// A place in what is found, for [`Search::after`]. It can be kept as JSON, and goes with the search that
/// gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemCursor {
    namespace: Namespace,
    key: String,
    /// The bits of a number: as a number it might be rounded on its way.
    away: Option<u64>,
}

impl Search {
    pub(crate) fn new(pool: PgPool, vault: Vault, range: (String, String)) -> Self {
        Self {
            pool,
            vault,
            range,
            filters: Vec::new(),
            text: None,
            language: LANGUAGE.to_owned(),
            vector: None,
            limit: LIMIT_DEFAULT,
            after: None,
            refresh: false,
        }
    }

    /// Only documents that fit the filter, and all others that are given.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Only documents with these words, those that fit best first. Words are all wanted; `or` between two
    /// wants one of them, a minus before one wants it not to be there, and quotes want words side by side.
    pub fn text(mut self, words: impl Into<String>) -> Self {
        self.text = Some(words.into());
        self
    }

    /// The language of [`text`](Self::text), as [`Put::language`](super::Put::language).
    pub fn language(mut self, name: impl Into<String>) -> Self {
        self.language = name.into();
        self
    }

    /// Documents with an embedding of as many numbers, those first that point most nearly the same way: by
    /// the cosine. Needs the extension pgvector in the database.
    ///
    /// Every document under the prefix is compared. For many, an index on `embedding` of your own, cast to
    /// `vector(n)`, serves statements of your own.
    pub fn near(mut self, embedding: Vec<f32>) -> Self {
        self.vector = Some(embedding);
        self
    }

    /// At most so many documents, and [`ITEMS_MAX`]; [`LIMIT_DEFAULT`] otherwise.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Only documents after this place, which another page gave; the first page otherwise.
    pub fn after(mut self, cursor: impl Into<Option<ItemCursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// Has what is found live on, for its whole time from now on.
    pub fn refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// Searches as the transaction of `conn` sees the documents.
    ///
    /// # Errors
    /// As when it is awaited.
    ///
    /// # Cancel safety
    /// Part of the caller's transaction.
    pub async fn in_tx(self, conn: &mut PgConnection) -> Result<ItemPage, ItemError> {
        if let Some(what) = self.looks_into().filter(|_| self.vault.is_sealing()) {
            return Err(ItemError::UnderCodec { what });
        }
        if self.filters.len() > FILTERS_MAX {
            return Err(ItemError::TooManyFilters {
                filters: self.filters.len(),
                most: FILTERS_MAX,
            });
        }
        let is_odd = |text: &String| text.contains('\0');
        if self.filters.iter().any(Filter::has_nul) || self.text.as_ref().is_some_and(is_odd) {
            return Err(ItemError::Nul);
        }
        if let Some(vector) = &self.vector {
            check_embedding(vector)?;
            if !has_vectors(conn).await? {
                return Err(ItemError::NoVectors);
            }
        }
        let limit = self.limit.min(ITEMS_MAX) as usize;
        let mut found = self.found(conn, limit).await?;
        let is_more = found.len() > limit;
        found.truncate(limit);
        if self.refresh && !found.is_empty() {
            let places: Vec<_> = found.iter().map(Found::place).collect();
            let refreshed = store::item::refresh(conn, &places).await;
            refreshed.map_err(ItemError::on(SEARCHING))?;
        }
        let next = found.last().filter(|_| is_more).map(|last| ItemCursor {
            namespace: Namespace::decoded(&last.namespace),
            key: last.key.clone(),
            away: last.away.map(f64::to_bits),
        });
        let score = |away: Option<f64>| match self.vector {
            Some(_) => away.map(|away| 1.0 - away),
            None => away.map(|away| -away),
        };
        let item = |found: Found| {
            Ok(Item {
                score: score(found.away),
                ..found.opened(&self.vault)?
            })
        };
        let items: Result<_, ItemError> = found.into_iter().map(item).collect();
        Ok(ItemPage {
            items: items?,
            next,
        })
    }

    /// For what the database has to look into documents.
    fn looks_into(&self) -> Option<&'static str> {
        if self.text.is_some() {
            Some("full-text search")
        } else if self.vector.is_some() {
            Some("search by vector")
        } else {
            (!self.filters.is_empty()).then_some("filters")
        }
    }

    /// What is found, with one more than is wanted if there are more.
    async fn found(&self, conn: &mut PgConnection, limit: usize) -> Result<Vec<Found>, ItemError> {
        let after = self.after.as_ref();
        let wanted = Wanted {
            from: &self.range.0,
            to: &self.range.1,
            contained: filter::contained(&self.filters),
            filters: filter::stored(&self.filters),
            after: after.map(|after| (after.namespace.encoded(), after.key.as_str())),
            after_away: after.and_then(|after| after.away).map(f64::from_bits),
            limit: i64::try_from(limit + 1).unwrap_or(i64::MAX),
            language: &self.language,
            text: self.text.as_deref(),
            vector: self.vector.as_deref(),
        };
        let found = store::item::search(conn, wanted).await;
        found.map_err(ItemError::of_language(SEARCHING, &self.language))
    }

    async fn now(self) -> Result<ItemPage, ItemError> {
        let failed = ItemError::on(SEARCHING);
        let mut conn = self.pool.acquire().await.map_err(failed)?;
        self.in_tx(conn.acquire().await.map_err(failed)?).await
    }
}

/// Whether the database can compare vectors.
async fn has_vectors(conn: &mut PgConnection) -> Result<bool, ItemError> {
    let found = store::item::has_vectors(conn).await;
    found.map_err(ItemError::on("look for the extension pgvector"))
}

impl IntoFuture for Search {
    type Output = Result<ItemPage, ItemError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Searches.
    ///
    /// Errors are [`ItemError::TooManyFilters`], [`ItemError::Nul`], [`ItemError::NoLanguage`],
    /// [`ItemError::Embedding`], [`ItemError::NoVectors`], [`ItemError::UnderCodec`] and [`ItemError::Sealed`]
    /// where the engine has a [codec](crate::codec), or the database's. Dropped half-way, nothing is
    /// lost.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.now())
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("filters", &self.filters)
            .field("text", &self.text)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
