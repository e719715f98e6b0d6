//! Ten workers with nothing to do but a thousand sleeping runs.

use std::time::Duration;

use crate::Outcome;
use crate::args::Args;
use crate::line::{Line, Lines};
use crate::queue::{self, Picked};
use crate::rig::Beside;
use crate::server::Server;
use crate::work::Ended;

const WORKERS: usize = 10;
const SLEEPERS: i32 = 1_000;
/// How much longer than `--seconds` it is watched.
const LONGER: u64 = 10;
/// In which the workers begin.
const SETTLE: Duration = Duration::from_secs(3);

const SLEEP: &str = "\
insert into velo.queue (run_id, code, wake_at)
select g, 'job@1', clock_timestamp() + make_interval(secs => 3600 + g)
from generate_series(1, $1) g";

/// Counts what is asked of the server meanwhile.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    sqlx::query(SLEEP)
        .bind(SLEEPERS)
        .execute(&database.pool)
        .await?;
    let graph = queue::graph(&Ended::default(), &Picked::default())?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let beside = Beside::start(&database, args.pool, |worker| worker.serve(graph.clone()));
        workers.push(beside.await?);
    }
    tokio::time::sleep(SETTLE).await;
    let mark = database.meter.mark().await?;
    tokio::time::sleep(Duration::from_secs(args.seconds * LONGER)).await;
    let cost = database.meter.since(&mark).await?;
    let seconds = cost.took.as_secs_f64();
    let mut push = |metric, value: Option<f64>, unit| {
        if let Some(value) = value {
            lines.push(Line::new("idle", metric, value / seconds, unit, WORKERS));
        }
    };
    push("queries", cost.calls, "queries/s");
    push("commits", cost.commits, "commits/s");
    push("wal", Some(cost.wal), "bytes/s");
    push("server_cpu", cost.server, "us/s");
    for worker in workers {
        worker.stop().await?;
    }
    database.drop().await
}
