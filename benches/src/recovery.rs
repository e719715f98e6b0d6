//! A worker is killed in mid-run, and another goes on.

use std::time::{Duration, Instant};

use velo_worker::DEFAULT_LEASE;

use crate::Outcome;
use crate::args::Args;
use crate::database::Database;
use crate::fleet::{Audit, Process, StepLog};
use crate::line::{Line, Lines};
use crate::rig;
use crate::server::Server;
use crate::stats::median;
use crate::work::{self, Ended, STEPS, Work, Writes};

/// Runs of a repetition.
const RUNS: usize = 400;
/// Runs in flight in each worker.
const IN_FLIGHT: usize = 16;
/// How often the log of steps is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How long it may take until half of the steps have begun.
const HALF: Duration = Duration::from_secs(60);

/// Who takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heir {
    /// A worker that is started after the death, on the same machine: as a supervisor does.
    Restarted,
    /// A worker that was there before, and has to wait for the end of the lease.
    Standing,
}

/// What one death led to.
pub(crate) struct Recovery {
    pub(crate) took: Duration,
    pub(crate) audit: Audit,
    pub(crate) left: usize,
}

/// Measures from the kill to the last commit, and audits every step.
pub(crate) async fn measure(args: &Args, server: &Server, lines: &mut Lines) -> Outcome {
    let database = server.database().await?;
    let cases = [(Heir::Restarted, "restarted"), (Heir::Standing, "standing")];
    for (heir, name) in cases {
        let (mut took, mut audits) = (Vec::new(), Vec::new());
        for _ in 0..args.repetitions {
            let recovery = once(&database, heir, RUNS).await?;
            took.push(recovery.took.as_secs_f64());
            audits.push(recovery.audit);
        }
        let (workload, n) = (format!("recovery/{name}"), took.len());
        let lease = DEFAULT_LEASE.as_secs_f64();
        let line = Line::new(&workload, "all_done", median(&took), "s", n);
        lines.push(line.against("lease", lease, median(&took) / lease));
        let mut count = |metric: &str, what: fn(&Audit) -> usize| -> Outcome {
            let all = u32::try_from(audits.iter().map(what).sum::<usize>())?;
            lines.push(Line::new(&workload, metric, f64::from(all), "steps", n));
            Ok(())
        };
        count("lost", |audit| audit.lost)?;
        count("repeated_committed", |audit| audit.repeated)?;
        count("taken_again_uncommitted", |audit| audit.again)?;
    }
    database.drop().await
}

/// The death of a worker whose heir is started at once, for the peers' protocol.
pub(crate) async fn restarted(database: &Database<'_>, runs: usize) -> Outcome<Recovery> {
    once(database, Heir::Restarted, runs).await
}

async fn once(database: &Database<'_>, heir: Heir, runs: usize) -> Outcome<Recovery> {
    database.clear().await?;
    let log = StepLog::new()?;
    let graph = work::chain(Writes::Item, &Ended::default(), &std::sync::Arc::new(()))?;
    let ids = rig::start(&database.engine, &graph, runs, Work::begin).await?;
    let first = Process::start(database, &log, IN_FLIGHT).await?;
    let standing = match heir {
        Heir::Standing => Some(Process::start(database, &log, IN_FLIGHT).await?),
        Heir::Restarted => None,
    };
    let began = Instant::now();
    while log.len()? < runs * STEPS / 2 {
        if began.elapsed() > HALF {
            return Err(format!("the workers did not get on, see {}", log.path().display()).into());
        }
        tokio::time::sleep(LOOK).await;
    }
    first.kill().await?;
    let died = Instant::now();
    let count = "select count(*) from velo.step where seq > 0";
    let committed: i64 = sqlx::query_scalar(count).fetch_one(&database.pool).await?;
    let second = match standing {
        Some(standing) => standing,
        None => Process::start(database, &log, IN_FLIGHT).await?,
    };
    rig::none_live(database).await?;
    let took = died.elapsed();
    rig::verify(database, &ids).await?;
    let audit = log.audit(database, &ids).await?;
    second.kill().await?;
    Ok(Recovery {
        took,
        audit,
        left: runs * STEPS - usize::try_from(committed)?,
    })
}
