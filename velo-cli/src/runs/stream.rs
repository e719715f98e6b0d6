//! `velo runs stream`: what becomes of a run, as it does.

use std::io::Write;

use serde_json::Value;
use velo_agents::agency::Agency;
use velo_engine::{Position, RunId, StreamItem, StreamMode, Streamed};

use super::{counted, failed, fields};
use crate::exit::Failure;

/// What is asked for.
pub(super) struct Wanted {
    pub(super) modes: Vec<StreamMode>,
    pub(super) from: Position,
    pub(super) subgraphs: bool,
    pub(super) until_stuck: bool,
}

/// Prints one item a line until the run has ended, or nobody reads any more.
pub(super) async fn stream(
    agency: &Agency,
    id: RunId,
    wanted: Wanted,
    as_json: bool,
) -> Result<(), Failure> {
    let stream = agency.engine().stream_json(id).from(wanted.from);
    let mut stream = stream.knows(agency.planning().clone());
    for mode in wanted.modes {
        stream = stream.mode(mode);
    }
    if wanted.subgraphs {
        stream = stream.subgraphs();
    }
    if wanted.until_stuck {
        stream = stream.until_stuck();
    }
    let mut stream = stream.open().await.map_err(|error| failed(&error))?;
    while let Some(item) = stream.next().await {
        let item = item.map_err(|error| failed(&error))?;
        let line = if as_json {
            serde_json::to_string(&item)
                .map_err(|error| Failure::new("could not write an item as JSON", error))?
        } else {
            line(&item)
        };
        // A pipe that was closed has had enough.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            break;
        }
    }
    Ok(())
}

/// An item for people: when, how far below, what.
fn line(item: &StreamItem) -> String {
    let levels = item.path.iter().map(|level| format!("{} > ", level.node));
    let path: String = levels.collect();
    format!("{}  {path}{}", item.at.format("%H:%M:%S%.3f"), told(item))
}

fn told(item: &StreamItem) -> String {
    match &item.what {
        Streamed::Values { step } => {
            let state = item.state.as_ref().unwrap_or(&Value::Null);
            format!("values    step {step}: {state}")
        }
        Streamed::Updates {
            step,
            nodes,
            writes,
            is_edit,
            ..
        } => {
            let by = if *is_edit { "by hand" } else { "by" };
            let wrote = fields(writes);
            let wrote = if wrote.is_empty() { "nothing" } else { &wrote };
            format!("updates   step {step}: {wrote} {by} {}", counted(nodes))
        }
        Streamed::Asked { question } => {
            format!(
                "asked     {} ({}): {}",
                question.name, question.node, question.question
            )
        }
        Streamed::Message {
            node, name, text, ..
        } => format!("message   {node} {name}: {text:?}"),
        Streamed::Shown {
            node, event, body, ..
        } => format!("shown     {node} {event}: {body}"),
        Streamed::Emitted { seq, event, body } => format!("emitted   {seq} {event}: {body}"),
        Streamed::Planned {
            step, task, node, ..
        } => format!("planned   step {step}: {node}, task {task}"),
        Streamed::Finished {
            step, task, node, ..
        } => format!("finished  step {step}: {node}, task {task}"),
        Streamed::Failed {
            node,
            task,
            attempt,
            error,
            retry_at,
            ..
        } => {
            let message = error["message"].as_str().unwrap_or_default();
            let next = match retry_at {
                Some(time) => format!("again at {}", time.format("%H:%M:%S")),
                None => "not tried again".to_owned(),
            };
            format!("failed    {node}, task {task}, attempt {attempt}: {message}; {next}")
        }
        Streamed::Child {
            node, child, graph, ..
        } => format!("child     {node} started run {child} of {graph}"),
        Streamed::Checkpoint {
            step, nodes, next, ..
        } => {
            let next = if next.is_empty() {
                "the end".to_owned()
            } else {
                counted(next)
            };
            let nodes = if nodes.is_empty() {
                "the start".to_owned()
            } else {
                counted(nodes)
            };
            format!("committed step {step}: {nodes}, then {next}")
        }
        Streamed::Gap { of, lost } => {
            let lost = lost.map_or_else(|| "some".to_owned(), |lost| lost.to_string());
            format!("gap       {lost} {of:?} are not there any more").to_lowercase()
        }
        other => format!("{other:?}"),
    }
}
