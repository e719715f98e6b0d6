//! Whether a database is safe to run on: findings decided by facts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::TimeDelta;
use serde::Serialize;
use sqlx::PgPool;

use crate::migrate::{self, Pending};
use crate::store::health::{self, Holder, Queue, Table, Vitals};
use crate::store::retention::{self, Sweep};

/// Versions of Postgres that the engine is made for.
const VERSIONS: std::ops::RangeInclusive<i32> = 14..=18;
/// A transaction that is open for longer keeps too many dead rows.
const HELD_LONG: Duration = Duration::from_secs(10 * 60);
/// One that is open for longer lets tables and indexes grow without bound.
const HELD_TOO_LONG: Duration = Duration::from_secs(60 * 60);
/// Clocks that differ by more make times of sleeps and questions surprising.
const CLOCK_OFF: f64 = 2.0;
/// Clocks that differ by more make them wrong.
const CLOCK_WRONG: f64 = 60.0;
/// Fewer dead rows are no sign of anything.
const DEAD_MIN: i64 = 100_000;
/// Transactions after which the server begins to refuse writes, less a margin: it does so at two thousand million.
const FROZEN_TOO_LONG_AGO: i32 = 1_500_000_000;
/// A run that is ready for longer means that there are too few workers.
const WAITED_LONG: f64 = 60.0;
/// Workers look for runs to delete each minute.
const UNSWEPT: TimeDelta = TimeDelta::days(1);
/// Connections in use, in hundredths of those that there may be.
const CONNECTIONS_FEW_LEFT: i64 = 90;

/// The check of what is between the engine and the server.
const POOLER: &str = "pooler";

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Fine,
    /// Nothing is lost, but somebody should look at it.
    Notable,
    /// Work may be lost, or stand still: see to it before anything else.
    Unsafe,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; the same words in each version.
    pub check: &'static str,
    /// How grave it is.
    pub grade: Grade,
    /// What is so.
    pub found: String,
    /// What to do about it; `None` when it is fine.
    pub advice: Option<&'static str>,
}

impl Finding {
    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            grade: Grade::Fine,
            found: found.into(),
            advice: None,
        }
    }

    fn bad(
        check: &'static str,
        grade: Grade,
        found: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            check,
            grade,
            found: found.into(),
            advice: Some(advice),
        }
    }
}

/// Looks at the server, its settings, and the engine's tables: one finding a check, in a fixed order.
///
/// Nothing is changed, and the tables need not be there.
///
/// # Errors
/// The database's, when it cannot be asked at all.
///
/// # Cancel safety
/// Reads only.
pub async fn examine(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    let is_pooled = health::is_pooled(pool).await?;
    match look(pool, is_pooled).await {
        Err(error) if health::is_of_prepared(&error) => Ok(vec![Finding::bad(
            POOLER,
            Grade::Unsafe,
            "it gives each transaction another server process, and does not keep prepared statements",
            "use session mode, or pgbouncer from 1.21 on with max_prepared_statements above 0",
        )]),
        found => found,
    }
}

async fn look(pool: &PgPool, is_pooled: bool) -> Result<Vec<Finding>, sqlx::Error> {
    if is_pooled {
        health::probe_prepared(pool).await?;
    }
    let mut conn = pool.acquire().await?;
    // So that the next one's time is that of the answer alone, not of preparing it.
    health::vitals(&mut *conn).await?;
    let asked = now();
    let vitals = health::vitals(&mut *conn).await?;
    let offset = off(vitals.clock, asked, now());
    let holders = health::holders(&mut *conn).await?;
    let tables = health::tables(&mut *conn).await?;
    drop(conn);
    let pending = migrate::pending(pool).await?;
    let is_readable = pending.is_empty() && tables.iter().all(|table| table.is_allowed);
    let (queue, sweep) = match is_readable {
        true => (
            Some(health::queue(pool).await?),
            retention::get(pool).await?,
        ),
        false => (None, None),
    };
    let mut findings = of_vitals(&vitals, offset);
    findings.push(of_pooler(is_pooled));
    findings.push(of_holders(&holders));
    findings.push(of_migrations(&pending));
    findings.extend(of_tables(&tables));
    findings.extend(queue.iter().flat_map(of_queue));
    findings.extend(sweep.iter().map(of_sweep));
    Ok(findings)
}

