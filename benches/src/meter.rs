//! What something costs: WAL, commits, round trips, processor time.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::Outcome;
use crate::cpu::Cpu;
use crate::line::{Line, Lines};
use crate::stats::median;

/// Reads the counters of the server and of the machine.
#[derive(Debug)]
pub(crate) struct Meter {
    pool: PgPool,
    postmaster: Option<i32>,
    counts_calls: bool,
    reads_wal: bool,
    tells_statements: bool,
}

/// The counters at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    at: Instant,
    cpu: Option<Cpu>,
    wal: i64,
    lsn: String,
    calls: Option<i64>,
}

/// What was used between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) took: Duration,
    /// Bytes.
    pub(crate) wal: f64,
    /// Commits that wrote something.
    pub(crate) commits: Option<f64>,
    /// Statements sent by clients.
    pub(crate) calls: Option<f64>,
    /// Microseconds.
    pub(crate) server: Option<f64>,
    /// Microseconds.
    pub(crate) client: Option<f64>,
    /// Processors that anything else used.
    pub(crate) others: Option<f64>,
}

const LSN: &str = "\
select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint, pg_current_wal_flush_lsn()::text";

const CALLS: &str = "\
select sum(calls)::bigint
from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
  and toplevel";

// One name covers both kinds of column: the name itself has a slash.
const COMMITS: &str = "\
select coalesce(sum(s.count), 0)::bigint
from pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true) as s (name, count)
where s.name = 'Transaction/COMMIT'";

impl Meter {
    /// With `tells_statements`, what the server spent its time on is told on standard error.
    pub(crate) async fn new(
        options: &PgConnectOptions,
        postmaster: Option<i32>,
        tells_statements: bool,
    ) -> Outcome<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await?;
        // Either may be missing, or not allowed: then there is one metric less.
        let statements = sqlx::query("create extension if not exists pg_stat_statements")
            .execute(&pool)
            .await;
        let counts_calls = statements.is_ok() && sqlx::query(CALLS).execute(&pool).await.is_ok();
        let walinspect = sqlx::query("create extension if not exists pg_walinspect")
            .execute(&pool)
            .await;
        Ok(Self {
            pool,
            postmaster,
            counts_calls,
            reads_wal: walinspect.is_ok(),
            tells_statements: tells_statements && counts_calls,
        })
    }

    pub(crate) async fn mark(&self) -> Outcome<Mark> {
        if self.tells_statements {
            sqlx::query("select pg_stat_statements_reset()")
                .execute(&self.pool)
                .await?;
        }
        self.read().await
    }

    async fn read(&self) -> Outcome<Mark> {
        let calls = if self.counts_calls {
            sqlx::query_scalar(CALLS).fetch_one(&self.pool).await?
        } else {
            None
        };
        let (wal, lsn) = sqlx::query_as(LSN).fetch_one(&self.pool).await?;
        Ok(Mark {
            at: Instant::now(),
            cpu: Cpu::now(self.postmaster),
            wal,
            lsn,
            calls,
        })
    }

    /// What was used since. The reading of the counters itself is a statement or two.
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(crate) async fn since(&self, before: &Mark) -> Outcome<Cost> {
        let (took, cpu) = (before.at.elapsed(), Cpu::now(self.postmaster));
        if self.tells_statements {
            self.tell_statements().await?;
        }
        let now = self.read().await?;
        let commits = if self.reads_wal {
            let counted: i64 = sqlx::query_scalar(COMMITS)
                .bind(&before.lsn)
                .bind(&now.lsn)
                .fetch_one(&self.pool)
                .await?;
            Some(counted as f64)
        } else {
            None
        };
        let both = before.cpu.zip(cpu);
        let used = |clock: fn(&Cpu) -> u64| {
            both.map(|(before, after)| clock(&after).saturating_sub(clock(&before)) as f64)
        };
        let (server, client) = (used(|cpu| cpu.server), used(|cpu| cpu.client));
        let others = used(|cpu| cpu.machine)
            .zip(server.zip(client))
            .map(|(all, (server, client))| (all - server - client) / 1e6 / took.as_secs_f64());
        Ok(Cost {
            took,
            wal: (now.wal - before.wal) as f64,
            commits,
            calls: now
                .calls
                .zip(before.calls)
                .map(|(now, before)| (now - before) as f64),
            server,
            client,
            others,
        })
    }
}

impl Meter {
    /// Tells the statements that took longest, those inside functions among them.
    async fn tell_statements(&self) -> Outcome {
        let rows: Vec<Statement> = sqlx::query_as(STATEMENTS).fetch_all(&self.pool).await?;
        eprintln!("   total ms    calls   mean us   max ms  buffers/call");
        for row in rows {
            eprintln!(
                "{:>11.1} {:>8} {:>9.1} {:>8.1} {:>13.1}  {}{}",
                row.total,
                row.calls,
                row.mean * 1e3,
                row.max,
                row.buffers,
                if row.toplevel { "" } else { "  in it: " },
                row.query
            );
        }
        Ok(())
    }
}

const STATEMENTS: &str = "\
select total_exec_time as total, mean_exec_time as mean, max_exec_time as max, calls, toplevel,
       (shared_blks_hit + shared_blks_read)::float8 / calls as buffers,
       left(regexp_replace(query, '\\s+', ' ', 'g'), 100) as query
from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
order by total_exec_time desc
limit 16";

#[derive(Debug, sqlx::FromRow)]
struct Statement {
    total: f64,
    mean: f64,
    max: f64,
    calls: i64,
    toplevel: bool,
    buffers: f64,
    query: String,
}

/// The costs of all repetitions of one case, by unit of work.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    rows: Vec<(f64, Cost)>,
}

impl Costs {
    pub(crate) fn push(&mut self, units: f64, cost: Cost) {
        self.rows.push((units, cost));
    }

    /// Reports what there is, each as so much `per` unit; `payload` is how many of the WAL's bytes
    /// are what was to be written.
    pub(crate) fn report(
        &self,
        lines: &mut Lines,
        workload: &str,
        per: &str,
        payload: Option<f64>,
    ) {
        let each = |what: fn(&Cost) -> Option<f64>| -> Option<f64> {
            let all: Vec<f64> = self
                .rows
                .iter()
                .filter_map(|(units, cost)| what(cost).map(|value| value / units))
                .collect();
            (!all.is_empty()).then(|| median(&all))
        };
        let n = self.rows.len();
        let mut push = |metric: String, value: Option<f64>, unit| {
            if let Some(value) = value {
                lines.push(Line::new(workload, metric, value, unit, n));
            }
        };
        let wal = each(|cost| Some(cost.wal));
        push(format!("wal_per_{per}"), wal, "bytes");
        if let Some(payload) = payload {
            let beyond = wal.map(|wal| wal - payload);
            push(format!("wal_beyond_payload_per_{per}"), beyond, "bytes");
        }
        push(
            format!("commits_per_{per}"),
            each(|cost| cost.commits),
            "commits",
        );
        push(
            format!("round_trips_per_{per}"),
            each(|cost| cost.calls),
            "statements",
        );
        push(
            format!("server_cpu_per_{per}"),
            each(|cost| cost.server),
            "us",
        );
        push(
            format!("client_cpu_per_{per}"),
            each(|cost| cost.client),
            "us",
        );
        let others: Vec<f64> = self
            .rows
            .iter()
            .filter_map(|(_, cost)| cost.others)
            .collect();
        if !others.is_empty() {
            push("others_cpu".to_owned(), Some(median(&others)), "processors");
        }
    }
}
