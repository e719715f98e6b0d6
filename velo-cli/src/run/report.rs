//! What came of a run, for people and for machines.

use std::path::Path;

use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use velo_agents::domain::artifact::{self, Artifact};
use velo_agents::domain::task::{self, Task};
use velo_agents::domain::usage::{self, UsageTotal};
use velo_agents::domain::{LOCAL_TENANT, PageRequest, ProjectId};
use velo_agents::planning::Planning;
use velo_engine::{RunId, RunStatus};

use super::begin::Begun;
use super::progress::spent;
use super::{looked, looked_up};
use crate::exit::{Exit, Failure};
use crate::house::House;
use crate::paint::{self, Tone};

/// Wider than this no table is drawn without a terminal.
const PLAIN_WIDTH: u16 = 120;

/// A run, when this process stopped watching it.
pub(super) struct Report {
    pub(super) status: RunStatus,
    pub(super) artifacts: Vec<Artifact>,
    project: ProjectId,
    run: RunId,
    tasks: Vec<Task>,
    used: UsageTotal,
    model: Option<String>,
    is_offline: bool,
    error: Option<String>,
}

/// The one object that `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    project_id: ProjectId,
    run_id: RunId,
    status: RunStatus,
    tasks: Vec<PrintedTask<'a>>,
    artifacts: Vec<PrintedArtifact<'a>>,
    tokens: i64,
    cost_usd: f64,
    model: Option<&'a str>,
    offline: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct PrintedTask<'a> {
    id: String,
    key: &'a str,
    title: &'a str,
    kind: &'a str,
    priority: task::Priority,
    assigned_agent: Option<&'a str>,
    depends_on: &'a [String],
    requirement_ids: &'a [String],
}

#[derive(Serialize)]
struct PrintedArtifact<'a> {
    id: String,
    file_name: &'a str,
    version: i32,
    sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl<'a> PrintedTask<'a> {
    fn of(task: &'a Task) -> Self {
        Self {
            id: task.id.to_string(),
            key: &task.key,
            title: &task.title,
            kind: &task.kind,
            priority: task.priority,
            assigned_agent: task.assigned_agent.as_deref(),
            depends_on: &task.depends_on,
            requirement_ids: &task.requirement_ids,
        }
    }
}

impl<'a> PrintedArtifact<'a> {
    fn of(found: &'a Artifact, folder: Option<&Path>) -> Self {
        Self {
            id: found.id.to_string(),
            file_name: &found.file_name,
            version: found.version,
            sha256: &found.sha256,
            path: folder.map(|folder| folder.join(&found.file_name).display().to_string()),
        }
    }
}

impl Report {
    pub(super) async fn of(house: &House, begun: &Begun) -> Result<Self, Failure> {
        let (pool, project) = (house.agency.pool(), begun.project.id);
        let engine = house.agency.engine();
        let run = engine
            .run(begun.run)
            .await
            .map_err(|error| looked(&error))?;
        let state: Planning = engine
            .state(begun.run)
            .await
            .map_err(|error| looked(&error))?;
        let used = usage::total(pool, LOCAL_TENANT, project).await;
        let mut artifacts = all_artifacts(house, project).await?;
        artifacts.sort_by(|one, other| one.file_name.cmp(&other.file_name));
        let last = state.plan_replies.last().or(state.prd_replies.last());
        Ok(Self {
            status: run.status,
            project,
            run: begun.run,
            tasks: all_tasks(house, project).await?,
            artifacts,
            used: used.map_err(|error| looked_up(&error))?,
            model: last.map(|reply| reply.reply.model.clone()),
            is_offline: last.map_or(house.model.is_offline(), |reply| reply.offline),
            error: run.error.map(|error| told(&error)),
        })
    }

    /// Prints it on standard output; `folder` is where the documents were written.
    pub(super) fn print(&self, as_json: bool, folder: Option<&Path>) {
        if as_json {
            let printed = serde_json::to_string(&self.printed(folder));
            println!("{}", printed.expect("texts and numbers are always JSON"));
        } else if self.status == RunStatus::Completed {
            self.print_for_people(folder);
        }
    }

