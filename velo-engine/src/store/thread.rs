//! Threads: what keeps them, who waits for them, and what their next run begins from.

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};

use crate::lease::Lease;
use crate::run_id::RunId;
use crate::store::run::RunStatus;

pub(crate) const LIVE: &str = "\
-- velo: thread.live_run
select run_id
from velo.thread
where name = $1
  and is_live";

/// The live run of the thread.
pub(crate) async fn live_run(
    db: impl PgExecutor<'_>,
    thread: &str,
) -> Result<Option<RunId>, sqlx::Error> {
    sqlx::query_scalar(LIVE)
        .bind(thread)
        .fetch_optional(db)
        .await
}

pub(crate) const ADD: &str = "\
-- velo: thread.add
insert into velo.thread (name, run_id, is_live)
values ($1, $2, false)
on conflict (name) do nothing";

pub(crate) const LOCK: &str = "\
-- velo: thread.lock
select run_id, is_live, is_undone, before_run
from velo.thread
where name = $1
for update";

/// A thread whose row the transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(crate) struct Locked {
    /// Its newest run.
    pub(crate) run_id: RunId,
    /// Whether that has not ended.
    pub(crate) is_live: bool,
    /// Whether that counts as never having been.
    pub(crate) is_undone: bool,
    /// The run whose state it began from.
    pub(crate) before_run: Option<RunId>,
}

impl Locked {
    /// The run in whose state the thread is.
    pub(crate) fn head(&self) -> Option<RunId> {
        if self.is_undone {
            self.before_run
        } else {
            Some(self.run_id)
        }
    }
}

/// Holds the thread's row; `None` when the thread is new: then the row has the id of the run that is about
/// to be started, and is not live.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    thread: &str,
    starting: RunId,
) -> Result<Option<Locked>, sqlx::Error> {
    let added = sqlx::query(ADD)
        .bind(thread)
        .bind(starting)
        .execute(&mut *conn)
        .await?;
    if added.rows_affected() == 1 {
        return Ok(None);
    }
    let locked: Option<Locked> = sqlx::query_as(LOCK)
        .bind(thread)
        .fetch_optional(&mut *conn)
        .await?;
    // Deleted between the two: as if it had changed while it was looked at.
    locked.map(Some).ok_or(sqlx::Error::RowNotFound)
}

pub(crate) const STATUS: &str = "\
-- velo: thread.status
select status
from velo.run
where id = $1";

/// How a run stands; read once the thread is held, so that it is no earlier look.
pub(crate) async fn status(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Option<RunStatus>, sqlx::Error> {
    sqlx::query_scalar(STATUS)
        .bind(run)
        .fetch_optional(db)
        .await
}

pub(crate) const LINE: &str = "\
-- velo: thread.line
select run_id
from velo.input
where thread = $1
  and not is_turn
order by place
limit $2";

/// The runs that wait for their turn, first one first.
pub(crate) async fn line(
    db: impl PgExecutor<'_>,
    thread: &str,
    limit: i64,
) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar(LINE)
        .bind(thread)
        .bind(limit)
        .fetch_all(db)
        .await
}

pub(crate) const TAKE: &str = "\
-- velo: thread.take
with run as (
  update velo.run
  set thread = $2
  where id = $1
)
update velo.thread
set run_id = $1, is_live = true, is_undone = false, before_run = $3
where name = $2";

/// Makes a run that was just inserted the thread's live one.
pub(crate) async fn take(
    conn: &mut PgConnection,
    run: RunId,
    thread: &str,
    head: Option<RunId>,
) -> Result<(), sqlx::Error> {
    sqlx::query(TAKE)
        .bind(run)
        .bind(thread)
        .bind(head)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const JOIN: &str = "\
-- velo: thread.join_line
with run as (
  update velo.run
  set thread = $2, status = 'waiting'
  where id = $1
), queue as (
  update velo.queue
  set ready_at = null, gated_at = null, is_held = true
  where run_id = $1 and branch = 0
)
update velo.thread
set has_line = true, is_undone = is_undone or $3
where name = $2";

/// Has a run that was just inserted wait for its turn. With `undoes`, the live one counts from now on as
/// never having been.
pub(crate) async fn join(
    conn: &mut PgConnection,
    run: RunId,
    thread: &str,
    undoes: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(JOIN)
        .bind(run)
        .bind(thread)
        .bind(undoes)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const INPUT: &str = "\
-- velo: input.add
insert into velo.input (run_id, thread, is_turn, delta, control, fresh, base_run)
values ($1, $2, $3, $4, $5, $6, $7)";

/// What is kept of a run that has not begun.
#[derive(Debug)]
pub(crate) struct NewInput<'a> {
    pub(crate) run: RunId,
    pub(crate) thread: &'a str,
    /// What it begins with, if that is not stored as its first step.
    pub(crate) written: Option<Written<'a>>,
    /// The run from whose state it begins, if its turn has come.
    pub(crate) turn: Option<RunId>,
}

/// What a run begins with that begins from its thread's state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) delta: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) fresh: &'a [u8],
}

pub(crate) async fn add_input(
    conn: &mut PgConnection,
    input: &NewInput<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(INPUT)
        .bind(input.run)
        .bind(input.thread)
        .bind(input.turn.is_some())
        .bind(input.written.map(|written| written.delta))
        .bind(input.written.map(|written| written.control))
        .bind(input.written.map(|written| written.fresh))
        .bind(input.turn)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const UNBEGUN: &str = "\
-- velo: input.get
select thread, velo.whole(delta) as delta, velo.whole(fresh) as fresh, base_run
from velo.input
where run_id = $1
  and is_turn
  and delta is not null";

/// What a run begins with whose turn has come.
#[derive(Debug, FromRow)]
pub(crate) struct StoredInput {
    pub(crate) thread: String,
    pub(crate) delta: Vec<u8>,
    pub(crate) fresh: Vec<u8>,
    pub(crate) base_run: Option<RunId>,
}

pub(crate) async fn unbegun(pool: &PgPool, run: RunId) -> Result<Option<StoredInput>, sqlx::Error> {
    sqlx::query_as(UNBEGUN).bind(run).fetch_optional(pool).await
}

pub(crate) const BEGIN: &str = "\
-- velo: input.begin
with begun as (
  delete from velo.input
  where run_id = $1
  returning run_id, delta, control
)
insert into velo.step (run_id, seq, fence, delta, control, snapshot)
select run_id, 0, 0, delta, control, $2
from begun";

/// Writes the first step of a run that begins from its thread's state; a second call writes nothing.
/// Check the lease in the same transaction.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    lease: Lease,
    state: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(BEGIN)
        .bind(lease.run)
        .bind(state)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const GET: &str = "\
-- velo: thread.get
select t.name, t.run_id as run, t.is_live,
       case when t.is_undone then t.before_run else t.run_id end as head,
       array(select i.run_id from velo.input i
             where i.thread = t.name and not i.is_turn
             order by i.place
             limit $2) as waiting,
       r.status
from velo.thread t
left join velo.run r on r.id = t.run_id
where t.name = $1";

/// A thread, as stored.
#[derive(Debug, FromRow)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) run: RunId,
    pub(crate) is_live: bool,
    pub(crate) head: Option<RunId>,
    pub(crate) waiting: Vec<i64>,
    pub(crate) status: Option<RunStatus>,
}

pub(crate) async fn get(
    db: impl PgExecutor<'_>,
    name: &str,
    limit: i64,
) -> Result<Option<Found>, sqlx::Error> {
    sqlx::query_as(GET)
        .bind(name)
        .bind(limit)
        .fetch_optional(db)
        .await
}
