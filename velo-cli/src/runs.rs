//! `velo runs`: looking at runs, and steering them.

mod past;
mod steer;
mod stream;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};
use velo_agents::agency::Agency;
use velo_engine::{
    Engine, EngineError, ListedQuestion, Question, QuestionFilter, Run, RunId, RunStatus, Why,
    nearest,
};

use crate::args::{HouseArgs, Mode, Picture, RunsArgs, RunsCommand};
use crate::exit::{Exit, Failure, chain};
use crate::graphs;
use crate::house::House;
use crate::paint;
use crate::serve::say;

/// Most questions that are listed.
const LISTED: i64 = 1_000;
/// Width of a table without a terminal.
const PLAIN_WIDTH: u16 = 160;

pub(crate) async fn runs(args: &HouseArgs, runs: RunsArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act(&house.agency, runs).await;
    house.close().await;
    end
}

async fn act(agency: &Agency, runs: RunsArgs) -> Result<Exit, Failure> {
    let engine = agency.engine();
    let as_json = runs.json;
    match runs.command {
        RunsCommand::List {
            status,
            all,
            limit,
            before,
        } => {
            let statuses: Vec<RunStatus> = match (all, status.is_empty()) {
                (true, _) => RunStatus::ALL.to_vec(),
                (false, false) => status.into_iter().map(RunStatus::from).collect(),
                (false, true) => RunStatus::ALL
                    .into_iter()
                    .filter(|status| !status.is_terminal())
                    .collect(),
            };
            let found = engine.runs(&statuses, before, limit).await;
            list(&found.map_err(|error| failed(&error))?, as_json);
        }
        RunsCommand::Show { id } => show(engine, id, as_json).await?,
        RunsCommand::Draw { id, mut draw } => {
            if as_json {
                draw.picture = Picture::Json;
            }
            graphs::run(agency, id, draw).await?;
        }
        RunsCommand::Why { id } => {
            let why = engine.why(id).await.map_err(|error| failed(&error))?;
            if as_json {
                print_json(&why);
            } else {
                println!("{why}");
            }
        }
        RunsCommand::History { id, after, limit } => {
            // So that a run that is not there is told from one without steps.
            engine.run(id).await.map_err(|error| failed(&error))?;
            let steps = engine
                .history(id, after, limit)
                .await
                .map_err(|error| failed(&error))?;
            if as_json {
                print_json(&steps);
            } else {
                let mut table = table(["step", "committed", "fence", "nodes", "wrote", "next"]);
                for step in steps {
                    table.add_row([
                        step.seq.to_string(),
                        time(step.at),
                        step.fence.to_string(),
                        counted(&step.nodes),
                        fields(&step.writes),
                        if step.next.is_empty() {
                            "the end".to_owned()
                        } else {
                            counted(&step.next)
                        },
                    ]);
                }
                print_table(&table);
            }
        }
        RunsCommand::State { id, step } => past::state(engine, id, step).await?,
        RunsCommand::Update {
            id,
            fields,
            overwrite,
            as_node,
            after,
        } => {
            let edit = past::Typed {
                fields: &fields,
                is_overwrite: overwrite,
                node: as_node.as_deref(),
                after,
            };
            past::update(agency, id, edit, as_json).await?;
        }
        RunsCommand::Copy { id, thread } => {
            past::copy(engine, id, thread.as_deref(), as_json).await?;
        }
        RunsCommand::CopyThread { from, to } => {
            past::copy_thread(engine, &from, &to, as_json).await?;
        }
        RunsCommand::Prune { older_than, keep } => {
            past::prune(engine, older_than, keep, as_json).await?;
        }
        RunsCommand::Stream {
            id,
            mode,
            from,
            subgraphs,
            until_stuck,
        } => {
            let wanted = stream::Wanted {
                modes: mode.into_iter().flat_map(Mode::all).collect(),
                from,
                subgraphs,
                until_stuck,
            };
            stream::stream(agency, id, wanted, as_json).await?;
        }
        RunsCommand::Diff { id, before, after } => {
            past::diff(agency, id, before, after, as_json).await?;
        }
        RunsCommand::Fork { id, step, thread } => {
            past::fork(agency, id, step, thread, as_json).await?;
        }
        RunsCommand::Export { id, file } => {
            past::export(engine, id, file.as_deref(), as_json).await?;
        }
        RunsCommand::Import { file } => past::import(engine, &file, as_json).await?,
        RunsCommand::Delete { id } => past::delete(engine, id, as_json).await?,
        RunsCommand::Cancel { id } => steer::cancel(engine, id, as_json).await?,
        RunsCommand::Pause { id, reason } => steer::pause(engine, id, &reason, as_json).await?,
        RunsCommand::Resume { id, step_limit } => {
            steer::resume(engine, id, step_limit, as_json).await?;
        }
        RunsCommand::Retry { id } => steer::retry(engine, id, as_json).await?,
        RunsCommand::Skip { id, task } => {
            engine.run(id).await.map_err(|error| failed(&error))?;
            let is_skipped = engine.skip(id, task).await;
            if !is_skipped.map_err(|error| failed(&error))? {
                let why = engine.why(id).await.map_err(|error| failed(&error))?;
                return Err(Failure::unusable(format!(
                    "could not skip task {task} of run {id}, which is no failed task of a paused run: {why}"
                )));
            }
            done(as_json, id, "goes on without that task");
        }
        RunsCommand::Terminate { id, reason } => {
            steer::terminate(engine, id, &reason, as_json).await?;
        }
        RunsCommand::Questions {
            id,
            thread,
            graph,
            after,
            limit,
        } => {
            let filter = QuestionFilter {
                run: id,
                thread,
                graph,
                after,
                limit,
            };
            let open = engine.list_questions(&filter).await;
            questions(&open.map_err(|error| failed(&error))?, as_json);
        }
        RunsCommand::AnswerAll { id, answers } => {
            let given: BTreeMap<String, Value> =
                serde_json::from_str(&answers).map_err(|error| {
                    Failure::unusable(format!(
                        "could not answer: the answers are no JSON object such as {{\"name\": \"Ada\"}}: {error}"
                    ))
                })?;
            let accepted = engine.answer_all(id, given).await;
            accepted.map_err(|error| failed(&error))?;
            done(
                as_json,
                id,
                "answered; the run goes on as soon as a worker takes it",
            );
        }
        RunsCommand::Answer {
            id,
            name,
            answer,
            task,
        } => {
            let question = only(engine, id, &name, task).await?;
            let accepted = engine.answer(&question, &value(&answer)).await;
            accepted.map_err(|error| failed(&error))?;
            done(
                as_json,
                id,
                "answered; the run goes on as soon as a worker takes it",
            );
        }
        RunsCommand::Signal {
            id,
            name,
            payload,
            key,
        } => {
            let sent = engine
                .signal(id, &name, &value(&payload), key.as_deref())
                .await;
            sent.map_err(|error| failed(&error))?;
            done(as_json, id, "the message is sent");
            // It is kept until somebody waits for it, which nobody may ever do.
            if let Ok(Why::Waiting { signals, .. }) = engine.why(id).await
                && let Some(meant) = misnamed(&name, &signals)
            {
                eprintln!("the run waits for `{meant}` and not for `{name}`; did you mean that?");
            }
        }
    }
    Ok(Exit::Done)
}

