//! `velo runs diff`, `fork`, `export`, `import`, `delete`: what a run has done, and what becomes of it.

use std::path::Path;

use serde_json::json;
use velo_agents::agency::Agency;
use velo_agents::planning::Planning;
use velo_engine::{Change, Engine, RunExport, RunId};

use super::{done, failed, print_json};
use crate::exit::Failure;

/// Shows what differs between two steps.
pub(super) async fn diff(
    engine: &Engine,
    id: RunId,
    before: i32,
    after: i32,
    as_json: bool,
) -> Result<(), Failure> {
    let diff = engine.diff::<Planning>(id, before, after).await;
    let diff = diff.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&diff);
        return Ok(());
    }
    if diff.is_empty() {
        println!("no difference");
    }
    for change in &diff.0 {
        match change {
            Change::Added { at, value } => println!("+ {at}: {value}"),
            Change::Removed { at, value } => println!("- {at}: {value}"),
            Change::Changed { at, from, to } => println!("~ {at}: {from} -> {to}"),
        }
    }
    Ok(())
}

/// Forks a run, and says what the new one is called.
pub(super) async fn fork(
    agency: &Agency,
    id: RunId,
    seq: i32,
    thread: Option<String>,
    as_json: bool,
) -> Result<(), Failure> {
    let mut fork = agency.engine().fork(agency.planning(), id, seq);
    if let Some(thread) = thread {
        fork = fork.thread(thread);
    }
    let new = fork.await.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&json!({ "run_id": new, "origin": { "run": id, "seq": seq } }));
    } else {
        println!("run {new}: forked from step {seq} of run {id}");
    }
    Ok(())
}

/// Writes a run to a file, or to standard output.
pub(super) async fn export(
    engine: &Engine,
    id: RunId,
    file: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let export = engine.export(id).await.map_err(|error| failed(&error))?;
    let Some(file) = file else {
        print_json(&export);
        return Ok(());
    };
    let text = serde_json::to_vec(&export)
        .map_err(|error| Failure::new("could not write the export as JSON", error))?;
    tokio::fs::write(file, text).await.map_err(|error| {
        Failure::environment(format!("could not write {}: {error}", file.display()))
    })?;
    done(as_json, id, &format!("exported to {}", file.display()));
    Ok(())
}

/// Brings an exported run into the database.
pub(super) async fn import(engine: &Engine, file: &Path, as_json: bool) -> Result<(), Failure> {
    let text = tokio::fs::read(file).await.map_err(|error| {
        Failure::unusable(format!("could not read {}: {error}", file.display()))
    })?;
    let export: RunExport = serde_json::from_slice(&text).map_err(|error| {
        Failure::unusable(format!(
            "could not import {}: it is no export of a run: {error}",
            file.display()
        ))
    })?;
    let id = engine
        .import(&export)
        .await
        .map_err(|error| failed(&error))?;
    let told = if export.run.status.is_terminal() {
        "imported"
    } else {
        "imported, and paused: stop the original, then velo runs resume"
    };
    done(as_json, id, told);
    Ok(())
}

/// Deletes a run that has ended.
pub(super) async fn delete(engine: &Engine, id: RunId, as_json: bool) -> Result<(), Failure> {
    if !engine.delete(id).await.map_err(|error| failed(&error))? {
        return Err(Failure::unusable(format!("there is no run {id}")));
    }
    done(as_json, id, "deleted");
    Ok(())
}
