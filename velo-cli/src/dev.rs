//! `velo dev`: database, API and a worker in one process.

use std::io::{BufRead, IsTerminal, Write};

use velo_engine::postgres;

use crate::args::{DevArgs, HouseArgs};
use crate::exit::{Exit, Failure, chain};
use crate::house::{self, House};
use crate::serve::{answer, say, until_asked, work};

pub(crate) async fn dev(args: &HouseArgs, dev: DevArgs) -> Result<Exit, Failure> {
    if dev.fresh {
        wipe(args, dev.yes).await?;
    }
    let house = House::open(args, say).await?;
    let model = &house.model;
    let kind = if model.is_offline() {
        "the offline model"
    } else {
        model.name(velo_agents::model::Tier::Pro)
    };
    eprintln!("agents ask {kind}; Ctrl-C stops");
    let stop = until_asked();
    // Either one's failure ends the other.
    let guard = stop.clone();
    let both = async {
        let ended = tokio::join!(
            async {
                work(&house, &dev.worker, &stop)
                    .await
                    .inspect_err(|_| guard.cancel())
            },
            async {
                answer(&house, &dev.api, &stop)
                    .await
                    .inspect_err(|_| guard.cancel())
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
