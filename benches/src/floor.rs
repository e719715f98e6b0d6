//! What the database can do at best: durable commits that write next to nothing (K), and plain
//! inserts of the rows that the engine has to write (S_ins).

use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::args::Args;
use crate::database::Database;
use crate::line::{Line, Lines};
use crate::meter::Costs;
use crate::pgbench::Pgbench;
use crate::server::Server;
use crate::stats::{median, milliseconds, percentile, rate};

/// The smallest transaction that waits for the disk.
const COMMIT: &str = "select pg_logical_emit_message(true, 'b', 'x')";

/// Clients of the commits.
const CLIENTS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Clients at which a server of this size is near its best.
pub(crate) const MANY: usize = 32;
/// Rows of an insert.
const BATCHES: [usize; 4] = [1, 10, 100, 256];
/// Rows of the insert that others are compared with.
pub(crate) const BATCH: usize = 100;
/// Clients of the inserts: one is in the server while the other's rows are on the way.
const INSERTERS: usize = 2;

const TABLE: &str = "\
create table if not exists plain_row (
  run_id bigint not null,
  seq integer not null,
  delta bytea not null,
  control bytea not null,
  primary key (run_id, seq)
)";

const INSERT: &str = "\
insert into plain_row (run_id, seq, delta, control)
select * from unnest($1::bigint[], $2::integer[], $3::bytea[], $4::bytea[])";

/// What a step writes: the bytes of its two columns.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Payload {
    delta: Vec<u8>,
    control: Vec<u8>,
}

impl Payload {
    /// As steps of the append chain write it.
    fn of_an_item() -> Self {
        Self {
            delta: br#"[["items",["step-5-1234"]]]"#.to_vec(),
            control: br#"{"t":[{"n":"step6"}]}"#.to_vec(),
        }
    }

    /// As the database has it of this step of one of the runs.
    pub(crate) async fn stored(pool: &PgPool, seq: i32) -> Outcome<Self> {
        let stored = "select delta, control from velo.step where seq = $1 limit 1";
        Ok(sqlx::query_as(stored).bind(seq).fetch_one(pool).await?)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a step's bytes are far below 2^52"
    )]
    pub(crate) fn bytes(&self) -> f64 {
        (self.delta.len() + self.control.len()) as f64
    }
}

/// Measures floors on one database.
#[derive(Debug)]
pub(crate) struct Floor {
    pool: PgPool,
    options: sqlx::postgres::PgConnectOptions,
    pgbench: Option<Pgbench>,
    next: std::sync::atomic::AtomicI64,
}

impl Floor {
    pub(crate) async fn new(database: &Database<'_>) -> Outcome<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(u32::try_from(MANY)?)
            .connect_with(database.options.clone())
            .await?;
        sqlx::query(TABLE).execute(&pool).await?;
        let program = database.server().program("pgbench");
        Ok(Self {
            pool,
            options: database.options.clone(),
            pgbench: program
                .map(|program| Pgbench::new(program, COMMIT))
                .transpose()?,
            next: std::sync::atomic::AtomicI64::new(0),
        })
    }

    /// Minimal durable commits a second.
    pub(crate) async fn commits(&self, clients: usize, seconds: u64) -> Outcome<f64> {
        if let Some(pgbench) = &self.pgbench {
            return pgbench.rate(&self.options, clients, seconds).await;
        }
        let (limit, began) = (Duration::from_secs(seconds), Instant::now());
        let mut loops = JoinSet::new();
        for _ in 0..clients {
            let pool = self.pool.clone();
            loops.spawn(async move {
                let mut conn = pool.acquire().await?;
                let mut count = 0;
                while began.elapsed() < limit {
                    sqlx::query(COMMIT).execute(&mut *conn).await?;
                    count += 1;
                }
                Ok::<usize, sqlx::Error>(count)
            });
        }
        total(loops, began).await
    }

