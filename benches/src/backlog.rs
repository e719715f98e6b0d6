//! Claiming from a short queue and from a very long one.

use std::time::{Duration, Instant};

use velo_engine::lease::Incarnation;

use crate::Outcome;
use crate::args::Args;
use crate::database::Database;
use crate::line::{Line, Lines};
use crate::server::Server;
use crate::stats::{milliseconds, percentile};

/// Ready runs of the short queue: more than are claimed.
const SHORT: i64 = 10_000;
/// Claims of each queue.
const CLAIMS: usize = 500;
/// Runs of a claim.
const CLAIMED: usize = 16;
/// Rows that are inserted in one statement.
const BATCH: i64 = 500_000;
/// The code of the runs; nobody has to have it.
const CODE: &str = "backlog@1";

const FILL: &str = "\
insert into velo.queue (run_id, code, priority, ready_at)
select g, 'backlog@1', 0, clock_timestamp()
from generate_series($1, $2) g";

/// Measures claims of both queues in turn.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let (short, long) = (server.database().await?, server.database().await?);
    fill(&short, SHORT).await?;
    fill(&long, args.rows).await?;
    let mut queues = [
        (&short, register(&short).await?, Vec::new()),
        (&long, register(&long).await?, Vec::new()),
    ];
    let codes = [CODE.to_owned()];
    for _ in 0..CLAIMS {
        for (database, worker, times) in &mut queues {
            let asked = Instant::now();
            let claims = worker.claim(&database.pool, &codes, CLAIMED, None).await?;
            times.push(milliseconds(asked.elapsed()));
            if claims.len() != CLAIMED {
                return Err(format!("a claim leased {} of {CLAIMED} runs", claims.len()).into());
            }
        }
    }
    let [(_, _, short_times), (_, _, long_times)] = &queues;
    for percent in [50.0, 99.0] {
        let (floor, value) = (
            percentile(short_times, percent),
            percentile(long_times, percent),
        );
        let metric = format!("claim_p{percent}_of_{}_ready", args.rows);
        let line = Line::new("backlog", metric, value, "ms", CLAIMS);
        lines.push(line.against("10,000 ready", floor, value / floor));
    }
    short.drop().await?;
    long.drop().await
}

async fn register(database: &Database<'_>) -> Outcome<Incarnation> {
    let pid = i32::try_from(std::process::id())?;
    let ttl = Duration::from_secs(3_600);
    Ok(Incarnation::register(&database.pool, "bench", "bench", pid, ttl).await?)
}

async fn fill(database: &Database<'_>, rows: i64) -> Outcome {
    let mut first = 1;
    while first <= rows {
        let last = (first + BATCH - 1).min(rows);
        sqlx::query(FILL)
            .bind(first)
            .bind(last)
            .execute(&database.pool)
            .await?;
        first = last + 1;
    }
    sqlx::query("vacuum analyze velo.queue")
        .execute(&database.pool)
        .await?;
    Ok(())
}
