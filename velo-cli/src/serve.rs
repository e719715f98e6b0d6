//! The commands that serve until they are stopped: worker and API.

use std::time::Duration;

use tokio::net::TcpListener;
use velo_api::Bind;
use velo_worker::Worker;

use crate::args::{ApiArgs, HouseArgs, MigrateArgs, WorkerArgs};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;
use crate::metrics;
use crate::stop::Stop;

/// Runs a worker until it is asked to stop.
pub(crate) async fn worker(args: &HouseArgs, worker: WorkerArgs) -> Result<Exit, Failure> {
    metrics::serve(&worker)?;
    let house = House::open(args, say).await?;
    eprintln!("a worker asks {}; Ctrl-C stops", house.asks());
    let end = work(&house, &worker, &Stop::listen()).await;
    house.close().await;
    end
}

/// Serves runs until it is asked to stop.
pub(crate) async fn work(house: &House, worker: &WorkerArgs, stop: &Stop) -> Result<Exit, Failure> {
    let running = Worker::builder(house.agency.engine().clone())
        .serve(house.agency.planning().clone())
        .concurrency(worker.concurrency.into())
        .grace(Duration::from_secs(worker.grace.into()))
        .run(stop.gently.cancelled());
    tokio::pin!(running);
    let stopped = tokio::select! {
        ended = &mut running => ended,
        () = stop.gently.cancelled() => {
            eprintln!("stopping: steps that are under way may finish; Ctrl-C again stops at once");
            tokio::select! {
                ended = &mut running => ended,
                () = stop.now.cancelled() => {
                    eprintln!("stopped at once: steps that were under way will be taken again");
                    return Ok(Exit::Interrupted);
                }
            }
        }
    };
    let stopped = stopped.map_err(|error| Failure::environment(chain(&error)))?;
    if stopped.cut_off.is_empty() {
        return Ok(Exit::Done);
    }
    let runs: Vec<String> = stopped.cut_off.iter().map(ToString::to_string).collect();
    eprintln!(
        "these runs were cut off in a step, which will be taken again: {}",
        runs.join(", ")
    );
    Ok(Exit::Interrupted)
}

/// Runs the API until it is asked to stop.
pub(crate) async fn api(args: &HouseArgs, api: ApiArgs) -> Result<Exit, Failure> {
    let listener = listen(&api).await?;
    let house = House::open(args, say).await?;
    let end = answer(&house, listener, &api, &Stop::listen()).await;
    house.close().await;
    end
}

/// Takes the address of the API: before anything is opened, so that a wrong one costs nothing.
pub(crate) async fn listen(api: &ApiArgs) -> Result<TcpListener, Failure> {
    let address = api.listen;
    // An IPv4 address may come in the clothes of an IPv6 one.
    if !api.expose && !address.ip().to_canonical().is_loopback() {
        return Err(Failure::unusable(format!(
            "could not serve the API on {address}, because other machines reach it and there is no sign-in: \
             use a loopback address such as 127.0.0.1:7878, or add --expose if you mean it"
        )));
    }
    TcpListener::bind(address).await.map_err(|error| {
        Failure::environment(format!(
            "could not serve the API on {address}: {error}; choose another with --listen, such as 127.0.0.1:0 for a free port"
        ))
    })
}

/// Answers requests until it is asked to stop.
pub(crate) async fn answer(
    house: &House,
    listener: TcpListener,
    api: &ApiArgs,
    stop: &Stop,
) -> Result<Exit, Failure> {
    let broke = |error| Failure::new("the API broke", error);
    let address = listener.local_addr().map_err(broke)?;
    eprintln!("API on http://{address}/api/project/list, WebSocket on ws://{address}/ws");
    let bind = if api.expose {
        Bind::AnyAddress
    } else {
        Bind::LoopbackOnly
    };
    let agency = house.agency.clone();
    tokio::select! {
        ended = velo_api::serve(listener, bind, agency, stop.gently.clone()) => {
            ended.map_err(broke)?;
            Ok(Exit::Done)
        }
        () = stop.now.cancelled() => Ok(Exit::Interrupted),
    }
}

/// Creates or upgrades the tables.
pub(crate) async fn migrate(args: &HouseArgs, migrate: MigrateArgs) -> Result<Exit, Failure> {
    if !migrate.print && !migrate.check {
        House::open(args, say).await?.close().await;
        println!("the tables in schema velo are up to date");
        return Ok(Exit::Done);
    }
    let pending = House::look(args, say, async |pool| {
        let mut pending = velo_engine::pending(pool).await?;
        pending.extend(velo_agents::domain::pending(pool).await?);
        Ok(pending)
    });
    let pending = pending.await?;
    if migrate.print {
        for migration in pending {
            println!("-- {migration}\n{}", migration.sql.trim_end());
        }
        return Ok(Exit::Done);
    }
    for migration in &pending {
        println!("not applied: {migration}");
    }
    if pending.is_empty() {
        println!("the tables in schema velo are up to date");
        return Ok(Exit::Done);
    }
    Ok(Exit::Paused)
}

/// Says on standard error what takes time.
pub(crate) fn say(what: &str) {
    eprintln!("{what}");
}
