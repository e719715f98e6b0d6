//! Which run this is about: a new one, or one that has not ended.

use std::path::Path;

use velo_agents::agency::{AgencyError, NewBrief};
use velo_agents::domain::project::{self, Project};
use velo_agents::domain::{LOCAL_TENANT, LOCAL_USER};
use velo_engine::{EngineError, RunId, RunStatus};

use super::pending::Pending;
use super::{looked, looked_up};
use crate::args::{Resume, RunArgs};
use crate::brief;
use crate::exit::{Failure, chain};
use crate::house::House;

/// What the person asked for.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Brief { brief: NewBrief, afresh: bool },
    Resume(Resume),
}

/// The run that is to be watched.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) run: RunId,
    pub(super) project: Project,
    /// Whether it had begun before.
    pub(super) is_continued: bool,
    /// Steps that were committed before.
    pub(super) steps: i32,
    /// Whether another process has it, or had it when it died.
    pub(super) is_elsewhere: bool,
}

/// Reads the command line; nothing is opened yet, so bad input costs nothing.
pub(super) fn wanted(args: &RunArgs) -> Result<Wanted, Failure> {
    if let Some(resume) = &args.resume {
        return resume
            .parse()
            .map(Wanted::Resume)
            .map_err(|error: String| Failure::unusable(format!("could not resume: {error}")));
    }
    let text = match (&args.brief, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => brief::read(file)?,
        (None, None) => {
            return Err(Failure::unusable(
                "nothing to do: give a brief, as in velo run \"A shop for tea\", or --file FILE, or --resume",
            ));
        }
    };
    let brief = NewBrief {
        name: args.name.clone(),
        ..NewBrief::new(text)
    };
    brief.checked_name().map_err(|error| refused(&error))?;
    Ok(Wanted::Brief {
        brief,
        afresh: args.new,
    })
}

/// Finds or starts the run.
pub(super) async fn begin(house: &House, data: &Path, wanted: Wanted) -> Result<Begun, Failure> {
    let pool = house.agency.pool();
    let found = match wanted {
        Wanted::Brief { brief, afresh } => {
            let pending = Pending::of(data, &brief.brief);
            if let Some(key) = pending.key().filter(|_| !afresh) {
                return go_on(house, create(house, &brief, &key).await?).await;
            }
            let unfinished =
                project::newest_unfinished(pool, LOCAL_TENANT, Some(&brief.brief)).await;
            match unfinished.map_err(|error| looked_up(&error))? {
                Some(project) if !afresh => project,
                _ => return start(house, &brief, &pending.begin(afresh)?).await,
            }
        }
        Wanted::Resume(Resume::Newest) => newest(house).await?,
        Wanted::Resume(Resume::Project(id)) => project::get(pool, LOCAL_TENANT, id)
            .await
            .map_err(|error| looked_up(&error))?
            .ok_or_else(|| {
                Failure::unusable(format!("could not resume: there is no project {id}"))
            })?,
        Wanted::Resume(Resume::Run(run)) => project::of_run(pool, LOCAL_TENANT, run.as_i64())
            .await
            .map_err(|error| looked_up(&error))?
            .ok_or_else(|| Failure::unusable(format!("could not resume: there is no run {run}")))?,
    };
    go_on(house, found).await
}

async fn start(house: &House, brief: &NewBrief, key: &str) -> Result<Begun, Failure> {
    let project = create(house, brief, key).await?;
    Ok(Begun {
        run: run_of(&project)?,
        project,
        is_continued: false,
        steps: 0,
        is_elsewhere: false,
    })
}

/// Makes the project, or finds the one that this key made.
async fn create(house: &House, brief: &NewBrief, key: &str) -> Result<Project, Failure> {
    house
        .agency
        .create_project(LOCAL_TENANT, LOCAL_USER, brief, Some(key))
        .await
        .map_err(|error| refused(&error))
}

async fn newest(house: &House) -> Result<Project, Failure> {
    project::newest_unfinished(house.agency.pool(), LOCAL_TENANT, None)
        .await
        .map_err(|error| looked_up(&error))?
        .ok_or_else(|| {
            Failure::unusable("could not resume: no run is unfinished; give a brief to begin one")
        })
}

/// Goes on with what had begun; a paused run is given another try.
async fn go_on(house: &House, project: Project) -> Result<Begun, Failure> {
    let run = run_of(&project)?;
    let engine = house.agency.engine();
    let found = engine.run(run).await.map_err(|error| match error {
        EngineError::NoRun(run) => Failure::unusable(format!(
            "could not resume: run {run} has ended and is no longer kept; the documents of project {} are",
            project.id
        )),
        error => looked(&error),
    })?;
    if found.status != RunStatus::Completed {
        // Also a run that waits for its next attempt: the person does not want to.
        engine.resume(run).await.map_err(|error| looked(&error))?;
    }
    Ok(Begun {
        run,
        project,
        is_continued: true,
        steps: found.steps,
        is_elsewhere: found.is_leased,
    })
}

fn run_of(project: &Project) -> Result<RunId, Failure> {
    project.run_id.map(RunId::from_i64).ok_or_else(|| {
        Failure::unusable(format!(
            "could not resume: project {} was never planned",
            project.id
        ))
    })
}

fn refused(error: &AgencyError) -> Failure {
    match error {
        AgencyError::Store(_) | AgencyError::Start(_) => Failure::environment(chain(error)),
        _ => Failure::unusable(chain(error)),
    }
}
