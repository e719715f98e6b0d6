//! `velo runs state`, `diff`, `fork`, `copy`, `update`, `export`, `import`, `delete`, `prune`: what a run has
//! done, and what becomes of it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use velo_agents::agency::Agency;
use velo_agents::planning::Planning;
use velo_engine::{Change, Engine, RunExport, RunId, State, Update};

use super::{done, failed, print_json};
use crate::exit::{Failure, chain};

/// Prints the state after a step, or the newest one.
pub(super) async fn state(engine: &Engine, id: RunId, step: Option<i32>) -> Result<(), Failure> {
    let state = match step {
        Some(seq) => engine.value_at(id, seq).await,
        None => engine.value(id).await,
    };
    print_json(&state.map_err(|error| failed(&error))?);
    Ok(())
}

/// An edit, as it was typed.
#[derive(Debug)]
pub(super) struct Typed<'a> {
    pub(super) fields: &'a str,
    pub(super) is_overwrite: bool,
    pub(super) node: Option<&'a str>,
    pub(super) after: Option<i32>,
}

/// Edits the state of a run of the agency: of other graphs the types are not known here, and what does not fit
/// them would make the run unreadable.
pub(super) async fn update(
    agency: &Agency,
    id: RunId,
    typed: Typed<'_>,
    as_json: bool,
) -> Result<(), Failure> {
    let engine = agency.engine();
    let unusable = |why: String| Failure::unusable(format!("could not edit run {id}: {why}"));
    let run = engine.run(id).await.map_err(|error| failed(&error))?;
    if run.graph != agency.planning().shape().name() {
        return Err(unusable(format!(
            "its graph is `{}`, whose types only the program that serves it has; edit it there, by update_state",
            run.graph
        )));
    }
    let fields: Map<String, Value> = serde_json::from_str(typed.fields).map_err(|error| {
        unusable(format!(
            "what is written is no JSON object of fields: {error}"
        ))
    })?;
    let writes = fields
        .into_iter()
        .map(|(field, value)| match typed.is_overwrite {
            true => json!([field, value, true]),
            false => json!([field, value]),
        });
    let writes = Value::from_iter(writes).to_string();
    let update = <Planning as State>::Update::decode(writes.as_bytes())
        .map_err(|error| unusable(chain(&error)))?;
    let mut edit = engine.update_state(agency.planning(), id, update);
    if let Some(node) = typed.node {
        edit = edit.as_node_named(node).map_err(|error| failed(&error))?;
    }
    if let Some(after) = typed.after {
        edit = edit.after(after);
    }
    let seq = edit.await.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&json!({ "run_id": id, "step": seq }));
    } else {
        println!("run {id}: edited, as its step {seq}");
    }
    Ok(())
}

/// Copies a run, and says what the copy is called.
pub(super) async fn copy(
    engine: &Engine,
    id: RunId,
    thread: Option<&str>,
    as_json: bool,
) -> Result<(), Failure> {
    let copied = engine.copy(id, thread).await;
    let copy = copied.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&json!({ "run_id": copy, "copy_of": id }));
    } else {
        println!("run {copy}: a copy of run {id}");
    }
    Ok(())
}

/// Copies the runs of a thread, and says what the copies are called.
pub(super) async fn copy_thread(
    engine: &Engine,
    from: &str,
    to: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let copied = engine.copy_thread(from, to).await;
    let copies = copied.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&json!({ "thread": to, "run_ids": copies }));
    } else if copies.is_empty() {
        println!("thread {from} has no runs");
    } else {
        for copy in copies {
            println!("run {copy}: in thread {to}");
        }
    }
    Ok(())
}

/// Deletes runs that have ended.
pub(super) async fn prune(
    engine: &Engine,
    older_than: Duration,
    keep: u32,
    as_json: bool,
) -> Result<(), Failure> {
    let deleted = engine.prune(older_than, keep).await;
    let deleted = deleted.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&json!({ "deleted": deleted }));
    } else {
        println!("deleted runs: {deleted}");
    }
    Ok(())
}

/// Shows what differs between two steps.
pub(super) async fn diff(
    agency: &Agency,
    id: RunId,
    before: i32,
    after: i32,
    as_json: bool,
) -> Result<(), Failure> {
    let engine = agency.engine();
    let run = engine.run(id).await.map_err(|error| failed(&error))?;
    let diff = if run.graph == agency.planning().shape().name() {
        engine.diff::<Planning>(id, before, after).await
    } else {
        engine.diff_values(id, before, after).await
    };
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
    let engine = agency.engine();
    let run = engine.run(id).await.map_err(|error| failed(&error))?;
    let new = if run.graph == agency.planning().shape().name() {
        let mut fork = engine.fork(agency.planning(), id, seq);
        if let Some(thread) = thread {
            fork = fork.thread(thread);
        }
        fork.await
    } else {
        engine.fork_untyped(id, seq, thread.as_deref()).await
    };
    let new = new.map_err(|error| failed(&error))?;
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
