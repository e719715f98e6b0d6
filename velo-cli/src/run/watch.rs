//! Watching a run: what is stored of it, whoever works on it, and what this process's worker says.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};
use velo_agents::domain::{LOCAL_TENANT, ProjectEvent, usage};
use velo_agents::planning::Writing;
use velo_engine::events::{self, Event};
use velo_engine::{Happening, Observed, RunStatus};

use super::begin::Begun;
use super::progress::Progress;
use super::{asked, looked, looked_up};
use crate::exit::Failure;
use crate::house::House;

/// Between two looks at the stored events.
const LOOK: Duration = Duration::from_millis(150);
/// How long the database may be away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events of one look.
const PAGE: i64 = 200;

/// Shows what happens until the run ends or is paused.
pub(super) async fn watch(
    house: &House,
    begun: &Begun,
    mut observed: broadcast::Receiver<Observed>,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut shown = if begun.is_continued {
        last_seq(house, begun).await?
    } else {
        0
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_deaf, mut away_since) = (false, None::<Instant>);
    loop {
        tokio::select! {
            seen = observed.recv(), if !is_deaf => match seen {
                Ok(seen) => show_observed(progress, &seen),
                // A display may miss something.
                Err(RecvError::Lagged(_)) => (),
                Err(RecvError::Closed) => is_deaf = true,
            },
            _ = look.tick() => match look_again(house, begun, progress, &mut shown).await {
                Ok(true) => return Ok(()),
                Ok(false) => away_since = None,
                Err(failure) if failure.may_pass() => {
                    let since = *away_since.get_or_insert_with(|| {
                        progress.failed("the database is away; waiting for it");
                        Instant::now()
                    });
                    if since.elapsed() > PATIENCE {
                        return Err(failure);
                    }
                }
                Err(failure) => return Err(failure),
            },
        }
    }
}

/// Shows what was stored since the last look; says whether the run has ended or is paused.
async fn look_again(
    house: &House,
    begun: &Begun,
    progress: &Progress,
    shown: &mut i64,
) -> Result<bool, Failure> {
    // The status first: events of a run that has ended are all there.
    let run = house.agency.engine().run(begun.run).await;
    let run = run.map_err(|error| looked(&error))?;
    show_stored(house, begun, progress, shown).await?;
    Ok(run.status != RunStatus::Active)
}

/// The place of the newest event: what came before was shown by an earlier process.
async fn last_seq(house: &House, begun: &Begun) -> Result<i64, Failure> {
    let mut after = 0;
    loop {
        let page = page(house, begun, after).await?;
        match page.last() {
            Some(last) => after = last.seq,
            None => return Ok(after),
        }
    }
}

async fn page(house: &House, begun: &Begun, after: i64) -> Result<Vec<Event>, Failure> {
    let stream = ProjectEvent::stream(begun.project.id);
    events::read(house.agency.pool(), &stream, after, PAGE)
        .await
        .map_err(|error| asked("could not read the project's events", error))
}

async fn show_stored(
    house: &House,
    begun: &Begun,
    progress: &Progress,
    shown: &mut i64,
) -> Result<(), Failure> {
    loop {
        let events = page(house, begun, *shown).await?;
        if events.is_empty() {
            return Ok(());
        }
        let used = usage::total(house.agency.pool(), LOCAL_TENANT, begun.project.id).await;
        progress.used(used.map_err(|error| looked_up(&error))?);
        for event in &events {
            show_event(progress, event);
            *shown = event.seq;
        }
    }
}

fn show_event(progress: &Progress, event: &Event) {
    let text = |field: &str| event.body[field].as_str().unwrap_or_default();
    match (event.kind.as_str(), text("status")) {
        ("agent_activity", "started") => {
            progress.started(text("agent_name"), text("action"), event.at);
        }
        ("agent_activity", "completed") => {
            progress.finished(text("agent_name"), text("action"), event.at);
        }
        ("project_status", "ready") => progress.say(text("message")),
        _ => (),
    }
}

fn show_observed(progress: &Progress, seen: &Observed) {
    match &seen.what {
        Happening::Progress { body } => match serde_json::from_value(body.clone()) {
            Ok(Writing::Text { text }) => progress.wrote(&text),
            Ok(Writing::Restarted) => progress.restarted(),
            Ok(Writing::Waiting { ms }) => {
                progress.failed(&format!(
                    "{}: no answer from the model; asking again in {:.1} s",
                    seen.node,
                    seconds(ms)
                ));
            }
            Ok(Writing::Asked { model, .. }) => progress.asked(&model),
            Err(_) => (),
        },
        Happening::Failed {
            error,
            again_in: Some(wait),
        } => {
            progress.failed(&format!(
                "{}: {error}; again in {:.1} s",
                seen.node,
                wait.as_secs_f64()
            ));
        }
        _ => (),
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
