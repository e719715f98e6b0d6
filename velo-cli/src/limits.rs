//! `velo limits` and `velo queues`: what the fleet may do at once, how fast, and what is paused.

use std::time::Duration;

use serde_json::json;
use velo_engine::{Allowance, Engine, EngineError, Gate, GateInfo, Rate};

use crate::args::{HouseArgs, LimitsArgs, LimitsCommand, QueuesArgs, QueuesCommand};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::runs::{print_json, print_table, table};
use crate::serve::say;

/// Most gates that are listed.
const LISTED: i64 = 1_000;

pub(crate) async fn limits(args: &HouseArgs, limits: LimitsArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act(house.agency.engine(), limits).await;
    house.close().await;
    end.map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

pub(crate) async fn queues(args: &HouseArgs, queues: QueuesArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let engine = house.agency.engine();
    let as_json = queues.json;
    let end = match queues.command {
        QueuesCommand::List => list(engine, "queue/", as_json).await,
        QueuesCommand::Pause { name, note } => {
            pause(engine, &Gate::Queue(name), note.as_deref(), as_json).await
        }
        QueuesCommand::Resume { name } => resume(engine, &Gate::Queue(name), as_json).await,
    };
    house.close().await;
    end.map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

async fn act(engine: &Engine, limits: LimitsArgs) -> Result<(), EngineError> {
    let as_json = limits.json;
    match limits.command {
        LimitsCommand::List => list(engine, "", as_json).await,
        LimitsCommand::Set {
            gate,
            max,
            rate,
            burst,
            weight,
        } => {
            let rate = rate.map(|EveryRate { count, per }| Rate { count, per, burst });
            let allowance = Allowance { max, rate, weight };
            engine.set_gate(&gate, allowance).await?;
            done(as_json, &gate, "set; in effect for what comes after");
            Ok(())
        }
        LimitsCommand::Remove { gate } => {
            let told = if engine.remove_gate(&gate).await? {
                "removed: everything is allowed"
            } else {
                "there was nothing to remove"
            };
            done(as_json, &gate, told);
            Ok(())
        }
        LimitsCommand::Pause { gate, note } => pause(engine, &gate, note.as_deref(), as_json).await,
        LimitsCommand::Resume { gate } => resume(engine, &gate, as_json).await,
    }
}

async fn list(engine: &Engine, kind: &str, as_json: bool) -> Result<(), EngineError> {
    let mut found = engine.gates(kind, LISTED).await?;
    found.retain(|gate| gate.name.starts_with(kind));
    if as_json {
        print_json(&found);
        return Ok(());
    }
    if found.is_empty() {
        println!("nothing is limited or paused");
        return Ok(());
    }
    let mut table = table([
        "name", "at once", "rate", "weight", "inside", "waiting", "note",
    ]);
    for gate in found {
        table.add_row([
            gate.name.clone(),
            gate.max_running
                .map(|max| max.to_string())
                .unwrap_or_default(),
            rate(&gate),
            gate.weight.to_string(),
            gate.inside.to_string(),
            gate.waiting.to_string(),
            match (gate.is_paused, gate.note) {
                (true, Some(note)) => format!("paused: {note}"),
                (true, None) => "paused".to_owned(),
                (false, _) => String::new(),
            },
        ]);
    }
    print_table(&table);
    Ok(())
}

fn rate(gate: &GateInfo) -> String {
    match (gate.rate_count, gate.rate_ms, gate.burst) {
        (Some(count), Some(milliseconds), Some(burst)) => {
            let per = Duration::from_millis(milliseconds.unsigned_abs());
            format!("{count}/{per:?}, {burst} at once")
        }
        _ => String::new(),
    }
}

async fn pause(
    engine: &Engine,
    gate: &Gate,
    note: Option<&str>,
    as_json: bool,
) -> Result<(), EngineError> {
    engine.pause_gate(gate, note).await?;
    done(
        as_json,
        gate,
        "paused; what is at work stops after its step, within a few seconds",
    );
    Ok(())
}

async fn resume(engine: &Engine, gate: &Gate, as_json: bool) -> Result<(), EngineError> {
    let told = if engine.resume_gate(gate).await? {
        "goes on"
    } else {
        "it was not paused"
    };
    done(as_json, gate, told);
    Ok(())
}

fn done(as_json: bool, gate: &Gate, told: &str) {
    if as_json {
        print_json(&json!({ "gate": gate.to_string(), "done": true }));
    } else {
        println!("{gate}: {told}");
    }
}

fn failed(error: &EngineError) -> Failure {
    match error {
        EngineError::Database { .. } => Failure::environment(chain(error)),
        _ => Failure::unusable(chain(error)),
    }
}

/// So many in so long, as it is typed: `60/m`, `10/500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EveryRate {
    count: u32,
    per: Duration,
}

impl std::str::FromStr for EveryRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (count, per) = text.split_once('/')?;
            let digits = per.len() - per.trim_start_matches(|it: char| it.is_ascii_digit()).len();
            let (number, unit) = per.split_at(digits);
            let number: u32 = if number.is_empty() {
                1
            } else {
                number.parse().ok()?
            };
            let unit = match unit {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3_600),
                "d" => Duration::from_secs(24 * 3_600),
                _ => return None,
            };
            let count = count.parse().ok()?;
            Some(Self {
                count,
                per: unit.checked_mul(number)?,
            })
        };
        parsed().ok_or_else(|| "a rate looks like 60/m, 10/500ms or 5/s".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_typed() {
        let rate = |count, milliseconds| {
            Ok(EveryRate {
                count,
                per: Duration::from_millis(milliseconds),
            })
        };
        assert_eq!("60/m".parse(), rate(60, 60_000));
        assert_eq!("10/500ms".parse(), rate(10, 500));
        assert_eq!("5/2h".parse(), rate(5, 7_200_000));
        for text in ["", "5", "5/", "x/s", "5/y", "5/99999999999s"] {
            assert!(text.parse::<EveryRate>().is_err(), "{text}");
        }
    }
}
