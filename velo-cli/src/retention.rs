//! `velo retention`: how long runs that have ended are kept.

use std::time::Duration;

use serde_json::json;
use velo_engine::{ALL_GRAPHS, Engine, EngineError, Prunable, RetentionRule};

use crate::args::{HouseArgs, RetentionArgs, RetentionCommand};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::runs::{print_json, print_table, table, time};
use crate::serve::say;

pub(crate) async fn retention(args: &HouseArgs, wanted: RetentionArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act(house.agency.engine(), wanted).await;
    house.close().await;
    end.map_err(|error| Failure::environment(chain(&error)))?;
    Ok(Exit::Done)
}

async fn act(engine: &Engine, wanted: RetentionArgs) -> Result<(), EngineError> {
    let as_json = wanted.json;
    match wanted.command {
        RetentionCommand::List => list(&engine.retention().await?, as_json),
        RetentionCommand::Set {
            graph,
            outcome,
            keep,
        } => {
            engine.set_retention(&graph, outcome, keep.0).await?;
            let what = format!("{outcome} runs of {}", of(&graph));
            match keep.0 {
                Some(time) => done(as_json, &what, &format!("kept for {}", days(time))),
                None => done(as_json, &what, "kept for ever"),
            }
        }
        RetentionCommand::Clear { graph, outcome } => {
            let told = if engine.clear_retention(&graph, outcome).await? {
                "kept as is said of all graphs, or as usual"
            } else {
                "nothing was said of them"
            };
            done(as_json, &format!("{outcome} runs of {}", of(&graph)), told);
        }
        RetentionCommand::Show => show(&engine.prunable().await?, as_json),
    }
    Ok(())
}

fn list(rules: &[RetentionRule], as_json: bool) {
    if as_json {
        return print_json(&rules);
    }
    let mut table = table(["graph", "ended", "kept for", "said by"]);
    for rule in rules {
        table.add_row([
            rule.graph.clone(),
            rule.outcome.to_string(),
            rule.time().map_or_else(|| "ever".to_owned(), days),
            if rule.is_default { "nobody" } else { "you" }.to_owned(),
        ]);
    }
    print_table(&table);
}

fn show(prunable: &Prunable, as_json: bool) {
    if as_json {
        return print_json(prunable);
    }
    let all: u64 = prunable.runs.iter().map(|runs| runs.runs).sum();
    let more = if prunable.is_all { "" } else { ", and more" };
    println!(
        "runs to be deleted: {all}{more}; next look: {}",
        time(prunable.next_at)
    );
    println!(
        "deleted so far: {}; last time that all were looked at: {}",
        prunable.deleted,
        prunable.passed_at.map_or_else(|| "never".to_owned(), time)
    );
    if prunable.runs.is_empty() {
        return;
    }
    let mut table = table(["graph", "ended", "runs", "oldest"]);
    for runs in &prunable.runs {
        table.add_row([
            runs.graph.clone(),
            runs.outcome.to_string(),
            runs.runs.to_string(),
            runs.oldest.to_string(),
        ]);
    }
    print_table(&table);
}

fn of(graph: &str) -> String {
    match graph {
        ALL_GRAPHS => "all other graphs".to_owned(),
        graph => format!("graph {graph}"),
    }
}

fn done(as_json: bool, what: &str, told: &str) {
    if as_json {
        print_json(&json!({ "done": true }));
    } else {
        println!("{what}: {told}");
    }
}

/// In the largest unit that says it whole.
fn days(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let found = units
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    match found {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// How long, as it is typed: `30d`, or `never` for what is never deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep(pub(crate) Option<Duration>);

impl std::str::FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self(None)),
            text => crate::args::age(text)
                .map(|time| Self(Some(time)))
                .map_err(|error| format!("{error}, or never")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_and_told_in_the_same_words() {
        for text in ["30d", "36h", "15m", "7s"] {
            let keep: Keep = text.parse().unwrap();
            assert_eq!(days(keep.0.unwrap()), text);
        }
        assert_eq!("never".parse(), Ok(Keep(None)));
        assert_eq!(days(Duration::ZERO), "0s");
        assert!("always".parse::<Keep>().unwrap_err().ends_with("or never"));
    }
}
