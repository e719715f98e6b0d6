//! The commands that serve until they are stopped: worker and API.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use velo_api::Bind;
use velo_worker::Worker;

use crate::args::{ApiArgs, HouseArgs, WorkerArgs};
use crate::exit::{Exit, Failure, chain};
use crate::house::House;

/// Runs a worker until it is asked to stop.
pub(crate) async fn worker(args: &HouseArgs, worker: WorkerArgs) -> Result<Exit, Failure> {
    let house = House::open(args, say).await?;
    let stop = until_asked();
    let end = work(&house, &worker, &stop).await;
    house.close().await;
    end
}

/// Serves runs until `stop` is cancelled.
pub(crate) async fn work(
    house: &House,
    worker: &WorkerArgs,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let stopped = Worker::builder(house.agency.engine().clone())
        .serve(house.agency.planning().clone())
        .concurrency(worker.concurrency.into())
        .run(stop.cancelled())
        .await
        .map_err(|error| Failure::environment(chain(&error)))?;
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
    let house = House::open(args, say).await?;
    let stop = until_asked();
    let end = answer(&house, &api, &stop).await;
    house.close().await;
    end
}

/// Answers requests until `stop` is cancelled.
pub(crate) async fn answer(
    house: &House,
    api: &ApiArgs,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::environment(format!(
            "could not serve the API on {}: {error}",
            api.listen
        ))
    };
    let listener = TcpListener::bind(api.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    eprintln!("API on http://{address}/api/project/list, WebSocket on ws://{address}/ws");
    let bind = if api.expose {
        Bind::AnyAddress
    } else {
        Bind::LoopbackOnly
    };
    velo_api::serve(listener, bind, house.agency.clone(), stop.clone())
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failure::unusable(format!(
                "{error}; add --expose if you mean it: there is no sign-in yet"
            )),
            _ => cannot(error),
        })?;
    Ok(Exit::Done)
}

/// Creates or upgrades the tables.
pub(crate) async fn migrate(args: &HouseArgs) -> Result<Exit, Failure> {
    House::open(args, say).await?.close().await;
    println!("the tables in schema velo are up to date");
    Ok(Exit::Done)
}

/// Cancelled when the process is asked to stop.
pub(crate) fn until_asked() -> CancellationToken {
    let asked = CancellationToken::new();
    let cancel = asked.clone();
    tokio::spawn(async move {
        asked_to_stop().await;
        cancel.cancel();
    });
    asked
}

/// Returns on Ctrl-C, and when the process is asked to terminate.
pub(crate) async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => (),
                _ = terminate.recv() => (),
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Says on standard error what takes time.
pub(crate) fn say(what: &str) {
    eprintln!("{what}");
}
