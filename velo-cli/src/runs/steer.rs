//! `velo runs pause|resume|retry|cancel|terminate`. Asked again, each gives the same answer.

use velo_engine::{Engine, RunId};

use super::{done, failed};
use crate::exit::Failure;

/// What is done by whoever has the run.
const SOON: &str = "a worker that is at it does so within a heartbeat";

pub(super) async fn pause(
    engine: &Engine,
    id: RunId,
    reason: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let paused = engine.pause(id, reason).await;
    paused.map_err(|error| failed(&error))?;
    let why = engine.why(id).await.map_err(|error| failed(&error))?;
    done(as_json, id, &why.to_string());
    Ok(())
}

pub(super) async fn resume(
    engine: &Engine,
    id: RunId,
    steps: Option<u64>,
    as_json: bool,
) -> Result<(), Failure> {
    let resumed = match steps {
        Some(steps) => engine.resume_within(id, steps).await,
        None => engine.resume(id).await,
    };
    if !resumed.map_err(|error| failed(&error))? {
        return Err(ended(engine, "resume", id).await);
    }
    done(as_json, id, "goes on as soon as a worker takes it");
    Ok(())
}

pub(super) async fn retry(engine: &Engine, id: RunId, as_json: bool) -> Result<(), Failure> {
    engine.retry(id).await.map_err(|error| failed(&error))?;
    done(as_json, id, "tries again as soon as a worker takes it");
    Ok(())
}

pub(super) async fn cancel(engine: &Engine, id: RunId, as_json: bool) -> Result<(), Failure> {
    if !engine.cancel(id).await.map_err(|error| failed(&error))? {
        return Err(ended(engine, "cancel", id).await);
    }
    done(as_json, id, &format!("cancelled; {SOON}"));
    Ok(())
}

pub(super) async fn terminate(
    engine: &Engine,
    id: RunId,
    reason: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let ended_now = engine.terminate(id, reason).await;
    if !ended_now.map_err(|error| failed(&error))? {
        return Err(ended(engine, "terminate", id).await);
    }
    done(as_json, id, &format!("terminated; {SOON}"));
    Ok(())
}

async fn ended(engine: &Engine, verb: &str, id: RunId) -> Failure {
    match engine.why(id).await {
        Ok(why) => Failure::unusable(format!("could not {verb} run {id}: {why}")),
        Err(error) => failed(&error),
    }
}