    /// How long each minimal commit of one client takes, in milliseconds, with the client library
    /// that the engine uses.
    pub(crate) async fn latencies(&self, limit: Duration) -> Outcome<Vec<f64>> {
        let mut conn = self.pool.acquire().await?;
        let (began, mut all) = (Instant::now(), Vec::new());
        while began.elapsed() < limit {
            let asked = Instant::now();
            sqlx::query(COMMIT).execute(&mut *conn).await?;
            all.push(milliseconds(asked.elapsed()));
        }
        Ok(all)
    }

    /// Rows a second, inserted `batch` by `batch` without anything else.
    pub(crate) async fn inserts(
        &self,
        payload: &Payload,
        batch: usize,
        seconds: u64,
    ) -> Outcome<f64> {
        sqlx::query("truncate plain_row")
            .execute(&self.pool)
            .await?;
        let (limit, began) = (Duration::from_secs(seconds), Instant::now());
        let seqs: Vec<i32> = (0..i32::try_from(batch)?).collect();
        let mut loops = JoinSet::new();
        for _ in 0..INSERTERS {
            let (pool, payload, seqs) = (self.pool.clone(), payload.clone(), seqs.clone());
            let first = self
                .next
                .fetch_add(1 << 32, std::sync::atomic::Ordering::Relaxed);
            loops.spawn(async move {
                let mut conn = pool.acquire().await?;
                let deltas = vec![payload.delta; batch];
                let controls = vec![payload.control; batch];
                let mut count = 0;
                for run in first.. {
                    if began.elapsed() >= limit {
                        break;
                    }
                    sqlx::query(INSERT)
                        .bind(vec![run; batch])
                        .bind(&seqs)
                        .bind(&deltas)
                        .bind(&controls)
                        .execute(&mut *conn)
                        .await?;
                    count += batch;
                }
                Ok::<usize, sqlx::Error>(count)
            });
        }
        total(loops, began).await
    }

    /// Who makes the commits.
    fn client(&self) -> String {
        match &self.pgbench {
            Some(pgbench) => pgbench.program().display().to_string(),
            None => "a loop of this program".to_owned(),
        }
    }
}

async fn total(mut loops: JoinSet<Result<usize, sqlx::Error>>, began: Instant) -> Outcome<f64> {
    let mut count = 0;
    while let Some(ended) = loops.join_next().await {
        count += ended??;
    }
    Ok(rate(count, began.elapsed()))
}

/// Measures the floors themselves.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let floor = Floor::new(&database).await?;
    eprintln!("commits by {}", floor.client());
    let payload = Payload::of_an_item();
    let mut commits = CLIENTS.map(|_| Vec::new());
    let mut inserts = BATCHES.map(|_| Vec::new());
    let mut costs = BATCHES.map(|_| Costs::default());
    let mut latencies = Vec::new();
    for _ in 0..args.repetitions {
        for (case, clients) in CLIENTS.into_iter().enumerate() {
            commits[case].push(floor.commits(clients, args.seconds).await?);
        }
        for (case, batch) in BATCHES.into_iter().enumerate() {
            let mark = database.meter.mark().await?;
            let rows = floor.inserts(&payload, batch, args.seconds).await?;
            let cost = database.meter.since(&mark).await?;
            inserts[case].push(rows);
            costs[case].push(rows * Duration::from_secs(args.seconds).as_secs_f64(), cost);
        }
        latencies.extend(floor.latencies(Duration::from_secs(args.seconds)).await?);
    }
    let n = usize::try_from(args.repetitions)?;
    for (clients, rates) in CLIENTS.into_iter().zip(&commits) {
        let name = format!("K_{clients}_clients");
        lines.push(Line::new("floor", name, median(rates), "commits/s", n));
    }
    for percent in [50.0, 99.0] {
        let name = format!("commit_1_client_p{percent}");
        let value = percentile(&latencies, percent);
        lines.push(Line::new("floor", name, value, "ms", latencies.len()));
    }
    for ((batch, rates), costs) in BATCHES.into_iter().zip(&inserts).zip(&costs) {
        let name = format!("S_ins_{batch}_rows");
        lines.push(Line::new("floor", name, median(rates), "rows/s", n));
        costs.report(
            lines,
            &format!("floor/{batch}"),
            "row",
            Some(payload.bytes()),
        );
    }
    drop(floor);
    database.drop().await
}