/// The message that was probably meant, when the run waits for another one than was sent.
fn misnamed<'a>(name: &str, waited_for: &'a [String]) -> Option<&'a str> {
    let is_awaited = waited_for.iter().any(|known| known == name);
    let meant = || nearest(name, waited_for.iter().map(String::as_str));
    if is_awaited { None } else { meant() }
}

fn list(found: &[Run], as_json: bool) {
    if as_json {
        return print_json(&found);
    }
    if found.is_empty() {
        println!("no such run");
        return;
    }
    let mut table = table([
        "run", "graph", "status", "steps", "thread", "started", "needs",
    ]);
    for run in found {
        let status = match run.status {
            RunStatus::Active if run.is_leased => "running",
            status => status.as_str(),
        };
        let needs = run
            .error
            .as_ref()
            .and_then(|error| error["message"].as_str());
        let needs = needs.unwrap_or_default();
        table.add_row([
            Cell::new(run.id),
            Cell::new(format!("{}@{}", run.graph, run.version)),
            cell(status, run.status),
            Cell::new(run.steps),
            Cell::new(run.thread.as_deref().unwrap_or_default()),
            Cell::new(time(run.created_at)),
            Cell::new(needs),
        ]);
    }
    print_table(&table);
}

async fn show(engine: &Engine, id: RunId, as_json: bool) -> Result<(), Failure> {
    let run = engine.run(id).await.map_err(|error| failed(&error))?;
    let why = engine.why(id).await.map_err(|error| failed(&error))?;
    let of_run = QuestionFilter {
        run: Some(id),
        limit: LISTED,
        ..QuestionFilter::default()
    };
    let open = engine.list_questions(&of_run).await;
    let open = open.map_err(|error| failed(&error))?;
    if as_json {
        print_json(&json!({ "run": run, "why": why, "questions": open }));
        return Ok(());
    }
    println!("run {} of {}@{}", run.id, run.graph, run.version);
    if let Some(thread) = &run.thread {
        println!("thread {thread}");
    }
    println!(
        "{}, {} steps, started {}",
        run.status.as_str(),
        run.steps,
        time(run.created_at)
    );
    if let Some(finished) = run.finished_at {
        println!("ended {}", time(finished));
    }
    println!("{why}");
    if !open.is_empty() {
        println!();
        questions(&open, false);
    }
    Ok(())
}

fn questions(open: &[ListedQuestion], as_json: bool) {
    if as_json {
        return print_json(&open);
    }
    if open.is_empty() {
        println!("no question is open");
        return;
    }
    let mut table = table([
        "id",
        "graph",
        "thread",
        "node",
        "name",
        "question",
        "until",
        "last answer",
    ]);
    for listed in open {
        let question = &listed.question;
        table.add_row([
            question.id.to_string(),
            listed.graph.clone(),
            listed.thread.clone().unwrap_or_default(),
            question.node.clone(),
            question.name.clone(),
            question.question.to_string(),
            question.expires_at.map(time).unwrap_or_default(),
            question
                .refusal
                .as_ref()
                .map(|why| format!("refused: {why}"))
                .unwrap_or_default(),
        ]);
    }
    print_table(&table);
}

