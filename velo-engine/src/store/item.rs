//! The rows of the long-term store.
//!
//! Times are the statement's: an index can be asked with it, and in a long transaction of a caller it goes on.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};

use super::failure::interval;
use crate::item::{Item, ItemError, Namespace, NewItem};
use crate::vault::Vault;

pub(crate) const PUT: &str = "\
-- velo: item.put
insert into velo.item (namespace, key, value, ttl, expires_at, search, embedding)
values ($1, $2, $3, $4, statement_timestamp() + $4,
        case when $5::text is not null then to_tsvector($6::text::regconfig, $5) end, $7)
on conflict (namespace, key) do update
set value = excluded.value,
    ttl = excluded.ttl,
    expires_at = excluded.expires_at,
    search = excluded.search,
    embedding = excluded.embedding,
    updated_at = excluded.updated_at,
    -- One that has expired is a document of its own, whether or not it is deleted yet.
    created_at = case when velo.item.expires_at <= statement_timestamp()
                      then excluded.created_at else velo.item.created_at end";

pub(crate) async fn put(db: impl PgExecutor<'_>, item: &NewItem) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(item.namespace.encoded())
        .bind(&item.key)
        .bind(item.sealed.as_ref().unwrap_or(&item.value))
        .bind(item.ttl.map(interval))
        .bind(&item.text)
        .bind(&item.language)
        .bind(&item.embedding)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const GET: &str = "\
-- velo: item.get
select namespace, key, value, created_at, updated_at, expires_at, null::float8 as away
from velo.item
where namespace = $1
  and key = $2
  and (expires_at is null or expires_at > statement_timestamp())";

pub(crate) async fn get(
    db: impl PgExecutor<'_>,
    namespace: &str,
    key: &str,
) -> Result<Option<Found>, sqlx::Error> {
    sqlx::query_as(GET)
        .bind(namespace)
        .bind(key)
        .fetch_optional(db)
        .await
}

pub(crate) const DELETE: &str = "\
-- velo: item.delete
with gone as (
  delete from velo.item
  where namespace = $1
    and key = $2
  returning expires_at
)
select exists (select from gone where expires_at is null or expires_at > statement_timestamp())";

/// Deletes one; whether it was there for others to see.
pub(crate) async fn delete(
    db: impl PgExecutor<'_>,
    namespace: &str,
    key: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(DELETE)
        .bind(namespace)
        .bind(key)
        .fetch_one(db)
        .await
}

// In one order, so that two at once do not wait for each other.
pub(crate) const REFRESH: &str = "\
-- velo: item.refresh
with locked as (
  select i.namespace, i.key
  from unnest($1::text[], $2::text[]) as g (namespace, key)
  join velo.item i on i.namespace = g.namespace collate \"C\" and i.key = g.key collate \"C\"
  where i.expires_at > statement_timestamp()
  order by i.namespace, i.key
  for update of i
)
update velo.item i
set expires_at = statement_timestamp() + i.ttl
from locked l
where i.namespace = l.namespace and i.key = l.key";

/// Has those that are to expire live on.
pub(crate) async fn refresh(
    db: impl PgExecutor<'_>,
    places: &[Place<'_>],
) -> Result<(), sqlx::Error> {
    let namespaces: Vec<&str> = places.iter().map(|place| place.namespace).collect();
    let keys: Vec<&str> = places.iter().map(|place| place.key).collect();
    sqlx::query(REFRESH)
        .bind(namespaces)
        .bind(keys)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const SWEEP: &str = "\
-- velo: item.sweep
delete from velo.item
where (namespace, key) in (
  select namespace, key
  from velo.item
  where expires_at <= statement_timestamp()
  order by expires_at
  limit $1
  for update skip locked)";

/// Deletes what has expired; returns how many.
pub(crate) async fn sweep(pool: &PgPool, limit: i64) -> Result<u64, sqlx::Error> {
    let swept = sqlx::query(SWEEP).bind(limit).execute(pool).await?;
    Ok(swept.rows_affected())
}

// From each namespace the next one is looked up, so that a namespace of many documents costs no more than one
// of few.
pub(crate) const NAMESPACES: &str = "\
-- velo: item.namespaces
with recursive walk (namespace, number) as (
  select (select i.namespace
          from velo.item i
          where i.namespace >= $1 and i.namespace < $2
            and (i.expires_at is null or i.expires_at > statement_timestamp())
          order by i.namespace
          limit 1), 1::bigint
  union all
  select (select i.namespace
          from velo.item i
          where i.namespace >= case
                  when cardinality(l.labels) >= $3 then array_to_string(l.labels[1:$3], chr(1)) || chr(2)
                  else w.namespace || chr(1) end
            and i.namespace < $2
            and (i.expires_at is null or i.expires_at > statement_timestamp())
          order by i.namespace
          limit 1), w.number + 1
  from walk w
  cross join lateral (select string_to_array(rtrim(w.namespace, chr(1)), chr(1)) as labels) l
  where w.namespace is not null and w.number < $4
)
select namespace
from walk
where namespace is not null
order by number";

/// Namespaces with documents, from the first stored form on and before the other; of those of more than
/// `depth` labels, one of each that begin alike.
pub(crate) async fn namespaces(
    pool: &PgPool,
    from: &str,
    before: &str,
    depth: Option<i32>,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(NAMESPACES)
        .bind(from)
        .bind(before)
        .bind(depth)
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// What every search is about: a range of namespaces, what is contained, filters; in `$1` to `$4`.
macro_rules! wanted {
    () => {
        "i.namespace >= $1
    and i.namespace < $2
    and (i.expires_at is null or i.expires_at > statement_timestamp())
    and ($3::jsonb is null or i.value @> $3)
    and ($4::jsonb is null or velo.item_matches(i.value, $4))"
    };
}

pub(crate) const SEARCH: &str = concat!(
    "\
-- velo: item.search
select i.namespace, i.key, i.value, i.created_at, i.updated_at, i.expires_at, null::float8 as away
from velo.item i
where ",
    wanted!(),
    "
    and ($5::text is null or (i.namespace, i.key) > ($5, $6))
order by i.namespace, i.key
limit $7"
);

pub(crate) const SEARCH_TEXT: &str = concat!(
    "\
-- velo: item.search_text
with asked as (
  select websearch_to_tsquery($8::text::regconfig, $9) as query
)
select f.namespace, f.key, f.value, f.created_at, f.updated_at, f.expires_at, f.away
from (
  select i.namespace, i.key, i.value, i.created_at, i.updated_at, i.expires_at,
         -(ts_rank(i.search, asked.query)::float8) as away
  from velo.item i, asked
  where i.search @@ asked.query
    and ",
    wanted!(),
    "
) f
where $10::float8 is null or (f.away, f.namespace, f.key) > ($10, $5, $6)
order by f.away, f.namespace, f.key
limit $7"
);

// Embeddings of another number of dimensions cannot be compared, so they must not be, whatever the order in
// which the conditions are looked at.
const SEARCH_VECTOR: &str = concat!(
    "\
-- velo: item.search_vector
with asked as (
  select $11::real[] as embedding, websearch_to_tsquery($8::text::regconfig, $9::text) as query
)
select f.namespace, f.key, f.value, f.created_at, f.updated_at, f.expires_at, f.away
from (
  select i.namespace, i.key, i.value, i.created_at, i.updated_at, i.expires_at,
         case when cardinality(i.embedding) = cardinality(asked.embedding)
              then i.embedding::vector <=> asked.embedding::vector end as away
  from velo.item i, asked
  where cardinality(i.embedding) = cardinality(asked.embedding)
    and (asked.query is null or i.search @@ asked.query)
    and ",
    wanted!(),
    "
) f
where $10::float8 is null or (f.away, f.namespace, f.key) > ($10, $5, $6)
order by f.away, f.namespace, f.key
limit $7"
);

/// What is searched for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) contained: Option<Value>,
    pub(crate) filters: Option<Value>,
    pub(crate) after: Option<(String, &'a str)>,
    pub(crate) after_away: Option<f64>,
    pub(crate) limit: i64,
    pub(crate) language: &'a str,
    pub(crate) text: Option<&'a str>,
    pub(crate) vector: Option<&'a [f32]>,
}

/// By vector, by text or by place: whichever is asked for first.
pub(crate) async fn search(
    conn: &mut PgConnection,
    wanted: Wanted<'_>,
) -> Result<Vec<Found>, sqlx::Error> {
    let statement = match (wanted.vector, wanted.text) {
        (Some(_), _) => SEARCH_VECTOR,
        (None, Some(_)) => SEARCH_TEXT,
        (None, None) => SEARCH,
    };
    let (namespace, key) = wanted.after.unzip();
    let mut query = sqlx::query_as(statement)
        .bind(wanted.from)
        .bind(wanted.to)
        .bind(wanted.contained)
        .bind(wanted.filters)
        .bind(namespace)
        .bind(key)
        .bind(wanted.limit);
    if wanted.vector.is_some() || wanted.text.is_some() {
        query = query
            .bind(wanted.language)
            .bind(wanted.text)
            .bind(wanted.after_away);
    }
    if let Some(vector) = wanted.vector {
        query = query.bind(vector);
    }
    query.fetch_all(conn).await
}

pub(crate) const HAS_VECTORS: &str = "\
-- velo: item.has_vectors
select to_regtype('vector') is not null";

/// Whether the extension pgvector is there.
pub(crate) async fn has_vectors(db: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(HAS_VECTORS).fetch_one(db).await
}

/// Where a document is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    namespace: &'a str,
    key: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn new(namespace: &'a str, key: &'a str) -> Self {
        Self { namespace, key }
    }
}

/// A document, and how far away it is from what was searched for.
#[derive(Debug, FromRow)]
pub(crate) struct Found {
    pub(crate) namespace: String,
    pub(crate) key: String,
    value: Value,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    pub(crate) away: Option<f64>,
}

impl Found {
    /// The document, opened.
    pub(crate) fn opened(mut self, vault: &Vault) -> Result<Item, ItemError> {
        let opened = vault.open_item(&self.namespace, &self.key, &mut self.value);
        opened.map_err(|source| ItemError::Sealed {
            doing: "open the item",
            namespace: Namespace::decoded(&self.namespace),
            key: self.key.clone(),
            source,
        })?;
        Ok(self.into())
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place::new(&self.namespace, &self.key)
    }
}

impl From<Found> for Item {
    fn from(found: Found) -> Self {
        Self {
            namespace: Namespace::decoded(&found.namespace),
            key: found.key,
            value: found.value,
            created_at: found.created_at,
            updated_at: found.updated_at,
            expires_at: found.expires_at,
            score: None,
        }
    }
}