/// By how much the server's clock is off, which was read at some time between the two.
fn off(clock: f64, asked: f64, answered: f64) -> f64 {
    clock - clock.clamp(asked, answered.max(asked))
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn of_vitals(vitals: &Vitals, offset: f64) -> Vec<Finding> {
    let major = vitals.version / 10_000;
    let version = if VERSIONS.contains(&major) {
        Finding::fine("version", format!("Postgres {major}"))
    } else {
        Finding::bad(
            "version",
            Grade::Unsafe,
            format!("Postgres {major}, which nothing here was tested with"),
            "use Postgres 14 to 18",
        )
    };
    let writes = if vitals.is_read_only {
        Finding::bad(
            "writes",
            Grade::Unsafe,
            "the server is read-only: a standby, or set so",
            "connect to the primary server",
        )
    } else {
        Finding::fine("writes", "the server takes writes")
    };
    let lax: Vec<&str> = [
        (!vitals.fsync, "fsync = off"),
        (!vitals.full_page_writes, "full_page_writes = off"),
        (
            vitals.synchronous_commit == "off",
            "synchronous_commit = off",
        ),
    ]
    .into_iter()
    .filter_map(|(is_lax, setting)| is_lax.then_some(setting))
    .collect();
    let durability = if lax.is_empty() {
        let set = format!("synchronous_commit = {}", vitals.synchronous_commit);
        Finding::fine("durability", set)
    } else {
        Finding::bad(
            "durability",
            Grade::Unsafe,
            lax.join(", "),
            "switch it on: a commit that was answered can be lost when the server stops",
        )
    };
    let autovacuum = if vitals.autovacuum {
        Finding::fine("autovacuum", "on")
    } else {
        Finding::bad(
            "autovacuum",
            Grade::Unsafe,
            "off",
            "switch it on: the queue's dead rows make each claim slower",
        )
    };
    let seconds = offset.abs();
    let differs = format!("differs from this machine's by {seconds:.1} s");
    let clock = if seconds > CLOCK_WRONG {
        Finding::bad(
            "clock",
            Grade::Unsafe,
            differs,
            "set both clocks: times that a node computes are wrong for the server",
        )
    } else if seconds > CLOCK_OFF {
        let advice = "have both clocks kept right; leases do not depend on it, shown times do";
        Finding::bad("clock", Grade::Notable, differs, advice)
    } else {
        Finding::fine("clock", differs)
    };
    let age = format!(
        "the oldest row was frozen {} transactions ago",
        vitals.frozen_age
    );
    let freezing = if vitals.frozen_age > FROZEN_TOO_LONG_AGO {
        Finding::bad(
            "freezing",
            Grade::Unsafe,
            age,
            "run vacuum freeze: the server refuses all writes at two thousand million",
        )
    } else {
        Finding::fine("freezing", age)
    };
    let used = format!("{} of {}", vitals.connections, vitals.connections_max);
    let connections = if vitals.connections * 100 > vitals.connections_max * CONNECTIONS_FEW_LEFT {
        Finding::bad(
            "connections",
            Grade::Notable,
            used,
            "raise max_connections, make pools smaller, or put a pooler between",
        )
    } else {
        Finding::fine("connections", used)
    };
    vec![
        version,
        writes,
        durability,
        autovacuum,
        clock,
        freezing,
        connections,
    ]
}

fn of_pooler(is_pooled: bool) -> Finding {
    if is_pooled {
        Finding::bad(
            POOLER,
            Grade::Notable,
            "transactions of one connection reach different server processes",
            "nothing is lost; workers find new work by asking, since they cannot be told",
        )
    } else {
        Finding::fine(POOLER, "none, or one that keeps a session together")
    }
}

fn of_holders(holders: &[Holder]) -> Finding {
    let oldest = holders
        .iter()
        .map(|holder| (holder, holder.seconds.unwrap_or(f64::INFINITY)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let Some((oldest, seconds)) = oldest else {
        return Finding::fine("dead rows kept", "by nobody");
    };
    let since = match oldest.seconds {
        Some(seconds) => format!("for {seconds:.0} s"),
        None => "since nobody knows when".to_owned(),
    };
    let kept = format!("by {} {since}", oldest.who);
    let grade = if seconds > HELD_TOO_LONG.as_secs_f64() {
        Grade::Unsafe
    } else if seconds > HELD_LONG.as_secs_f64() {
        Grade::Notable
    } else {
        return Finding::fine("dead rows kept", kept);
    };
    let advice = "end that transaction, or drop that slot: until then no dead row of any table can be removed";
    Finding::bad("dead rows kept", grade, kept, advice)
}

fn of_migrations(pending: &[Pending]) -> Finding {
    if pending.is_empty() {
        return Finding::fine("migrations", "all applied");
    }
    let names: Vec<String> = pending.iter().map(ToString::to_string).collect();
    Finding::bad(
        "migrations",
        Grade::Unsafe,
        format!("not applied: {}", names.join(", ")),
        "run velo migrate, or migrate() of the library",
    )
}

fn of_tables(tables: &[Table]) -> Vec<Finding> {
    let refused: Vec<&str> = tables
        .iter()
        .filter(|table| !table.is_allowed)
        .map(|table| table.name.as_str())
        .collect();
    let privileges = if refused.is_empty() {
        Finding::fine(
            "privileges",
            format!("on all {} tables of schema velo", tables.len()),
        )
    } else {
        Finding::bad(
            "privileges",
            Grade::Unsafe,
            format!("this role may not read and write {}", refused.join(", ")),
            "grant select, insert, update, delete on all tables in schema velo",
        )
    };
    let bloated: Vec<String> = tables
        .iter()
        .filter(|table| table.dead > DEAD_MIN && table.dead > table.live)
        .map(|table| {
            format!(
                "{} has {} for {} live ones",
                table.name, table.dead, table.live
            )
        })
        .collect();
    let dead = if bloated.is_empty() {
        Finding::fine("dead rows", "fewer than live ones")
    } else {
        Finding::bad(
            "dead rows",
            Grade::Notable,
            bloated.join(", "),
            "see who keeps them (above), and whether autovacuum gets that far",
        )
    };
    let bytes: i64 = tables.iter().map(|table| table.bytes).sum();
    let size = format!("{} MiB in schema velo", bytes / (1024 * 1024));
    vec![privileges, dead, Finding::fine("size", size)]
}

fn of_queue(queue: &Queue) -> Vec<Finding> {
    let orphaned = if queue.orphaned.is_empty() {
        Finding::fine("code", "each ready run has a worker that can run it")
    } else {
        Finding::bad(
            "code",
            Grade::Unsafe,
            format!("no worker has code for {}", queue.orphaned.join(", ")),
            "start a worker that serves it",
        )
    };
    let waited = queue.oldest.unwrap_or(0.0);
    let age = format!("the oldest ready run has waited {waited:.1} s");
    let age = if waited > WAITED_LONG {
        Finding::bad(
            "queue",
            Grade::Notable,
            age,
            "start more workers, or give them more places",
        )
    } else {
        Finding::fine("queue", age)
    };
    let silent = if queue.silent == 0 {
        Finding::fine("workers", "no dead worker has runs")
    } else {
        Finding::bad(
            "workers",
            Grade::Notable,
            format!("{} have stopped and still have runs", queue.silent),
            "start a worker: any one takes over what they had",
        )
    };
    let paused = if queue.paused == 0 {
        Finding::fine("attention", "no run is paused")
    } else {
        Finding::bad(
            "attention",
            Grade::Notable,
            format!("{} runs are paused", queue.paused),
            "velo runs list --status paused shows why; resume or cancel them",
        )
    };
    vec![orphaned, age, silent, paused]
}

fn of_sweep(sweep: &Sweep) -> Finding {
    let late = sweep.now - sweep.due_at;
    let deleted = format!("{} runs deleted after their time", sweep.deleted);
    if late > UNSWEPT {
        let late = late.num_days();
        Finding::bad(
            "retention",
            Grade::Notable,
            format!("nobody has looked for {late} days; {deleted}"),
            "start a worker: any one deletes runs that are kept for long enough",
        )
    } else if -late > UNSWEPT {
        let at = sweep.due_at.format("%Y-%m-%d %H:%M UTC");
        Finding::bad(
            "retention",
            Grade::Notable,
            format!("runs that are kept for long enough are deleted from {at} on"),
            "see velo retention show, and say by velo retention set what is to be kept longer",
        )
    } else {
        Finding::fine("retention", deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Vitals {
        Vitals {
            version: 150_004,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            autovacuum: true,
            is_read_only: false,
            clock: 0.0,
            frozen_age: 1_000,
            connections: 5,
            connections_max: 100,
        }
    }

    fn grades(vitals: &Vitals, offset: f64) -> Vec<(&'static str, Grade)> {
        let findings = of_vitals(vitals, offset).into_iter();
        findings
            .filter(|finding| finding.grade > Grade::Fine)
            .map(|finding| (finding.check, finding.grade))
            .collect()
    }

    #[test]
    fn each_setting_that_loses_work_is_unsafe() {
        assert_eq!(grades(&healthy(), 0.3), []);
        let unsafe_by = |change: fn(&mut Vitals)| {
            let mut vitals = healthy();
            change(&mut vitals);
            grades(&vitals, 0.0)
        };
        let grade = Grade::Unsafe;
        assert_eq!(unsafe_by(|v| v.version = 130_010), [("version", grade)]);
        assert_eq!(unsafe_by(|v| v.fsync = false), [("durability", grade)]);
        let off = unsafe_by(|v| v.synchronous_commit = "off".to_owned());
        assert_eq!(off, [("durability", grade)]);
        assert_eq!(unsafe_by(|v| v.autovacuum = false), [("autovacuum", grade)]);
        assert_eq!(unsafe_by(|v| v.is_read_only = true), [("writes", grade)]);
        let old = unsafe_by(|v| v.frozen_age = 1_600_000_000);
        assert_eq!(old, [("freezing", grade)]);
        let full = unsafe_by(|v| v.connections = 95);
        assert_eq!(full, [("connections", Grade::Notable)]);
    }

    #[test]
    fn deleting_that_nobody_does_and_that_is_about_to_begin_is_told() {
        let now = chrono::DateTime::UNIX_EPOCH + TimeDelta::days(30);
        let grade = |due_at| {
            of_sweep(&Sweep {
                after_run: crate::run_id::RunId::from_i64(0),
                due_at,
                passed_at: None,
                deleted: 7,
                now,
            })
            .grade
        };
        assert_eq!(grade(now), Grade::Fine);
        assert_eq!(grade(now - TimeDelta::hours(23)), Grade::Fine);
        assert_eq!(grade(now - TimeDelta::days(2)), Grade::Notable);
        assert_eq!(grade(now + TimeDelta::days(7)), Grade::Notable);
    }

    #[test]
    fn clocks_may_differ_a_little() {
        assert_eq!(grades(&healthy(), -3.0), [("clock", Grade::Notable)]);
        assert_eq!(grades(&healthy(), 61.0), [("clock", Grade::Unsafe)]);
    }

    #[test]
    fn the_oldest_holder_counts_and_a_slot_that_nobody_uses_is_oldest() {
        let holder = |who: &str, seconds| Holder {
            who: who.to_owned(),
            seconds,
        };
        assert_eq!(of_holders(&[]).grade, Grade::Fine);
        assert_eq!(of_holders(&[holder("a", Some(9.0))]).grade, Grade::Fine);
        let found = of_holders(&[holder("a", Some(9.0)), holder("b", Some(700.0))]);
        assert_eq!(found.grade, Grade::Notable);
        assert!(found.found.contains("by b for 700 s"), "{found:?}");
        let found = of_holders(&[holder("a", Some(700.0)), holder("slot", None)]);
        assert_eq!(found.grade, Grade::Unsafe);
        assert!(found.found.contains("by slot"), "{found:?}");
    }
}
