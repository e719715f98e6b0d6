//! The engine's rows. Everything here is SQL and its types; nothing here runs user code.

/// What becomes of a run's row `q` in the queue when something has come for it: one that a worker has is
/// poked, one that is neither paused nor in line is readied. Decided by the row that is updated, not by an earlier look at it.
macro_rules! poke {
    () => {
        "\
  set is_poked = q.is_poked or q.worker is not null,
      ready_at = case when q.worker is null and run.status <> 'paused' and not q.is_held
                      then coalesce(q.ready_at, clock_timestamp()) else q.ready_at end,
      wake_at = case when q.worker is null and run.status <> 'paused' then null else q.wake_at end
"
    };
}

/// How whatever comes for the run `$1` begins: its row in the queue is locked, and then the run's own, before anything
/// is decided.
macro_rules! lock_run {
    () => {
        "\
with locked as (
  select run_id, worker
  from velo.queue
  where run_id = $1 and branch = 0
  for update
), run as (
  select r.id, r.status
  from velo.run r, locked l
  where r.id = l.run_id
  for update of r
)"
    };
}

pub(crate) mod breakpoint;
pub(crate) mod bulk;
pub(crate) mod child;
pub(crate) mod code;
pub(crate) mod commit;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod edit;
pub(crate) mod export;
pub(crate) mod failure;
pub(crate) mod failure_group;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod item;
pub(crate) mod lease;
pub(crate) mod load;
pub(crate) mod memo;
pub(crate) mod operator;
pub(crate) mod origin;
pub(crate) mod outcome;
pub(crate) mod outline;
pub(crate) mod overview;
pub(crate) mod piece;
pub(crate) mod progress;
pub(crate) mod question;
pub(crate) mod reencrypt;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod select;
pub(crate) mod start;
pub(crate) mod steer;
pub(crate) mod stream;
pub(crate) mod thread;
pub(crate) mod update;
pub(crate) mod wait;
pub(crate) mod why;

use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};

