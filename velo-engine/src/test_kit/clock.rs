//! A database whose time can be put forward.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::{database_url, pool_on};

// The engine asks the time by `clock_timestamp()`, without a schema. Where another function of this name
// comes first on the search path, that is asked: nothing of the engine knows of it. In PL/pgSQL, since
// that takes a look of its own at each call and not that of the statement around it.
const SET_UP: &str = "\
create schema velo_clock;
create table velo_clock.ahead (by interval not null);
insert into velo_clock.ahead values ('0');
create function velo_clock.clock_timestamp() returns timestamptz language plpgsql volatile as $$
begin
    return pg_catalog.clock_timestamp() + (select by from velo_clock.ahead);
end $$;
create function velo_clock.now() returns timestamptz language plpgsql volatile as $$
begin
    return pg_catalog.now() + (select by from velo_clock.ahead);
end $$;
grant usage on schema velo_clock to public;
grant select on velo_clock.ahead to public;
";

/// The address of a new, empty database whose time can be put forward by a [`Clock`]; otherwise as
/// [`database_url`].
///
/// Only what asks the time by `clock_timestamp()` or `now()` is put forward with it: all of the engine, and
/// statements of your own that do so. `current_timestamp` and the time of this process are not.
///
/// # Panics
/// As [`database_url`].
pub async fn database_url_with_clock() -> String {
    let url = database_url().await;
    let mut admin = PgConnection::connect(&url)
        .await
        .expect("the database was created above");
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&mut admin)
        .await
        .expect("a database knows its name");
    let path = format!("alter database {name} set search_path = public, velo_clock, pg_catalog");
    for sql in [SET_UP.to_owned(), path] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut admin)
            .await
            .expect("who has created a database may set it up");
    }
    let _ = admin.close().await;
    url
}

/// Puts the time of a test's database forward.
///
/// Live workers notice nothing but the later hour: their leases are put forward too.
#[derive(Debug, Clone)]
pub struct Clock {
    pool: PgPool,
}

const SKIP: &str = "\
with ahead as (
  update velo_clock.ahead
  set by = by + $1
)
update velo.worker
set expires_at = expires_at + $1";

// What is under way or will be in a moment: leased runs, ready ones that some worker can run, times that
// have come, ends that have not been told of.
const LOOK: &str = "\
select exists (select from velo.queue where worker is not null)
       or exists (select
                  from velo.queue q
                  where q.ready_at is not null
                    and exists (select from velo.worker w
                                where q.code = any(w.codes) and w.expires_at >= clock_timestamp()))
       or exists (select from velo.queue where wake_at <= clock_timestamp())
       or exists (select from velo.schedule where not is_paused and due_at <= clock_timestamp())
       or exists (select from velo.ending) as is_busy,
       extract(epoch from least(
         (select min(wake_at) from velo.queue),
         (select min(due_at) from velo.schedule where not is_paused)) - clock_timestamp())::float8 as next_in";

impl Clock {
    /// The clock of a database of [`database_url_with_clock`], where the engine's tables are.
    #[must_use]
    pub fn of(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The time there.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.pool)
            .await
            .expect("the test's database answers")
    }

    /// Puts the time forward at once, past whatever was due meanwhile.
    ///
    /// # Panics
    /// When the database does not answer, or has no clock of this kind.
    pub async fn jump(&self, time: Duration) {
        let time = PgInterval {
            months: 0,
            days: 0,
            microseconds: i64::try_from(time.as_micros()).expect("a test skips fewer years"),
        };
        sqlx::query(SKIP)
            .bind(time)
            .execute(&self.pool)
            .await
            .expect("the test's database has a clock");
    }

    /// Whether something is under way, and how long until something is due when nothing is.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn look(&self) -> Look {
        let (is_busy, next_in): (bool, Option<f64>) = sqlx::query_as(LOOK)
            .fetch_one(&self.pool)
            .await
            .expect("the test's database answers");
        Look {
            is_busy,
            next_in: next_in.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
        }
    }
}

/// What a look at a test's database found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Look {
    /// Whether some worker is at work on something, or will be in a moment.
    pub is_busy: bool,
    /// How long until a run's or a schedule's time comes.
    pub next_in: Option<Duration>,
}

/// A pool on a new database whose time can be put forward, and its clock; the engine's tables are not there
/// yet.
///
/// # Panics
/// As [`database_url`].
pub async fn database_with_clock() -> (PgPool, Clock) {
    let pool = pool_on(&database_url_with_clock().await).await;
    (pool.clone(), Clock::of(pool))
}
