//! Steering runs and workers from the command line.

use serde_json::Value;
use velo_agents::fake_gemini::Script;

use crate::house::{BRIEF, Ended, House, end, told};

fn printed(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

async fn did(house: &House, words: &[&str]) {
    let ended = house.run(words.iter().copied()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn each_verb_says_the_same_when_it_is_asked_again_and_is_refused_where_it_makes_no_sense() {
    let house = House::new().await;
    house.fake.next(Script::unauthorized());
    let paused = house.run(["run", BRIEF, "--json"]).await.json();
    let run = paused["run_id"].as_str().unwrap();
    did(&house, &["runs", "retry", run]).await;
    let nothing = house.run(["runs", "retry", run]).await;
    nothing.refused(2, &["no task of run", "has failed"]);
    for _ in 0..2 {
        did(&house, &["runs", "pause", run, "lunch"]).await;
    }
    let why = house.run(["runs", "why", run]).await;
    assert!(
        why.stdout.contains("somebody has paused it: lunch"),
        "{why:?}"
    );
    for _ in 0..2 {
        did(&house, &["runs", "resume", run, "--step-limit", "50"]).await;
    }
    for _ in 0..2 {
        did(&house, &["runs", "cancel", run]).await;
    }
    let ended = house.run(["runs", "pause", run]).await;
    ended.refused(2, &["has ended"]);
    let ended = house.run(["runs", "resume", run]).await;
    ended.refused(2, &["could not resume", "cancelled"]);
}

#[tokio::test]
async fn a_worker_is_drained_from_outside_and_ends_in_order() {
    let house = House::new().await;
    let mut worker = house.velo(["worker"]).spawn().unwrap();
    told(&mut worker, "worker started").await;
    let listed = printed(&house.run(["workers", "--json"]).await);
    let id = listed[0]["id"].to_string();
    let drained = house.run(["workers", "drain", &id, "--json"]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(printed(&drained)["done"], true);
    let ended = end(worker).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let gone = house.run(["workers", "drain", &id]).await;
    gone.refused(2, &["there is no worker", &id]);
}
