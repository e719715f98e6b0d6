//! `velo failures` and `velo bulk`: what has failed for good, in groups, and what is done to many runs.

use std::io::IsTerminal;

use serde_json::{Value, json};
use velo_engine::{
    Bulk, BulkAction, BulkStatus, Engine, EngineError, FailureGroup, Run, RunFilter, RunStatus,
};

use crate::args::{
    BulkArgs, BulkCommand, FailedRuns, FailuresArgs, FailuresCommand, FilterArgs, HouseArgs,
};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::runs::{print_json, print_table, table, time};
use crate::serve::say;

/// Why a run has ended that was dismissed.
const DISMISSED: &str = "dismissed by an operator";

pub(crate) async fn failures(args: &HouseArgs, failures: FailuresArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act(house.agency.engine(), failures).await;
    house.close().await;
    end?;
    Ok(Exit::Done)
}

pub(crate) async fn bulk(args: &HouseArgs, bulk: BulkArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act_on_bulk(house.agency.engine(), bulk).await;
    house.close().await;
    end?;
    Ok(Exit::Done)
}

async fn act(engine: &Engine, failures: FailuresArgs) -> Result<(), Failure> {
    let as_json = failures.json;
    match failures.command {
        FailuresCommand::List { filter, limit } => {
            let filter = failed_of(filter);
            let groups = engine.failures(&filter, limit).await;
            list(&groups.map_err(|error| failed(&error))?, as_json);
            Ok(())
        }
        FailuresCommand::Show {
            filter,
            after,
            limit,
        } => {
            let filter = failed_of(filter);
            let runs = engine.failed_runs(&filter, after, limit).await;
            show(&runs.map_err(|error| failed(&error))?, as_json);
            Ok(())
        }
        FailuresCommand::Redrive(which) => {
            handle(engine, which, &BulkAction::Resume, as_json).await
        }
        FailuresCommand::Dismiss { which, reason } => {
            let reason = reason.unwrap_or_else(|| DISMISSED.to_owned());
            handle(engine, which, &BulkAction::Terminate { reason }, as_json).await
        }
    }
}

/// Does it to the runs that are named, or to all that the filter finds.
async fn handle(
    engine: &Engine,
    which: FailedRuns,
    action: &BulkAction,
    as_json: bool,
) -> Result<(), Failure> {
    if which.runs.is_empty() {
        some_are_meant(&which.filter, which.all)?;
        let filter = failed_of(which.filter);
        return begin(engine, action, &filter, which.wait, as_json).await;
    }
    let mut done = Vec::new();
    for run in which.runs {
        let is_done = match action {
            BulkAction::Terminate { reason } => engine.terminate(run, reason).await,
            _ => engine.resume(run).await,
        };
        let is_done = is_done.map_err(|error| failed(&error))?;
        if !as_json {
            let told = match (is_done, action) {
                (false, _) => "left as it is: it is not paused any more",
                (true, BulkAction::Terminate { .. }) => "dismissed: it has ended",
                (true, _) => "goes on as soon as a worker takes it",
            };
            println!("run {run}: {told}");
        }
        done.push(json!({ "run": run, "done": is_done }));
    }
    if as_json {
        print_json(&done);
    }
    Ok(())
}

async fn act_on_bulk(engine: &Engine, bulk: BulkArgs) -> Result<(), Failure> {
    let as_json = bulk.json;
    let failed = |error: EngineError| failed(&error);
    match bulk.command {
        BulkCommand::Cancel {
            filter,
            status,
            all,
            wait,
        } => {
            some_are_meant(&filter, all || status.is_some())?;
            let filter = of(filter, status.map(RunStatus::from));
            begin(engine, &BulkAction::Cancel, &filter, wait, as_json).await
        }
        BulkCommand::Terminate {
            filter,
            status,
            reason,
            all,
            wait,
        } => {
            some_are_meant(&filter, all || status.is_some())?;
            let filter = of(filter, status.map(RunStatus::from));
            let action = BulkAction::Terminate { reason };
            begin(engine, &action, &filter, wait, as_json).await
        }
        BulkCommand::Resume { filter, all, wait } => {
            some_are_meant(&filter, all)?;
            let filter = of(filter, Some(RunStatus::Paused));
            begin(engine, &BulkAction::Resume, &filter, wait, as_json).await
        }
        BulkCommand::List { limit } => {
            show_bulks(&engine.bulks(limit).await.map_err(failed)?, as_json);
            Ok(())
        }
        BulkCommand::Show { id } => {
            let found = engine.get_bulk(id).await.map_err(failed)?;
            let found = found.ok_or_else(|| failed(EngineError::NoBulk(id)))?;
            show_bulks(&[found], as_json);
            Ok(())
        }
        BulkCommand::Stop { id } => {
            if !engine.cancel_bulk(id).await.map_err(failed)? {
                return Err(Failure::unusable(format!(
                    "could not stop operation {id}: it has ended, or there is none"
                )));
            }
            if as_json {
                print_json(&json!({ "bulk": id, "done": true }));
            } else {
                println!("operation {id}: stopped; what is done stays done");
            }
            Ok(())
        }
    }
}

