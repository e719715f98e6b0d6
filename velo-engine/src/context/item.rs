//! Documents of the long-term store that a node reads and writes.

use std::collections::BTreeMap;

use chrono::Utc;
use serde::Serialize;
use sqlx::PgConnection;

use super::scene::lock;
use super::{Context, Scene, Slot};
use crate::error::{NodeError, NodeErrorKind};
use crate::item::{Get, Item, ItemError, Namespace, NewItem, Put, Search, Target, check_key};
use crate::state::State;
use crate::store;
use crate::store::item::Place;

/// Most documents that one attempt of a node writes.
const WRITES_MAX: usize = 1_000;

/// What an attempt has written, by stored namespace and key: in this order it is committed, so that two nodes
/// that write the same documents do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct ItemWrites(BTreeMap<(String, String), ItemWrite>);

#[derive(Debug)]
enum ItemWrite {
    Put(Box<NewItem>),
    Delete,
    Refresh,
}

impl<S: State, I> Context<S, I> {
    /// Puts a document into the [long-term store](crate::item) when the step is committed, and only then:
    /// once, however often the node runs, and not at all by a worker that has lost the run. Await what is
    /// returned, or say more first. A later put of the same key by the same attempt replaces it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Chat { user: String, said: String }
    /// use velo_engine::item::Namespace;
    ///
    /// async fn remember(cx: Context<Chat>) -> NodeResult<Chat> {
    ///     let memories = Namespace::new(["memories", &cx.state().user])?;
    ///     let before = cx.get(&memories, "last").await?;
    ///     println!("said before: {:?}", before.map(|item| item.value));
    ///     cx.put(&memories, "last", &cx.state().said).await?;
    ///     Ok(Next::none())
    /// }
    /// ```
    pub fn put<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a str,
        value: &impl Serialize,
    ) -> Put<'a> {
        Put::new(Target::Node(&self.scene), namespace, key, value)
    }

    /// Reads a document as this attempt has left it, otherwise as it is committed at this moment: await
    /// what is returned. A node that runs again may find another; what it is to decide by alike each time
    /// it reads in a [`step`](Self::step).
    ///
    /// Once the node has opened its [transaction](Self::tx), it is read through that.
    pub fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a str) -> Get<'a> {
        Get::new(Target::Node(&self.scene), namespace, key)
    }

    /// Deletes a document when the step is committed, and only then.
    ///
    /// # Errors
    /// A permanent error when the key is none, or the attempt writes too many documents.
    pub fn delete(&self, namespace: &Namespace, key: &str) -> Result<(), NodeError> {
        check_key(key)
            .and_then(|()| self.scene.write_item(namespace, key, ItemWrite::Delete))
            .map_err(|error| NodeError::of(NodeErrorKind::Permanent, &error))
    }

    /// Searches the documents of this namespace and of all that are under it, as they are committed at this
    /// moment: what this attempt has written is not found.
    pub fn search(&self, prefix: &Namespace) -> Search {
        Search::new(
            self.scene.pool.clone(),
            self.scene.vault.clone(),
            prefix.range(),
        )
    }
}

impl Scene {
    pub(crate) fn put_item(&self, item: NewItem) -> Result<(), ItemError> {
        let (namespace, key) = (item.namespace.clone(), item.key.clone());
        self.write_item(&namespace, &key, ItemWrite::Put(Box::new(item)))
    }

    /// Reads a document; with `refresh`, has it live on when the step is committed.
    pub(crate) async fn get_item(
        &self,
        namespace: &Namespace,
        key: &str,
        refresh: bool,
    ) -> Result<Option<Item>, ItemError> {
        const READING: &str = "read the item";
        let place = (namespace.encoded(), key.to_owned());
        match lock(&self.items).0.get(&place) {
            Some(ItemWrite::Put(item)) => return Ok(Some(item.at(Utc::now()))),
            Some(ItemWrite::Delete) => return Ok(None),
            Some(ItemWrite::Refresh) | None => (),
        }
        if refresh {
            self.write_item(namespace, key, ItemWrite::Refresh)?;
        }
        let mut slot = self.transaction.try_lock().map_err(|_| ItemError::InUse)?;
        let found = match &mut *slot {
            // A second connection might never come: nodes may hold all but a few.
            Slot::Open(transaction) => store::item::get(&mut **transaction, &place.0, key).await,
            Slot::Unopened | Slot::Closed => {
                drop(slot);
                store::item::get(&self.pool, &place.0, key).await
            }
        };
        let found = found.map_err(ItemError::on(READING))?;
        found.map(|found| found.opened(&self.vault)).transpose()
    }

    fn write_item(
        &self,
        namespace: &Namespace,
        key: &str,
        write: ItemWrite,
    ) -> Result<(), ItemError> {
        let mut writes = lock(&self.items);
        let place = (namespace.encoded(), key.to_owned());
        if writes.0.len() == WRITES_MAX && !writes.0.contains_key(&place) {
            return Err(ItemError::TooManyWrites { most: WRITES_MAX });
        }
        writes.0.insert(place, write);
        Ok(())
    }

    pub(crate) fn take_items(&self) -> ItemWrites {
        std::mem::take(&mut *lock(&self.items))
    }
}

impl ItemWrites {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them in the transaction of `conn`.
    pub(crate) async fn write(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        for ((namespace, key), write) in &self.0 {
            match write {
                ItemWrite::Put(item) => store::item::put(&mut *conn, item).await?,
                ItemWrite::Delete => {
                    store::item::delete(&mut *conn, namespace, key).await?;
                }
                ItemWrite::Refresh => {
                    store::item::refresh(&mut *conn, &[Place::new(namespace, key)]).await?;
                }
            }
        }
        Ok(())
    }
}
