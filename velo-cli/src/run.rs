//! `velo run`: a brief becomes a PRD and a plan, while the person watches.

mod begin;
mod files;
mod line;
mod pending;
mod progress;
mod report;
mod watch;

use std::path::Path;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;
use velo_agents::domain::{LOCAL_TENANT, project};
use velo_engine::{RunStatus, is_transient};
use velo_worker::{Stopped, Worker, WorkerError};

use crate::args::{HouseArgs, RunArgs};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::stop::Stop;

use begin::Begun;
use pending::Pending;
use progress::Progress;
use report::Report;

/// How long the node that is at work may take to finish when the person interrupts.
const GRACE: Duration = Duration::from_secs(30);
/// What the display may be behind before it misses something.
const WATCHED: usize = 4_096;

pub(crate) async fn run(args: &HouseArgs, run: RunArgs) -> Result<Exit, Failure> {
    let wanted = begin::wanted(&run)?;
    if let Some(out) = &run.out {
        files::probe(out)?;
    }
    let progress = Progress::new();
    let house = House::open(args, |what| progress.say(what)).await?;
    let end = with_house(&house, &args.data, &run, wanted, &progress).await;
    progress.clear();
    house.close().await;
    end
}

async fn with_house(
    house: &House,
    data: &Path,
    run: &RunArgs,
    wanted: begin::Wanted,
    progress: &Progress,
) -> Result<Exit, Failure> {
    let begun = begin::begin(house, data, wanted).await?;
    progress.begin(&begun, house);
    let interrupted = work(house, &begun, progress).await?;
    progress.clear();

    let report = Report::of(house, &begun).await?;
    let end = match report.status {
        RunStatus::Completed => {
            let folder =
                files::write(house, &begun.project, run.out.as_deref(), &report.artifacts).await?;
            report.print(run.json, Some(&folder));
            let brief = project::brief(house.agency.pool(), LOCAL_TENANT, begun.project.id).await;
            if let Ok(Some(brief)) = brief {
                Pending::of(data, &brief).done();
            }
            return Ok(Exit::Done);
        }
        RunStatus::Active if interrupted => Exit::Interrupted,
        _ => Exit::Paused,
    };
    report.print(run.json, None);
    report.explain(end);
    Ok(end)
}

/// Works on the run, in this process, until it ends or the person interrupts; says whether they did.
async fn work(house: &House, begun: &Begun, progress: &Progress) -> Result<bool, Failure> {
    let engine = house.agency.engine();
    let (observer, observed) = broadcast::channel(WATCHED);
    let stop = Stop::listen();
    let enough = stop.gently.child_token();
    let worker = Worker::builder(engine.clone())
        .name("velo run")
        .serve(house.agency.planning().clone())
        .only(begun.run)
        .observe(observer)
        .grace(GRACE)
        .run(enough.clone().cancelled_owned());
    let mut worker = AbortOnDropHandle::new(tokio::spawn(worker));
    let watching = watch::watch(house, begun, observed, progress);
    tokio::pin!(watching);
    let (mut has_ended, mut is_interrupted) = (false, false);
    loop {
        tokio::select! {
            ended = &mut worker => {
                ended_in_order(ended)?;
                return Ok(is_interrupted);
            }
            seen = &mut watching, if !has_ended => {
                seen?;
                has_ended = true;
                enough.cancel();
            }
            () = stop.gently.cancelled(), if !is_interrupted => {
                is_interrupted = true;
                progress.say("finishing the step that is under way; Ctrl-C again stops at once");
            }
            () = stop.now.cancelled() => return Ok(true),
        }
    }
}

fn ended_in_order(
    ended: Result<Result<Stopped, WorkerError>, tokio::task::JoinError>,
) -> Result<(), Failure> {
    match ended {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::environment(chain(&error))),
        Err(error) => Err(Failure::new("the worker broke", error)),
    }
}

/// What a failed look at the database means for the person.
fn looked(error: &velo_engine::EngineError) -> Failure {
    let text = chain(error);
    if error.is_transient() {
        Failure::environment(format!(
            "{text}; the run is kept: velo run --resume goes on with it"
        ))
    } else {
        Failure::new("could not look at the run", text)
    }
}

/// The same for the agency's own tables.
fn looked_up(error: &velo_agents::domain::StoreError) -> Failure {
    let text = chain(error);
    if error.is_transient() {
        Failure::environment(format!(
            "{text}; the run is kept: velo run --resume goes on with it"
        ))
    } else {
        Failure::new("could not read the project", text)
    }
}

/// The same for a plain statement.
fn asked(doing: &str, error: sqlx::Error) -> Failure {
    if is_transient(&error) {
        Failure::environment(format!(
            "{doing}: {}; the run is kept: velo run --resume goes on with it",
            chain(&error)
        ))
    } else {
        Failure::new(doing, error)
    }
}
