//! `velo dev`: database, API and a worker in one process.

use std::io::{BufRead, IsTerminal, Write};

use velo_engine::postgres;

use crate::args::{DevArgs, HouseArgs};
use crate::exit::{Exit, Failure, chain};
use crate::house::{self, House};
use crate::metrics;
use crate::serve::{answer, listen, say, work};
use crate::stop::Stop;

pub(crate) async fn dev(args: &HouseArgs, dev: DevArgs) -> Result<Exit, Failure> {
    let listener = listen(&dev.api).await?;
    metrics::serve(&dev.worker)?;
    if dev.fresh {
        wipe(args, dev.yes).await?;
    }
    let house = House::open(args, say).await?;
    eprintln!("agents ask {}; Ctrl-C stops", house.asks());
    let stop = Stop::listen();
    let both = async {
        // Either one's failure ends the other.
        let ended = tokio::join!(
            async {
                let worked = work(&house, &dev.worker, &stop).await;
                worked.inspect_err(|_| stop.gently.cancel())
            },
            async {
                let answered = answer(&house, listener, &dev.api, &stop).await;
                answered.inspect_err(|_| stop.gently.cancel())
            },
        );
        ended.1.and(ended.0)
    };
    let end = both.await;
    house.close().await;
    end
}

/// Removes the private database and the artifacts, if the person means it.
async fn wipe(args: &HouseArgs, is_sure: bool) -> Result<(), Failure> {
    if args.database_url.is_some() {
        return Err(Failure::unusable(
            "--fresh removes a private database only, and DATABASE_URL is set: drop that database yourself",
        ));
    }
    let folder = args.data.display();
    if !args.data.exists() {
        return Ok(());
    }
    if !is_sure {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::unusable(format!(
                "--fresh would remove all data under {folder}: add --yes if you mean it"
            )));
        }
        eprint!("Remove the private database and all artifacts under {folder}? [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::unusable("nothing was removed"));
        }
    }
    let settings = house::private_settings(args);
    postgres::wipe(&settings)
        .await
        .map_err(|error| Failure::environment(chain(&error)))?;
    let artifacts = house::artifacts(args);
    if artifacts.exists() {
        std::fs::remove_dir_all(&artifacts).map_err(|error| {
            Failure::environment(format!("could not remove {}: {error}", artifacts.display()))
        })?;
    }
    Ok(())
}
