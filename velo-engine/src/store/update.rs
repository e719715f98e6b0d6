//! Updates: requests to runs, and their answers.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::run::RunStatus;
use crate::lease::Lease;
use crate::run_id::RunId;

/// Most updates of a run that are not answered.
pub const OPEN_UPDATES_MAX: usize = 100;
/// Most updates that a run accepts between two steps.
pub const UPDATES_MAX: usize = 1_000;

/// An update that somebody has asked a run for.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct RunUpdate {
    /// Its id, chosen by who asked.
    #[sqlx(rename = "key")]
    pub id: String,
    /// Which update.
    pub name: String,
    /// What was asked for.
    pub request: Value,
    /// When.
    pub asked_at: DateTime<Utc>,
    /// Whether it was accepted; `None` until it is answered.
    pub is_accepted: Option<bool>,
    /// The answer, or the [`Refusal`](crate::Refusal).
    pub answer: Option<Value>,
    /// When it was answered.
    pub answered_at: Option<DateTime<Utc>>,
    /// The step that has what it wrote; `None` while that is not committed, and when it was refused.
    #[sqlx(rename = "used_seq")]
    pub step: Option<i32>,
}

/// An update that is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenUpdate {
    pub(crate) number: i64,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) request: Value,
}

// As a signal: the run's row in the queue is locked before anything is decided, and so the order of the numbers is
// that of the commits.
pub(crate) const ASK: &str = concat!(
    "\
-- velo: update.ask
",
    lock_run!(),
    ", asked as (
  insert into velo.run_update (run_id, key, name, request)
  select run.id, $2, $3, $4
  from run
  where run.status <> 'paused'
    and (select count(*) from velo.run_update o where o.run_id = $1 and o.used_seq is null and o.verdict is null) < $5
  on conflict (run_id, key) do nothing
  returning run_id
), poked as (
  update velo.queue q
",
    poke!(),
    "\
  from locked l, run, asked a
  where q.run_id = a.run_id and q.branch = 0
), told as (
  update velo.run r
  set status = 'active'
  from run, asked a
  where r.id = a.run_id and run.status = 'waiting'
)
select (select status from run) as status,
       (select count(*) from asked) = 1 as is_new,
       coalesce((select worker is not null from locked), false) as is_at_work"
);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(crate) struct Asked {
    /// How the run stood; `None` when it has ended or never was.
    pub(crate) status: Option<RunStatus>,
    /// Whether it was stored now.
    pub(crate) is_new: bool,
    /// Whether a worker has the run.
    pub(crate) is_at_work: bool,
}

/// Asks a run for an update.
pub(crate) async fn ask(
    db: impl PgExecutor<'_>,
    run: RunId,
    key: &str,
    name: &str,
    request: &Value,
) -> Result<Asked, sqlx::Error> {
    sqlx::query_as(ASK)
        .bind(run)
        .bind(key)
        .bind(name)
        .bind(Json(request))
        .bind(i64::try_from(OPEN_UPDATES_MAX).unwrap_or(i64::MAX))
        .fetch_one(db)
        .await
}

pub(crate) const CALL: &str = "\
-- velo: update.call
select pg_notify('velo_queue', 'call')";

/// Has workers look what has come for the runs that they have. A hint alone: they also look by themselves.
pub(crate) async fn call(db: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(CALL).execute(db).await?;
    Ok(())
}

pub(crate) const GET: &str = "\
-- velo: update.get
select r.finished_at is not null as is_ended,
       u.key is not null as is_there,
       coalesce(u.name, '') as name, u.request, u.verdict, u.answer
from velo.run r
left join velo.run_update u on u.run_id = r.id and u.key = $2
where r.id = $1";

/// How a request stands.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Found {
    pub(crate) is_ended: bool,
    pub(crate) is_there: bool,
    pub(crate) name: String,
    pub(crate) request: Option<Value>,
    pub(crate) verdict: Option<String>,
    pub(crate) answer: Option<Value>,
}

/// How the request stands; `None` when there is no such run.
pub(crate) async fn get(
    db: impl PgExecutor<'_>,
    run: RunId,
    key: &str,
) -> Result<Option<Found>, sqlx::Error> {
    sqlx::query_as(GET)
        .bind(run)
        .bind(key)
        .fetch_optional(db)
        .await
}

pub(crate) const LIST: &str = "\
-- velo: update.list
select key, name, request, asked_at, verdict = 'accepted' as is_accepted, answer, answered_at, used_seq
from velo.run_update
where run_id = $1
order by number
limit $2";

/// The updates of a run, in the order in which they were asked for.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    run: RunId,
    limit: i64,
) -> Result<Vec<RunUpdate>, sqlx::Error> {
    sqlx::query_as(LIST)
        .bind(run)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const ANSWER: &str = "\
-- velo: update.answer
select velo.answer_updates($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Answers to updates, as stored.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) numbers: Vec<i64>,
    pub(crate) verdicts: Vec<&'static str>,
    pub(crate) answers: Vec<Json<Value>>,
    pub(crate) writes: Vec<Option<Vec<u8>>>,
    pub(crate) signals: Vec<String>,
    pub(crate) payloads: Vec<Json<Value>>,
}

/// What became of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Done,
    /// A step was committed meanwhile.
    Behind,
    /// The lease is gone.
    Lost,
}

/// Stores answers that were found from the state after step `seq`.
pub(crate) async fn answer(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    answers: &Answers,
) -> Result<Stored, sqlx::Error> {
    let stored: String = sqlx::query_scalar(ANSWER)
        .bind(lease.worker)
        .bind(lease.run)
        .bind(lease.fence)
        .bind(seq)
        .bind(&answers.numbers)
        .bind(&answers.verdicts)
        .bind(&answers.answers)
        .bind(&answers.writes)
        .bind(&answers.signals)
        .bind(&answers.payloads)
        .fetch_one(db)
        .await?;
    Ok(match stored.as_str() {
        "done" => Stored::Done,
        "behind" => Stored::Behind,
        _ => Stored::Lost,
    })
}

pub(crate) const USE: &str = "\
-- velo: update.use
update velo.run_update
set used_seq = $3
where run_id = $1
  and number = any($2)
  and used_seq is null
  and verdict = 'accepted'";

/// Marks updates as part of a step; `false` when one of them was part of another already.
pub(crate) async fn use_updates(
    conn: &mut PgConnection,
    run: RunId,
    numbers: &[i64],
    seq: i32,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(USE)
        .bind(run)
        .bind(numbers)
        .bind(seq)
        .execute(conn)
        .await?;
    Ok(usize::try_from(done.rows_affected()) == Ok(numbers.len()))
}
