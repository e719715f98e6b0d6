//! A mixed load while workers are killed and frozen, Postgres is restarted, connections break and answers are lost.
//!
//! What it takes is chosen by the environment:
//! - `VELO_SOAK_SECONDS`: how long faults go on (15 seconds when unset; half an hour is 1800);
//! - `VELO_SOAK_SEED`: what is drawn, to draw it again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chaos;
mod client;
mod invariants;
mod load;
#[path = "../it/proxy.rs"]
#[allow(dead_code, reason = "other tests set traps for single requests too")]
mod proxy;
mod server;
mod workers;

use std::env;
use std::time::Duration;

use velo_engine::prelude::*;

use chaos::Chaos;
use client::Client;
use proxy::Proxy;
use server::Server;
use workers::Workers;

/// Names the database to a process that is to be a worker.
const WORKER: &str = "VELO_SOAK_WORKER";
/// The test, as its program's arguments name it.
const NAME: &str = "a_mixed_load_under_faults_keeps_every_promise";
/// Worker processes.
const WORKERS: usize = 3;
/// One in so many requests is lost, or its answer is, or it comes late.
const LOST_ONE_IN: u64 = 150;

fn number(name: &str, default: u64) -> u64 {
    let given = env::var(name).ok();
    given.map_or(default, |given| {
        given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not `{given}`"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_load_under_faults_keeps_every_promise() {
    if let Ok(url) = env::var(WORKER) {
        return load::work(&url).await;
    }
    let seconds = number("VELO_SOAK_SECONDS", 15);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number("VELO_SOAK_SEED", u64::from(clock.unwrap().subsec_nanos()));
    println!("soak: {seconds} s, seed {seed}");

    let server = Server::start().await;
    let direct = Engine::migrate_and_connect(server.pool().await)
        .await
        .unwrap();
    load::prepare(&direct).await;
    let (for_workers, for_clients) = (Proxy::before(&direct).await, Proxy::before(&direct).await);
    for_workers.lose_one_in(LOST_ONE_IN);
    for_clients.lose_one_in(LOST_ONE_IN);

    let mut workers = Workers::start(&for_workers, WORKERS);
    let client = Client::start(&direct, &for_clients.engine, Duration::from_secs(seconds));
    let mut chaos = Chaos::new(seed);
    let told = chaos
        .rage(
            &server,
            &mut workers,
            &for_workers,
            Duration::from_secs(seconds),
        )
        .await;
    for_workers.lose_one_in(0);
    for_clients.lose_one_in(0);

    let ended = client.finish().await;
    let memory = workers.memory();
    workers.stop().await;
    println!(
        "soak: {} runs ended, the last {:.1?} after the faults; {} were resumed after five deaths in a row",
        ended.runs.len(),
        ended.late,
        ended.resumed
    );
    println!("soak: faults {told}");
    println!("soak: memory of the worker that was never killed {memory}");
    let found = invariants::check(&direct, &ended.runs).await;
    println!("soak: {found}");
    assert!(memory.is_flat(), "a worker's memory grows: {memory}");
    server.stop().await;
}
