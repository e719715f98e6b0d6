//! `velo top`: how all runs and workers stand, again and again on a terminal, once elsewhere.

use std::fmt::Write;
use std::time::Duration;

use console::Term;
use velo_engine::{GraphLoad, Overview, Rates, Watch};

use crate::args::{HouseArgs, TopArgs};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::paint::{self, Tone};
use crate::runs::{print_json, table, time};
use crate::serve::say;

/// Between the two looks of which one that is printed once is made.
const ONCE: Duration = Duration::from_secs(1);

pub(crate) async fn top(args: &HouseArgs, top: TopArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let watch = house.agency.engine().watch();
    let end = if top.json || top.once || !paint::out_is_terminal() {
        once(&watch, top.json).await
    } else {
        live(&watch, Duration::from_secs(top.every.into())).await
    };
    house.close().await;
    end.map(|()| Exit::Done)
}

async fn once(watch: &Watch, as_json: bool) -> Result<(), Failure> {
    look(watch).await?;
    tokio::time::sleep(ONCE).await;
    let seen = look(watch).await?;
    if as_json {
        print_json(&seen);
    } else {
        print!("{}", page(&seen));
    }
    Ok(())
}

/// Until the operator has seen enough.
async fn live(watch: &Watch, every: Duration) -> Result<(), Failure> {
    let screen = Term::stdout();
    let unwritable =
        |error| Failure::environment(format!("could not write to the terminal: {error}"));
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        let seen = look(watch).await?;
        let page = page(&seen);
        let height = usize::from(screen.size().0).saturating_sub(1);
        // A page that is higher than the screen would scroll, and flicker.
        let lines: Vec<&str> = page.lines().take(height).collect();
        screen.clear_screen().map_err(unwritable)?;
        screen.write_line(&lines.join("\n")).map_err(unwritable)?;
        tokio::select! {
            _ = &mut stop => return Ok(()),
            () = tokio::time::sleep(every) => (),
        }
    }
}

async fn look(watch: &Watch) -> Result<Overview, Failure> {
    let seen = watch.look().await;
    seen.map_err(|error| Failure::environment(chain(&error)))
}

fn page(seen: &Overview) -> String {
    let mut page = String::new();
    let total: i64 = seen.graphs.iter().map(GraphLoad::total).sum();
    let more = if seen.is_cut_off { "+" } else { "" };
    let alive = seen
        .workers
        .iter()
        .filter(|worker| !worker.is_expired)
        .count();
    let head = format!(
        "{}   runs {total}{more}   workers {alive}   {}",
        time(seen.at),
        rates(seen.per_second)
    );
    let _ = writeln!(page, "{}\n", paint::out(&head, Tone::Strong));
    if seen.graphs.is_empty() {
        page.push_str("no run has anything left to do\n");
    } else {
        add(&mut page, &graphs(&seen.graphs));
    }
    page.push('\n');
    if seen.workers.is_empty() {
        page.push_str("no worker is running\n");
    } else {
        let mut workers = table([
            "worker",
            "name",
            "process",
            "runs",
            "heartbeat",
            "has code for",
        ]);
        for worker in &seen.workers {
            workers.add_row([
                worker.id.to_string(),
                worker.name.clone(),
                worker.pid.to_string(),
                worker.runs.to_string(),
                if worker.is_expired { "stopped" } else { "fine" }.to_owned(),
                worker.codes.join(", "),
            ]);
        }
        add(&mut page, &workers);
    }
    page
}

fn graphs(loads: &[GraphLoad]) -> comfy_table::Table {
    let mut table = table([
        "graph",
        "ready",
        "oldest",
        "running",
        "asleep",
        "for answer",
        "for message",
        "for child",
        "paused",
    ]);
    for load in loads {
        table.add_row([
            load.graph.clone(),
            load.ready.to_string(),
            age(load.oldest_ready_seconds),
            load.running.to_string(),
            load.for_time.to_string(),
            load.for_answer.to_string(),
            load.for_message.to_string(),
            load.for_child.to_string(),
            load.paused.to_string(),
        ]);
    }
    table
}

fn add(page: &mut String, table: &comfy_table::Table) {
    for line in table.lines() {
        page.push_str(line.trim_end());
        page.push('\n');
    }
}

fn rates(rates: Option<Rates>) -> String {
    rates.map_or_else(
        || "counting".to_owned(),
        |rates| {
            format!(
                "{:.0} steps/s   {:.1} starts/s   {:.1} failed attempts/s",
                rates.steps, rates.runs, rates.failures
            )
        },
    )
}

/// Seconds as people say them.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 0.05 => "-".to_owned(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_said_in_the_unit_that_fits() {
        let told = [0.0, 0.25, 42.0, 600.0, 90_000.0].map(age);
        assert_eq!(told, ["-", "0.2 s", "42 s", "10 min", "25 h"]);
    }
}
