//! What workers have told of their graphs.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool};

use crate::outline::Outline;

pub(crate) const PUT: &str = "\
-- velo: outline.put
insert into velo.outline (code, outline)
values ($1, $2)
on conflict (code) do update set outline = excluded.outline, at = clock_timestamp()
where velo.outline.outline is distinct from excluded.outline";

pub(crate) async fn put(
    db: impl PgExecutor<'_>,
    code: &str,
    outline: &Outline,
) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(code)
        .bind(Json(outline))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const GET: &str = "\
-- velo: outline.get
select outline
from velo.outline
where code = $1";

pub(crate) async fn get(db: impl PgExecutor<'_>, code: &str) -> Result<Option<Value>, sqlx::Error> {
    sqlx::query_scalar(GET).bind(code).fetch_optional(db).await
}

pub(crate) const LIST: &str = "\
-- velo: outline.list
select code
from velo.outline
where code > $1
order by code
limit $2";

pub(crate) async fn list(
    pool: &PgPool,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(LIST)
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await
}
