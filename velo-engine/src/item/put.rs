//! Putting a document.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::{Item, ItemError, Namespace, check_key, text};
use crate::context::Scene;
use crate::storable::{self, NotStorable};
use crate::store;
use crate::store::failure::LONGEST;
use crate::vault::Vault;

/// Most bytes of a value, as JSON.
pub const VALUE_MAX: usize = 1024 * 1024;
/// Most numbers of an embedding.
pub const EMBEDDING_MAX: usize = 16_000;

/// How texts are cut into words unless somebody says otherwise: as they are, in lower case.
pub(super) const LANGUAGE: &str = "simple";

pub(super) const PUTTING: &str = "put the item";

/// Where documents are written and read: by a caller at once, or by a node with its step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    Pool(&'a PgPool, &'a Vault),
    Node(&'a Scene),
}

impl Target<'_> {
    pub(super) fn vault(&self) -> &Vault {
        match self {
            Self::Pool(_, vault) => vault,
            Self::Node(scene) => &scene.vault,
        }
    }
}

/// A document about to be put. Await it, or [`in_tx`](Self::in_tx).
#[must_use = "nothing is put before it is awaited"]
pub struct Put<'a> {
    target: Target<'a>,
    item: Result<NewItem, ItemError>,
}

/// A checked document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewItem {
    pub(crate) namespace: Namespace,
    pub(crate) key: String,
    pub(crate) value: Value,
    /// The value as it is stored, when that is not as it is.
    pub(crate) sealed: Option<Value>,
    pub(crate) ttl: Option<Duration>,
    /// What full-text search finds it by.
    pub(crate) text: Option<String>,
    pub(crate) language: String,
    pub(crate) embedding: Option<Vec<f32>>,
}

impl<'a> Put<'a> {
    pub(crate) fn new(
        target: Target<'a>,
        namespace: &Namespace,
        key: &str,
        value: &impl Serialize,
    ) -> Self {
        let item = NewItem::new(namespace, key, value);
        Self {
            target,
            item: item.and_then(|item| item.sealed_by(target.vault())),
        }
    }

    /// Has it expire: so long after it was put, or after somebody read it and had it live on. Nobody sees
    /// it from then on, and workers delete it some time later.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.item = self.item.and_then(|item| {
            if ttl < Duration::from_micros(1) {
                return Err(ItemError::Ttl);
            }
            Ok(NewItem {
                ttl: Some(ttl.min(LONGEST)),
                ..item
            })
        });
        self
    }

    /// What full-text search finds it by, instead of the texts of its value, up to
    /// [`TEXT_MAX`](super::TEXT_MAX) bytes; with an empty text it is not found by text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        let is_sealing = self.target.vault().is_sealing();
        self.item = self.item.and_then(|item| {
            if is_sealing && !text.is_empty() {
                return Err(ItemError::UnderCodec {
                    what: "a text to find an item by",
                });
            }
            if text.contains('\0') {
                return Err(ItemError::Nul);
            }
            Ok(NewItem {
                text: some_text(text::cut(text)),
                ..item
            })
        });
        self
    }

    /// How its text is cut into words and these are made alike, such as `english`; a text search
    /// configuration of the database. Search in the same language. `simple` otherwise: all words as they are.
    pub fn language(mut self, name: impl Into<String>) -> Self {
        if let Ok(item) = &mut self.item {
            item.language = name.into();
        }
        self
    }

    /// What a search by vector finds it by. Kept also where the database cannot compare vectors yet.
    pub fn embedding(mut self, embedding: Vec<f32>) -> Self {
        let is_sealing = self.target.vault().is_sealing();
        self.item = self.item.and_then(|item| {
            if is_sealing {
                return Err(ItemError::UnderCodec {
                    what: "an embedding",
                });
            }
            check_embedding(&embedding)?;
            Ok(NewItem {
                embedding: Some(embedding),
                ..item
            })
        });
        self
    }

    /// Puts it when the transaction of `conn` commits, and only then.
    ///
    /// # Errors
    /// As when it is awaited.
    ///
    /// # Cancel safety
    /// Part of the caller's transaction.
    pub async fn in_tx(self, conn: &mut PgConnection) -> Result<(), ItemError> {
        let item = self.item?;
        let put = store::item::put(conn, &item).await;
        put.map_err(ItemError::of_language(PUTTING, &item.language))
    }

    async fn now(self) -> Result<(), ItemError> {
        let item = self.item?;
        match self.target {
            Target::Pool(pool, _) => store::item::put(pool, &item)
                .await
                .map_err(ItemError::of_language(PUTTING, &item.language)),
            Target::Node(scene) => scene.put_item(item),
        }
    }
}

impl NewItem {
    fn new(namespace: &Namespace, key: &str, value: &impl Serialize) -> Result<Self, ItemError> {
        check_key(key)?;
        let value = storable::to_value("value", value).map_err(|error| match error {
            NotStorable::Bad(bad) => ItemError::BadValue(bad),
            NotStorable::Json(source) => ItemError::Unstorable(source),
        })?;
        let bytes = value.to_string().len();
        if bytes > VALUE_MAX {
            return Err(ItemError::TooLarge {
                bytes,
                most: VALUE_MAX,
            });
        }
        Ok(Self {
            namespace: namespace.clone(),
            key: key.to_owned(),
            text: some_text(text::of(&value)),
            value,
            sealed: None,
            ttl: None,
            language: LANGUAGE.to_owned(),
            embedding: None,
        })
    }

    /// As it is stored by this vault. Under a codec nothing of it is found by text.
    fn sealed_by(mut self, vault: &Vault) -> Result<Self, ItemError> {
        let sealed = vault.seal_item(&self.namespace.encoded(), &self.key, &self.value);
        self.sealed = sealed.map_err(|source| ItemError::Sealed {
            doing: "seal the item",
            namespace: self.namespace.clone(),
            key: self.key.clone(),
            source,
        })?;
        if vault.is_sealing() {
            self.text = None;
        }
        Ok(self)
    }

    /// As it will be, if it is put now.
    pub(crate) fn at(&self, now: DateTime<Utc>) -> Item {
        Item {
            namespace: self.namespace.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            created_at: now,
            updated_at: now,
            expires_at: self.ttl.map(|ttl| now + ttl),
            score: None,
        }
    }
}

pub(super) fn check_embedding(embedding: &[f32]) -> Result<(), ItemError> {
    let is_short = (1..=EMBEDDING_MAX).contains(&embedding.len());
    // What has no length has no direction either.
    let length: f64 = embedding.iter().map(|x| f64::from(*x).powi(2)).sum();
    if is_short && length.is_finite() && length > 0.0 {
        Ok(())
    } else {
        Err(ItemError::Embedding)
    }
}

fn some_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl<'a> IntoFuture for Put<'a> {
    type Output = Result<(), ItemError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Puts it. By a caller it is there when this returns; in a node, when the step is committed.
    ///
    /// Errors are [`ItemError::Key`], [`ItemError::Unstorable`], [`ItemError::BadValue`], [`ItemError::Nul`],
    /// [`ItemError::UnderCodec`], [`ItemError::Sealed`], [`ItemError::TooLarge`], [`ItemError::Ttl`], [`ItemError::Embedding`], [`ItemError::NoLanguage`], in
    /// a node [`ItemError::TooManyWrites`], or the database's. Dropped half-way, it may or may not be
    /// there: a second time does no harm.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.now())
    }
}

impl fmt::Debug for Put<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Put");
        if let Ok(item) = &self.item {
            f.field("namespace", &item.namespace)
                .field("key", &item.key);
        }
        f.finish_non_exhaustive()
    }
}