/// Every statement of the engine's store, for a test that prepares them all.
pub const STATEMENTS: &[&str] = &[
    breakpoint::HALTED,
    bulk::BATCH_OF_ALL,
    bulk::BATCH_OF_FAILURES,
    bulk::BEGIN,
    bulk::CANCEL,
    bulk::GET,
    bulk::LIST,
    bulk::SAVE,
    bulk::TAKE,
    child::AT,
    child::ENDING,
    child::ENDINGS,
    child::IS_STUCK,
    child::LAST,
    child::OF,
    child::PATH,
    child::POKE,
    child::START,
    child::TOLD,
    child::TO_CANCEL,
    code::JOINS,
    code::KEEP,
    code::LACK,
    code::LIVE,
    code::LIVE_RUNS,
    code::PIN,
    code::SCHEDULES,
    code::WANTED,
    commit::ALL,
    commit::STEPS,
    copy::FORK,
    copy::RESERVE,
    copy::RUN,
    copy::THREAD_RUNS,
    delete::DELETE,
    delete::OLD,
    delete::THREAD,
    edit::FINISH,
    edit::LOCK,
    edit::STEP,
    export::READ,
    export::WRITE,
    failure::RECORD,
    failure_group::GROUPS,
    failure_group::NOTE,
    failure_group::RUNS,
    gate::APPLY,
    gate::BALANCE,
    gate::FORGET,
    gate::LIST,
    gate::PAUSE,
    gate::RELEASE,
    gate::REMOVE,
    gate::RESUME,
    gate::SET,
    gate::TAKE,
    gate::TELL,
    gate::TEND,
    health::BACKEND,
    health::HOLDERS,
    health::QUEUE,
    health::TABLES,
    health::VITALS,
    item::DELETE,
    item::GET,
    item::HAS_VECTORS,
    item::NAMESPACES,
    item::PUT,
    item::REFRESH,
    item::SEARCH,
    item::SEARCH_TEXT,
    item::SWEEP,
    lease::AGE,
    lease::CLAIM,
    lease::ADVERTISE,
    lease::CALLS,
    lease::DRAIN,
    lease::HEARD,
    lease::EXPIRED,
    lease::FINISH_CANCELLED,
    lease::GIVE_UP,
    lease::HEARTBEAT,
    lease::HELD,
    lease::HOLD,
    lease::IS_HELD,
    lease::NEIGHBOURS,
    lease::PAUSE,
    lease::REGISTER,
    lease::SUSPECT,
    lease::SLEEP,
    lease::WAKE,
    load::ALL,
    load::STEPS,
    memo::GET,
    memo::KEEP,
    operator::PARKED,
    operator::SKIP,
    origin::FORKS,
    origin::LINEAGE,
    origin::STEPS_AT,
    outcome::ADD,
    outcome::ADD_ALL,
    outcome::GET,
    outline::GET,
    outline::LIST,
    outline::PUT,
    overview::COUNTERS,
    overview::GRAPHS,
    overview::READY,
    piece::ADD,
    piece::PRUNE,
    question::ANSWER,
    question::CLOSE,
    question::OPEN,
    progress::CONTROLS,
    progress::TASKS,
    retention::BUCKETS,
    retention::BULKS,
    retention::CLEAR,
    retention::FREE,
    retention::GET,
    retention::HOLD,
    retention::HOLD_THREADS,
    retention::RULES,
    retention::SAVE,
    retention::SEEN,
    retention::SET,
    retention::TAKE,
    retention::THREADS,
    run::GET,
    run::HISTORY,
    run::UNFINISHED,
    run::LIST,
    run::NOTIFY,
    run::HINT,
    run::STEPS,
    schedule::DELETE,
    schedule::DROP_BUFFERED,
    schedule::DUE,
    schedule::FIRE,
    schedule::FIRES,
    schedule::GET,
    schedule::LIST,
    schedule::LOCK,
    schedule::LOOK,
    schedule::MOVE,
    schedule::NOW,
    schedule::OPEN,
    schedule::PAUSE,
    schedule::PRUNE,
    schedule::PUT,
    schedule::RECORD,
    schedule::SETTLE,
    select::DECIDE,
    start::NONCE,
    start::START,
    steer::END,
    steer::HOLD,
    steer::PAUSE,
    steer::RESUME,
    stream::PLACES,
    stream::READ,
    thread::ADD,
    thread::BEGIN,
    thread::GET,
    thread::INPUT,
    thread::JOIN,
    thread::LINE,
    thread::LIVE,
    thread::LOCK,
    thread::STATUS,
    thread::TAKE,
    thread::UNBEGUN,
    update::ANSWER,
    update::ASK,
    update::CALL,
    update::GET,
    update::LIST,
    update::USE,
    wait::ADD,
    wait::PARK,
    wait::REFUSE,
    wait::SEEN,
    wait::SEND,
    wait::USE,
    why::FACTS,
    why::WORKERS,
];

/// Opens a transaction in which leases can be checked, whatever the database's default.
pub(crate) async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with("begin isolation level read committed")
        .await
}

/// Whether the same statement may succeed later: the server or the way to it is in trouble, not
/// the statement.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        // The stream of messages broke off: what follows is a new connection.
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_state(&code)),
        _ => false,
    }
}

/// Whether the connection broke: what was asked last may have been done or not.
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || code.starts_with("57P")),
        _ => false,
    }
}

/// Whether a lock could not be had in time.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// Classes of SQLSTATE: 08 connection, 40 rollback, 53 resources, 55P03 and 57 operator, 58 system;
/// 25006 is a server that is read-only for now.
fn is_transient_state(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "57" | "58") || matches!(code, "55P03" | "25006" | "0A000")
}

/// Waits that grow from 20 ms to two seconds, for a database that is away. Whoever loops with it
/// ends when the lease is lost.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    waits: u32,
}

impl Backoff {
    pub(crate) async fn wait(&mut self) {
        let wait = Duration::from_millis(20 << self.waits.min(7));
        self.waits += 1;
        tokio::time::sleep(wait.min(Duration::from_secs(2))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_in_trouble_may_be_asked_again_and_a_wrong_statement_may_not() {
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_transient(&sqlx::Error::Io(lost)) && is_transient(&sqlx::Error::PoolTimedOut));
        assert!(!is_transient(&sqlx::Error::RowNotFound));
        assert!(is_transient_state("40001") && is_transient_state("57P01"));
        assert!(!is_transient_state("23505") && !is_transient_state("42P01"));
    }
}