/// That all runs are meant is said, and never left out.
fn some_are_meant(filter: &FilterArgs, is_said: bool) -> Result<(), Failure> {
    if filter.is_empty() && !is_said {
        return Err(Failure::unusable(
            "say which runs: a filter such as --node, or --all",
        ));
    }
    Ok(())
}

async fn begin(
    engine: &Engine,
    action: &BulkAction,
    filter: &RunFilter,
    wait: bool,
    as_json: bool,
) -> Result<(), Failure> {
    let id = engine.bulk(action, filter).await;
    let id = id.map_err(|error| failed(&error))?;
    if !wait {
        if as_json {
            print_json(&json!({ "bulk": id }));
        } else {
            println!("operation {id} has begun; workers do it: velo bulk show {id}");
        }
        return Ok(());
    }
    let bulk = waited_for(engine, id).await;
    let bulk = bulk.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&bulk);
    } else {
        println!("operation {id}: {}", progress(&bulk));
    }
    Ok(())
}

/// Works on it too, and shows how far it is where somebody looks.
async fn waited_for(engine: &Engine, id: i64) -> Result<Bulk, EngineError> {
    let is_seen = std::io::stderr().is_terminal();
    let ended = engine.wait_bulk(id);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            bulk = &mut ended => {
                if is_seen {
                    eprintln!();
                }
                return bulk;
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(500)), if is_seen => {
                if let Some(bulk) = engine.get_bulk(id).await? {
                    eprint!("\r{}", progress(&bulk));
                }
            }
        }
    }
}

fn progress(bulk: &Bulk) -> String {
    let status = match bulk.status {
        BulkStatus::Running => "at work",
        BulkStatus::Done => "done",
        BulkStatus::Cancelled => "stopped",
    };
    format!(
        "{status}, {} of {} runs changed",
        bulk.changed, bulk.matched
    )
}

fn list(groups: &[FailureGroup], as_json: bool) {
    if as_json {
        return print_json(&groups);
    }
    if groups.is_empty() {
        println!("no run is paused by a failure");
        return;
    }
    let mut table = table([
        "runs",
        "graph",
        "node",
        "fingerprint",
        "last",
        "newest run",
        "message",
    ]);
    for group in groups {
        table.add_row([
            group.runs.to_string(),
            format!("{}@{}", group.graph, group.version),
            group.node.clone().unwrap_or_default(),
            group.fingerprint.clone().unwrap_or_default(),
            group.last_at.map(time).unwrap_or_default(),
            group.newest.to_string(),
            of_error(group.error.as_ref(), "message"),
        ]);
    }
    print_table(&table);
}

fn of_error(error: Option<&Value>, field: &str) -> String {
    let text = error.and_then(|error| error[field].as_str());
    text.unwrap_or_default().to_owned()
}

fn show(runs: &[Run], as_json: bool) {
    if as_json {
        return print_json(&runs);
    }
    if runs.is_empty() {
        println!("no such run is paused by a failure");
        return;
    }
    let mut table = table(["run", "graph", "started", "steps", "node", "message"]);
    for run in runs {
        table.add_row([
            run.id.to_string(),
            format!("{}@{}", run.graph, run.version),
            time(run.created_at),
            run.steps.to_string(),
            of_error(run.error.as_ref(), "node"),
            of_error(run.error.as_ref(), "message"),
        ]);
    }
    print_table(&table);
}

fn show_bulks(bulks: &[Bulk], as_json: bool) {
    if as_json {
        return print_json(&bulks);
    }
    if bulks.is_empty() {
        println!("no operation on many runs was begun");
        return;
    }
    let mut table = table(["operation", "what", "runs", "begun", "how far"]);
    for bulk in bulks {
        let filter = match &bulk.filter {
            Value::Object(fields) => {
                let said = fields.iter().filter(|(_, value)| !value.is_null());
                let said = said.map(|(name, value)| format!("{name}={value}"));
                said.collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        };
        table.add_row([
            bulk.id.to_string(),
            bulk.action.clone(),
            filter,
            time(bulk.created_at),
            progress(bulk),
        ]);
    }
    print_table(&table);
}

fn failed_of(filter: FilterArgs) -> RunFilter {
    RunFilter {
        failed: true,
        ..of(filter, None)
    }
}

fn of(filter: FilterArgs, status: Option<RunStatus>) -> RunFilter {
    RunFilter {
        graph: filter.graph,
        version: filter.graph_version,
        status,
        failed: false,
        node: filter.node,
        fingerprint: filter.fingerprint,
        queue: filter.queue,
        since: filter.since,
        until: filter.until,
    }
}

fn failed(error: &EngineError) -> Failure {
    match error {
        EngineError::Database { .. } => Failure::environment(chain(error)),
        _ => Failure::unusable(chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_nothing_said_is_empty() {
        assert!(FilterArgs::default().is_empty());
        let filter = FilterArgs {
            node: Some("charge".to_owned()),
            ..FilterArgs::default()
        };
        assert!(!filter.is_empty());
    }
}
