//! What came of a run, for people and for machines.

use std::path::Path;

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, Table, Width, presets};
use console::Term;
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
/// Narrower than this, a table has only the columns that matter most.
const NARROW: u16 = 90;
/// Columns of an id such as `T-001` and the space after it.
const ID: u16 = 6;
/// Columns around the content of a cell, without the space after the last id.
const PADDING: u16 = 1;

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
        let last = state
            .plan_replies
            .last()
            .or_else(|| state.prd_replies.last());
        Ok(Self {
            status: run.status,
            project,
            run: begun.run,
            tasks: all_tasks(house, project).await?,
            artifacts,
            used: used.map_err(|error| looked_up(&error))?,
            model: last.map(|reply| reply.reply.model.clone()),
            is_offline: last.map_or_else(|| house.model.is_offline(), |reply| reply.offline),
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
        if self.status == RunStatus::Cancelled {
            eprintln!("the run was cancelled; velo run --new with its brief begins another");
            return;
        }
        let label = paint::err("the run is paused:", Tone::Attention);
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
        println!();
        for line in self.table().lines() {
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

impl Report {
    /// The tasks, as wide as the terminal. A narrow one shows less of each.
    fn table(&self) -> Table {
        let width = if paint::out_is_terminal() {
            Term::stdout().size().1
        } else {
            PLAIN_WIDTH
        };
        let is_narrow = width < NARROW;
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
        let mut titles = vec!["task", "title", "agent", "after"];
        if !is_narrow {
            titles.extend(["priority", "serves"]);
        }
        let titles = titles.into_iter().map(|title| {
            let cell = Cell::new(title);
            // Not painted by hand: escape codes would count as columns.
            if paint::out_has_colour() {
                cell.add_attribute(Attribute::Dim)
            } else {
                cell
            }
        });
        table.set_header(titles);
        for task in &self.tasks {
            let mut row = vec![
                task.key.clone(),
                task.title.clone(),
                task.assigned_agent
                    .clone()
                    .unwrap_or_else(|| "–".to_owned()),
                task.depends_on.join(" "),
            ];
            if !is_narrow {
                let priority = serde_json::json!(task.priority);
                row.push(priority.as_str().unwrap_or_default().to_owned());
                row.push(task.requirement_ids.join(" "));
            }
            table.add_row(row);
        }
        // What is left is the title's.
        let ids = |of: u16| Width::Fixed(of * ID + PADDING);
        let of_after = if is_narrow { 2 } else { 3 };
        let widths = [
            (0, ColumnConstraint::ContentWidth),
            (2, ColumnConstraint::ContentWidth),
            (3, ColumnConstraint::UpperBoundary(ids(of_after))),
            (4, ColumnConstraint::ContentWidth),
            (5, ColumnConstraint::UpperBoundary(ids(2))),
        ];
        for (column, width) in widths {
            if let Some(column) = table.column_mut(column) {
                column.set_constraint(width);
            }
        }
        table
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
