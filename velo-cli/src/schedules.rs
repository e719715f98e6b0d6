//! `velo schedules`: looking at schedules, and steering them. They are created by services, which have
//! the graph and the state that their runs begin with.

use serde_json::json;
use velo_engine::Engine;
use velo_engine::schedule::{Fire, Schedule, ScheduleError, Spec};

use crate::args::{HouseArgs, SchedulesArgs, SchedulesCommand};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::runs::{print_json, print_table, table, time};
use crate::serve::say;

pub(crate) async fn schedules(args: &HouseArgs, schedules: SchedulesArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act(house.agency.engine(), schedules).await;
    house.close().await;
    end.map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

async fn act(engine: &Engine, schedules: SchedulesArgs) -> Result<(), ScheduleError> {
    let as_json = schedules.json;
    match schedules.command {
        SchedulesCommand::List { limit, after } => {
            list(&engine.schedules(&after, limit).await?, as_json);
        }
        SchedulesCommand::Show { name, limit } => {
            let schedule = engine.get_schedule(&name).await?;
            let fires = engine.schedule_fires(&name, limit).await?;
            show(&schedule, &fires, as_json);
        }
        SchedulesCommand::Next { name, limit } => {
            let next = engine.next_fires(&name, usize::from(limit)).await?;
            if as_json {
                print_json(&next);
            } else {
                for next in next {
                    println!("{}", time(next.due_at));
                }
            }
        }
        SchedulesCommand::Pause { name, note } => {
            engine.pause_schedule(&name, note.as_deref()).await?;
            done(as_json, &name, "paused; runs that it has started go on");
        }
        SchedulesCommand::Resume { name } => {
            engine.unpause_schedule(&name).await?;
            done(as_json, &name, "goes on from now");
        }
        SchedulesCommand::Trigger { name } => {
            let fire = engine.trigger_schedule(&name).await?;
            fires(&[fire], as_json);
        }
        SchedulesCommand::Backfill {
            name,
            from,
            to,
            overlap,
        } => {
            let filled = engine.backfill_schedule(&name, from..=to, overlap.into());
            fires(&filled.await?, as_json);
        }
        SchedulesCommand::Delete { name } => {
            engine.delete_schedule(&name).await?;
            done(as_json, &name, "deleted; runs that it has started go on");
        }
    }
    Ok(())
}

fn list(found: &[Schedule], as_json: bool) {
    if as_json {
        return print_json(&found);
    }
    if found.is_empty() {
        println!("no such schedule");
        return;
    }
    let mut table = table([
        "schedule", "graph", "fires", "overlap", "next", "last", "note",
    ]);
    for schedule in found {
        table.add_row([
            schedule.name.clone(),
            format!("{}@{}", schedule.graph, schedule.version),
            spec(schedule),
            schedule.overlap.to_string(),
            next(schedule),
            schedule.last_fire_at.map(time).unwrap_or_default(),
            schedule.note.clone().unwrap_or_default(),
        ]);
    }
    print_table(&table);
}

fn show(schedule: &Schedule, latest: &[Fire], as_json: bool) {
    if as_json {
        return print_json(&json!({ "schedule": schedule, "fires": latest }));
    }
    println!(
        "schedule {} of {}@{}",
        schedule.name, schedule.graph, schedule.version
    );
    println!("fires {}; next: {}", spec(schedule), next(schedule));
    println!(
        "overlap {}, catch-up {} s, jitter {} s",
        schedule.overlap,
        schedule.catch_up_ms / 1_000,
        schedule.jitter_ms / 1_000
    );
    if let Some(note) = &schedule.note {
        println!("{note}");
    }
    println!();
    fires(latest, false);
}

fn fires(fires: &[Fire], as_json: bool) {
    if as_json {
        return print_json(&fires);
    }
    if fires.is_empty() {
        println!("no time has come");
        return;
    }
    let mut table = table(["time", "became", "run", "recorded"]);
    for fire in fires {
        table.add_row([
            time(fire.fire_at),
            match fire.until {
                Some(until) => format!("{} until {}", fire.outcome.as_str(), time(until)),
                None => fire.outcome.as_str().to_owned(),
            },
            fire.run_id.map(|run| run.to_string()).unwrap_or_default(),
            time(fire.at),
        ]);
    }
    print_table(&table);
}

fn spec(schedule: &Schedule) -> String {
    match serde_json::from_value::<Spec>(schedule.spec.clone()) {
        Ok(spec) => spec.to_string(),
        Err(_) => schedule.spec.to_string(),
    }
}

fn next(schedule: &Schedule) -> String {
    match (schedule.is_paused, schedule.due_at) {
        (true, _) => "paused".to_owned(),
        (false, Some(due_at)) => time(due_at),
        (false, None) => "never".to_owned(),
    }
}

fn done(as_json: bool, name: &str, told: &str) {
    if as_json {
        print_json(&json!({ "schedule": name, "done": true }));
    } else {
        println!("schedule {name}: {told}");
    }
}

fn failed(error: &ScheduleError) -> Failure {
    match error {
        ScheduleError::Database { .. } => Failure::environment(chain(error)),
        _ => Failure::unusable(chain(error)),
    }
}
