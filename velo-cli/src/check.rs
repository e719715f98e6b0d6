//! `velo check`: whether this build can go on with the runs that are live.

use velo_engine::CodeCheck;

use crate::args::{HouseArgs, ListArgs};
use crate::exit::{Exit, Failure};
use crate::house::House;
use crate::runs::{failed, print_json};
use crate::serve::say;

pub(crate) async fn check(args: &HouseArgs, list: ListArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let agency = &house.agency;
    let checked = agency.engine().check(agency.planning()).await;
    house.close().await;
    let check = checked.map_err(|error| failed(&error))?;
    if list.json {
        print_json(&check);
    } else {
        tell(&check);
    }
    Ok(if check.is_fine() {
        Exit::Done
    } else {
        Exit::Paused
    })
}

fn tell(check: &CodeCheck) {
    for run in &check.broken {
        println!("{run}");
    }
    for schedule in &check.schedules {
        println!("{schedule}");
    }
    let told = check.broken.len() as u64;
    if told < check.broken_runs {
        println!("and {} runs more", check.broken_runs - told);
    }
    let runs = check.runs;
    if check.is_fine() {
        println!("this build can go on with each of the {runs} live runs");
    } else {
        let broken = check.broken_runs;
        println!("this build cannot go on with {broken} of the {runs} live runs");
    }
}
