//! Events: an ordered, gap-free log for each stream, written in the transaction of what they tell.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, PgPool};

use crate::run_id::RunId;

/// The channel on which `append` tells listeners the name of a stream that has grown.
pub const CHANNEL: &str = "velo_event";

/// Most events that one [`read`] returns.
pub const PAGE_MAX: i64 = 1_000;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Event {
    /// The stream, such as `project/<uuid>`.
    pub stream: String,
    /// Place in the stream, from one, without gaps.
    pub seq: i64,
    /// What kind of event it is, such as `task_created`.
    pub kind: String,
    /// Its fields.
    pub body: Value,
    /// The run that caused it, if one did.
    #[sqlx(rename = "run_id")]
    pub run: Option<RunId>,
    /// When it was written, by the database's clock.
    pub at: DateTime<Utc>,
}

const APPEND: &str = "\
-- velo: events.append
with place as (
  insert into velo.stream (name, last_seq)
  values ($1, 1)
  on conflict (name) do update set last_seq = velo.stream.last_seq + 1
  returning last_seq
)
insert into velo.event (stream, seq, kind, body, run_id)
select $1, last_seq, $2, $3, $4
from place
returning seq";

const NOTIFY: &str = "\
-- velo: events.notify
select pg_notify($1, $2)";

const READ: &str = "\
-- velo: events.read
select stream, seq, kind, body, run_id, at
from velo.event
where stream = $1 and seq > $2
order by seq
limit $3";

/// The stream of a run, to which its nodes [`emit`](crate::Context::emit).
#[must_use]
pub fn run_stream(run: RunId) -> String {
    format!("run/{run}")
}

/// Every statement of this module, for a test that prepares them all.
pub const STATEMENTS: &[&str] = &[APPEND, NOTIFY, READ];

/// Appends an event to `stream` and returns its place. It is seen when the transaction of `conn` commits.
///
/// Until then other writers to the same stream wait.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Dropped half-way, the transaction of `conn` may or may not hold the event: roll it back.
pub async fn append(
    conn: &mut PgConnection,
    stream: &str,
    kind: &str,
    body: &Value,
) -> Result<i64, sqlx::Error> {
    append_for(conn, stream, kind, body, None).await
}

/// Appends an event that `run` caused; otherwise as [`append`].
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// As [`append`].
pub async fn append_for(
    conn: &mut PgConnection,
    stream: &str,
    kind: &str,
    body: &Value,
    run: Option<RunId>,
) -> Result<i64, sqlx::Error> {
    let insert = sqlx::query_scalar(APPEND)
        .bind(stream)
        .bind(kind)
        .bind(body)
        .bind(run);
    let seq = insert.fetch_one(&mut *conn).await?;
    sqlx::query(NOTIFY)
        .bind(CHANNEL)
        .bind(stream)
        .execute(conn)
        .await?;
    Ok(seq)
}

/// The events of `stream` after the place `after`, oldest first, at most `limit` and [`PAGE_MAX`].
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn read(
    pool: &PgPool,
    stream: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, sqlx::Error> {
    let page = limit.clamp(0, PAGE_MAX);
    sqlx::query_as(READ)
        .bind(stream)
        .bind(after)
        .bind(page)
        .fetch_all(pool)
        .await
}
