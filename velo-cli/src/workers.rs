//! `velo workers`: looking at workers, and draining them.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use velo_engine::{Engine, EngineError, WorkerInfo};

use crate::args::{HouseArgs, WorkersArgs, WorkersCommand};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::runs::{print_json, print_table, table, time};
use crate::serve::say;

/// Most workers that are listed.
const LISTED: i64 = 1_000;
/// Between two looks whether a worker has stopped.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn workers(args: &HouseArgs, workers: WorkersArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let engine = house.agency.engine();
    let end = match workers.command {
        None => list(engine, workers.json).await,
        Some(WorkersCommand::Drain { id, wait }) => {
            let wait = Duration::from_secs(wait.into());
            drain(engine, id, wait, workers.json).await
        }
    };
    house.close().await;
    end
}

async fn list(engine: &Engine, as_json: bool) -> Result<Exit, Failure> {
    let found = all(engine).await?;
    if as_json {
        print_json(&found);
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        println!("no worker is running");
        return Ok(Exit::Done);
    }
    let mut table = table([
        "worker",
        "name",
        "process",
        "started",
        "runs",
        "has code for",
        "state",
    ]);
    for worker in found {
        let state = match (worker.is_expired, worker.is_draining) {
            (true, _) => "no heartbeat",
            (false, true) => "draining",
            (false, false) => "fine",
        };
        table.add_row([
            worker.id.to_string(),
            worker.name,
            worker.pid.to_string(),
            time(worker.started_at),
            worker.runs.to_string(),
            worker.codes.join(", "),
            state.to_owned(),
        ]);
    }
    print_table(&table);
    Ok(Exit::Done)
}

/// Asks a worker to stop, and waits until it has, saying what it waits for.
async fn drain(engine: &Engine, id: i32, wait: Duration, as_json: bool) -> Result<Exit, Failure> {
    engine
        .drain_worker(id)
        .await
        .map_err(|error| failed(&error))?;
    let until = Instant::now() + wait;
    let mut said = None;
    loop {
        let found = all(engine).await?;
        let Some(worker) = found.into_iter().find(|worker| worker.id == id) else {
            if as_json {
                print_json(&json!({ "worker_id": id, "done": true }));
            } else {
                println!("worker {id} has stopped");
            }
            return Ok(Exit::Done);
        };
        if said != Some(worker.runs) {
            eprintln!("worker {id} waits for the steps of {} runs", worker.runs);
            said = Some(worker.runs);
        }
        if Instant::now() >= until {
            return Err(Failure::environment(format!(
                "worker {id} was asked to stop and has not yet: it still has {} runs; velo workers shows when it is gone",
                worker.runs
            )));
        }
        tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

async fn all(engine: &Engine) -> Result<Vec<WorkerInfo>, Failure> {
    let found = engine.workers(LISTED).await;
    found.map_err(|error| failed(&error))
}

fn failed(error: &EngineError) -> Failure {
    match error {
        EngineError::NoWorker(_) => Failure::unusable(chain(error)),
        _ => Failure::environment(chain(error)),
    }
}