    /// Says on standard error why it did not come to its end, and how to go on.
    pub(super) fn explain(&self, end: Exit) {
        let resume = paint::err(&format!("velo run --resume {}", self.run), Tone::Strong);
        if end == Exit::Interrupted {
            eprintln!("interrupted; what is done is kept. Go on with: {resume}");
            return;
        }
        let label = paint::err("the run needs attention:", Tone::Attention);
        let error = self.error.as_deref().unwrap_or("nobody said why");
        eprintln!("{label} {error}");
        eprintln!("what is done is kept. Mend the cause, then: {resume}");
    }

    fn printed(&self, folder: Option<&Path>) -> Printed<'_> {
        Printed {
            project_id: self.project,
            run_id: self.run,
            status: self.status,
            tasks: self.tasks.iter().map(PrintedTask::of).collect(),
            artifacts: self
                .artifacts
                .iter()
                .map(|found| PrintedArtifact::of(found, folder))
                .collect(),
            tokens: self.used.tokens_used,
            cost_usd: self.used.cost_usd,
            model: self.model.as_deref(),
            offline: self.is_offline,
            error: self.error.as_deref(),
        }
    }

    fn print_for_people(&self, folder: Option<&Path>) {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(
                ["task", "title", "agent", "priority", "after", "serves"]
                    .map(|title| Cell::new(paint::out(title, Tone::Quiet))),
            );
        if !paint::out_has_colour() {
            table.set_width(PLAIN_WIDTH);
        }
        for task in &self.tasks {
            table.add_row([
                Cell::new(&task.key),
                Cell::new(&task.title),
                Cell::new(task.assigned_agent.as_deref().unwrap_or("–")),
                Cell::new(
                    serde_json::json!(task.priority)
                        .as_str()
                        .unwrap_or_default(),
                ),
                Cell::new(task.depends_on.join(" ")),
                Cell::new(task.requirement_ids.join(" ")),
            ]);
        }
        println!();
        for line in table.lines() {
            println!("{}", line.trim_end());
        }
        println!();
        let model = self.model.as_deref().unwrap_or("no model");
        let by = if self.is_offline {
            paint::out("offline model (rules, no language model)", Tone::Attention)
        } else {
            model.to_owned()
        };
        println!(
            "{} tasks, {} documents, {}, by {by}",
            self.tasks.len(),
            self.artifacts.len(),
            spent(self.used)
        );
        if let Some(folder) = folder {
            for artifact in &self.artifacts {
                println!("  {}", folder.join(&artifact.file_name).display());
            }
        }
    }
}

async fn all_tasks(house: &House, project: ProjectId) -> Result<Vec<Task>, Failure> {
    let (mut all, mut page) = (Vec::new(), PageRequest::default());
    loop {
        let found = task::list(house.agency.pool(), LOCAL_TENANT, project, page).await;
        let found = found.map_err(|error| looked_up(&error))?;
        all.extend(found.items);
        match found.next_cursor {
            Some(next) => page = PageRequest::new(None, Some(next)),
            None => return Ok(all),
        }
    }
}

async fn all_artifacts(house: &House, project: ProjectId) -> Result<Vec<Artifact>, Failure> {
    let (mut all, mut page) = (Vec::new(), PageRequest::default());
    loop {
        let found = artifact::list(house.agency.pool(), LOCAL_TENANT, project, page).await;
        let found = found.map_err(|error| looked_up(&error))?;
        all.extend(found.items);
        match found.next_cursor {
            Some(next) => page = PageRequest::new(None, Some(next)),
            None => return Ok(all),
        }
    }
}

/// Why a run is paused, in a sentence.
fn told(error: &serde_json::Value) -> String {
    let text = |field: &str| error[field].as_str().unwrap_or_default();
    let causes = error["causes"].as_array().into_iter().flatten();
    let causes = causes.filter_map(|cause| cause.as_str());
    let mut told = match text("node") {
        "" => text("message").to_owned(),
        node => format!("{node}: {}", text("message")),
    };
    for cause in causes {
        if !told.ends_with(cause) {
            told.push_str(": ");
            told.push_str(cause);
        }
    }
    told
}
