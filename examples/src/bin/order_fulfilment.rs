//! Takes a dozen orders and fulfils them, on the database that `DATABASE_URL` names, or a private one:
//!
//! ```console
//! $ cargo run -p examples --bin order_fulfilment
//! $ cargo run -p examples --bin order_fulfilment -- --crash
//! ```
//!
//! With `--crash` a first process has the work, and is killed when half of the cards are charged and
//! one charge has not been answered; this process takes over.

use std::error::Error;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use examples::order_fulfilment::{Item, Order, Payments, Shop};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;
use velo_engine::postgres::{PrivatePostgres, Settings};
use velo_engine::prelude::*;
use velo_worker::{Worker, WorkerBuilder};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ORDERS: usize = 12;
/// The charge at which the first process is killed.
const HALF_WAY: u32 = 6;
/// Runs at work at once in a process: fewer than orders, so that some have ended when others begin.
const AT_ONCE: usize = 4;
/// More than the worker's runs, each of which may hold one for its transaction.
const CONNECTIONS: u32 = 16;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a paused order is looked after.
const MENDS_MAX: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => serve(false).await,
        ["--crash"] => serve(true).await,
        [DOOMED] => be_killed().await,
        _ => Err("the only argument is --crash".into()),
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    eprintln!("order_fulfilment: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

/// The address of the database: the one that `DATABASE_URL` names, otherwise a private server's, which
/// ends with this process.
async fn database_url() -> Outcome<String> {
    static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Ok(url);
    }
    let start =
        async || PrivatePostgres::start(&Settings::temporary(), |stage| eprintln!("{stage}")).await;
    let server = SERVER.get_or_try_init(start).await?;
    Ok(server.url().to_owned())
}

async fn pool() -> Outcome<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect(&database_url().await?)
        .await?)
}

/// The service: takes orders, and has a worker beside.
async fn serve(crashes: bool) -> Outcome<()> {
    let pool = pool().await?;
    let shop = Shop::open(pool.clone()).await?;
    let runs = take_orders(&shop).await?;
    if crashes {
        let killed = kill_the_first_process().await?;
        let endings = shop.endings(&runs).await?;
        let ended = endings
            .iter()
            .filter(|ending| ending.status != "placed")
            .count();
        println!("process {killed} is killed, {ended} of {ORDERS} orders ended before; going on");
    }
    let mut attended = Ok(());
    // A service would serve its requests here, until it is told to stop.
    let service = async { attended = attend(&shop, &runs).await };
    let stopped = worker(&shop, Payments::new(pool)).run(service).await?;
    attended?;
    if !stopped.cut_off.is_empty() {
        return Err(format!("these runs were cut off: {:?}", stopped.cut_off).into());
    }
    print_endings(&shop, &runs).await
}

fn worker(shop: &Shop, payments: Payments) -> WorkerBuilder {
    Worker::builder(shop.engine().clone())
        .serve(shop.graph().clone())
        .resource(payments)
        .concurrency(AT_ONCE)
}

async fn take_orders(shop: &Shop) -> Outcome<Vec<RunId>> {
    shop.deliver("lamp", 100).await?;
    shop.deliver("rope", 100).await?;
    let item = |sku: &str, quantity, cents| Item {
        sku: sku.to_owned(),
        quantity,
        cents,
    };
    let mut runs = Vec::new();
    for number in 1..=ORDERS {
        let country = if number % 4 == 0 {
            "Atlantis"
        } else {
            "Iceland"
        };
        let mut items = vec![item("lamp", 1, 4_900), item("rope", 2, 1_250)];
        if number == 2 {
            // Not in stock.
            items.push(item("compass", 1, 19_900));
        }
        runs.push(shop.place(country, items).await?);
    }
    Ok(runs)
}

/// Waits until all orders have ended. What is paused is mended and resumed, as an operator would: here
/// it is goods that are missing.
async fn attend(shop: &Shop, runs: &[RunId]) -> Outcome<()> {
    let engine = shop.engine();
    for &run in runs {
        let mut mends = 0;
        loop {
            let waited = timeout(PATIENCE, engine.wait(run)).await;
            let found = waited.map_err(|_| format!("run {run} does not come to its end"))??;
            if found.status.is_terminal() {
                break;
            }
            let why = found
                .error
                .as_ref()
                .map_or("", |error| error["message"].as_str().unwrap_or(""));
            println!(
                "{} is paused: {why}",
                found.thread.as_deref().unwrap_or("an order")
            );
            if mends == MENDS_MAX {
                return Err("that was to be mended by now".into());
            }
            mends += 1;
            for item in engine.state::<Order>(run).await?.items {
                shop.deliver(&item.sku, item.quantity).await?;
            }
            engine.resume(run).await?;
        }
    }
    Ok(())
}

async fn print_endings(shop: &Shop, runs: &[RunId]) -> Outcome<()> {
    println!("order  to        ended     steps  asked  charges  refunded  parcels");
    let endings = shop.endings(runs).await?;
    for ending in &endings {
        println!(
            "{:>5}  {:<8}  {:<8}  {:>5}  {:>5}  {:>7}  {:>8}  {:>7}",
            ending.id,
            ending.country,
            ending.status,
            shop.engine().run(ending.run_id).await?.steps,
            ending.asked,
            ending.charges,
            if ending.is_refunded { "yes" } else { "" },
            ending.parcels,
        );
    }
    let charges: i64 = endings.iter().map(|ending| ending.charges).sum();
    let asked: i64 = endings.iter().map(|ending| ending.asked).sum();
    println!("{ORDERS} orders: {charges} charges, asked for {asked} times");
    if endings.len() != ORDERS || endings.iter().any(|ending| ending.charges != 1) {
        return Err("an order was not charged once".into());
    }
    Ok(())
}

/// What the first process is started with.
const DOOMED: &str = "--until-killed";

/// Has another process begin with the work, kills it in the middle of a charge and returns its id.
async fn kill_the_first_process() -> Outcome<u32> {
    let mut first = Command::new(std::env::current_exe()?)
        .arg(DOOMED)
        .env("DATABASE_URL", database_url().await?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let id = first.id().ok_or("the first process ended at once")?;
    let stdout = first
        .stdout
        .take()
        .ok_or("the first process has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let waited = timeout(PATIENCE, lines.next_line()).await;
    let line = waited.map_err(|_| "the first process does not come half-way")??;
    println!(
        "process {id}: {}",
        line.ok_or("the first process ended before it was killed")?
    );
    // On Unix this is SIGKILL: nothing in the process has a say, no destructor and no handler.
    first.kill().await?;
    Ok(id)
}

/// Works until killed, or until whoever is to do so has gone.
async fn be_killed() -> Outcome<()> {
    let pool = pool().await?;
    let shop = Shop::open(pool.clone()).await?;
    let payments = Payments::new(pool).silent_at(HALF_WAY);
    let orphaned = async { drop(tokio::io::stdin().read(&mut [0]).await) };
    worker(&shop, payments).run(orphaned).await?;
    Ok(())
}