/// The one open question of this name.
async fn only(
    engine: &Engine,
    id: RunId,
    name: &str,
    task: Option<i32>,
) -> Result<Question, Failure> {
    let mut open = engine
        .questions(Some(id), LISTED)
        .await
        .map_err(|error| failed(&error))?;
    open.retain(|question| question.name == name && task.is_none_or(|task| question.task == task));
    match open.len() {
        1 => Ok(open.remove(0)),
        0 => Err(Failure::unusable(format!(
            "could not answer `{name}`: run {id} has no such question open; velo runs questions {id} lists those it has"
        ))),
        several => Err(Failure::unusable(format!(
            "could not answer `{name}`: {several} tasks of run {id} ask it; name one with --task"
        ))),
    }
}

/// What was typed, as JSON, or as text when it is none.
fn value(typed: &str) -> Value {
    serde_json::from_str(typed).unwrap_or_else(|_| Value::String(typed.to_owned()))
}

/// Nodes, those of many sends once with their number.
fn counted(nodes: &[String]) -> String {
    let mut told: Vec<(&str, usize)> = Vec::new();
    for node in nodes {
        match told.last_mut() {
            Some((last, times)) if *last == node.as_str() => *times += 1,
            _ => told.push((node, 1)),
        }
    }
    let told = told.into_iter().map(|(node, times)| match times {
        1 => node.to_owned(),
        times => format!("{node} ×{times}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The fields that were written, each once.
fn fields(writes: &Value) -> String {
    let mut names: Vec<&str> = Vec::new();
    for write in writes.as_array().into_iter().flatten() {
        match write[0].as_str() {
            Some(name) if !names.contains(&name) => names.push(name),
            _ => (),
        }
    }
    names.join(", ")
}

fn done(as_json: bool, id: RunId, told: &str) {
    if as_json {
        print_json(&json!({ "run_id": id, "done": true }));
    } else {
        println!("run {id}: {told}");
    }
}

pub(crate) fn failed(error: &EngineError) -> Failure {
    match error {
        EngineError::NoRun(_)
        | EngineError::NotOpen { .. }
        | EngineError::SeveralOpen { .. }
        | EngineError::BadAnswer { .. }
        | EngineError::Ended(_)
        | EngineError::BadValue(_)
        | EngineError::TooLarge(_)
        | EngineError::Unstorable { .. }
        | EngineError::NoStep { .. }
        | EngineError::OtherGraph { .. }
        | EngineError::Refused { .. }
        | EngineError::NothingToDo { .. }
        | EngineError::NotEnded(_)
        | EngineError::Unfit { .. }
        | EngineError::ThreadBusy { .. }
        | EngineError::ThreadNotEmpty(_)
        | EngineError::ThreadTooLong { .. }
        | EngineError::AtWork(_)
        | EngineError::NoNode { .. }
        | EngineError::MovedOn { .. }
        | EngineError::Unreadable { .. }
        | EngineError::NotBegun(_)
        | EngineError::NothingFailed(_)
        | EngineError::BadExport(_) => Failure::unusable(chain(error)),
        _ => Failure::environment(chain(error)),
    }
}

/// Not painted by hand: escape codes would count as columns.
fn cell(text: &str, status: RunStatus) -> Cell {
    let cell = Cell::new(text);
    if !paint::out_has_colour() {
        return cell;
    }
    match status {
        RunStatus::Completed => cell.fg(Color::Green),
        RunStatus::Paused => cell.fg(Color::Red),
        RunStatus::Waiting => cell.fg(Color::Yellow),
        RunStatus::Active => cell.add_attribute(Attribute::Bold),
        RunStatus::Cancelled => cell.add_attribute(Attribute::Dim),
    }
}

pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

pub(crate) fn table<const N: usize>(titles: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(titles.map(|title| {
            let cell = Cell::new(title);
            if paint::out_has_colour() {
                cell.add_attribute(Attribute::Dim)
            } else {
                cell
            }
        }));
    if table.width().is_none() {
        table.set_width(PLAIN_WIDTH);
    }
    table
}

pub(crate) fn print_table(table: &Table) {
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}

pub(crate) fn print_json(value: &impl Serialize) {
    println!(
        "{}",
        serde_json::to_string(value).expect("texts and numbers are always JSON")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_text() {
        assert_eq!(value("7"), json!(7));
        assert_eq!(value(r#"{"a": 1}"#), json!({ "a": 1 }));
        assert_eq!(value("ship it"), json!("ship it"));
    }

    #[test]
    fn many_sends_of_a_node_are_counted() {
        let nodes = ["plan", "write", "write", "write"].map(str::to_owned);
        assert_eq!(counted(&nodes), "plan, write ×3");
        assert_eq!(fields(&json!([["a", 1], ["b", 2], ["a", 3]])), "a, b");
    }
}
