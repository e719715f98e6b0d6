//! `velo graph` and `velo runs draw`: pictures of graphs and of runs.

use std::path::Path;

use velo_agents::agency::Agency;
use velo_engine::{Outline, RunId, nearest};

use crate::args::{DrawArgs, GraphArgs, HouseArgs, Picture};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::runs::{failed, print_json};
use crate::serve::say;

/// Most graphs that are listed.
const LISTED: i64 = 1_000;

/// Draws a graph, or lists those that can be drawn.
pub(crate) async fn graph(args: &HouseArgs, graph: GraphArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let end = act(&house.agency, graph).await;
    house.close().await;
    end
}

async fn act(agency: &Agency, graph: GraphArgs) -> Result<Exit, Failure> {
    let Some(code) = graph.code else {
        let engine = agency.engine();
        // Known here, whether or not a worker has told of it.
        let publish = engine.publish(agency.planning()).await;
        publish.map_err(|error| failed(&error))?;
        let found = engine.outlines("", LISTED).await;
        found
            .map_err(|error| failed(&error))?
            .iter()
            .for_each(|code| println!("{code}"));
        return Ok(Exit::Done);
    };
    let outline = outline(agency, &code).await?;
    let picture = match graph.draw.picture {
        Picture::Mermaid => outline.mermaid,
        Picture::Svg => outline.layout().to_svg(),
        Picture::Json => {
            print_json(&outline.layout());
            return Ok(Exit::Done);
        }
    };
    put(&picture, graph.draw.file.as_deref()).await
}

/// Draws a run.
pub(crate) async fn run(agency: &Agency, id: RunId, draw: DrawArgs) -> Result<(), Failure> {
    let progress = agency.engine().progress(id).await;
    let progress = progress.map_err(|error| failed(&error))?;
    let outline = outline(agency, &progress.code).await?;
    let picture = match draw.picture {
        Picture::Mermaid => outline.mermaid_of(&progress),
        Picture::Svg => outline.layout_of(&progress).to_svg(),
        Picture::Json => {
            print_json(&outline.layout_of(&progress));
            return Ok(());
        }
    };
    put(&picture, draw.file.as_deref()).await.map(drop)
}

async fn outline(agency: &Agency, code: &str) -> Result<Outline, Failure> {
    if code == agency.planning().code() {
        return Ok(agency.planning().shape().outline());
    }
    let engine = agency.engine();
    let found = engine.outline(code).await;
    if let Some(found) = found.map_err(|error| failed(&error))? {
        return Ok(found);
    }
    let mut known = engine.outlines("", LISTED).await.unwrap_or_default();
    known.push(agency.planning().code().to_owned());
    let meant = nearest(code, known.iter().map(String::as_str));
    let meant = meant.map(|meant| format!("; did you mean {meant}?"));
    Err(Failure::unusable(format!(
        "no worker has told what the graph {code} is like: velo graph lists those that can be drawn{}",
        meant.unwrap_or_default()
    )))
}

async fn put(picture: &str, file: Option<&Path>) -> Result<Exit, Failure> {
    match file {
        None => print!("{picture}"),
        Some(file) => tokio::fs::write(file, picture).await.map_err(|error| {
            let file = file.display();
            Failure::environment(format!("could not write {file}: {}", chain(&error)))
        })?,
    }
    Ok(Exit::Done)
}
