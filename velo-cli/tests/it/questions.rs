//! Open questions from the command line: some of them, and answers to several at once.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use velo_engine::prelude::*;
use velo_worker::Worker;

use crate::house::House;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Trip {
    from: String,
    days: u32,
}

const ASK: NodeKey<Trip> = NodeKey::new("ask");
const AGAIN: NodeKey<Trip> = NodeKey::new("again");

fn trip(name: &str) -> Graph<Trip> {
    let from = async |cx: Context<Trip>| {
        let from: String = cx.ask("from", &"where from?").await?;
        Ok(Trip::update().from(from).into())
    };
    let days = async |cx: Context<Trip>| {
        let days: u32 = cx.ask("days", &"how long?").await?;
        Ok(Trip::update().days(days).into())
    };
    Graph::builder(name, 1)
        .node(ASK, from)
        .node(AGAIN, days)
        .start(ASK)
        .start(AGAIN)
        .compile()
        .unwrap()
}

impl House {
    async fn listed(&self, filter: &[&str]) -> Vec<Value> {
        let ended = self
            .run(
                ["runs", "questions", "--json"]
                    .iter()
                    .chain(filter)
                    .copied(),
            )
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

#[tokio::test]
async fn questions_are_listed_by_graph_thread_and_page_and_answered_all_or_none() {
    let house = House::new().await;
    let engine = Engine::migrate_and_connect(house.pool.clone())
        .await
        .unwrap();
    let (sea, hills) = (trip("sea"), trip("hills"));
    let stop = CancellationToken::new();
    let worker = Worker::builder(engine.clone())
        .serve(sea.clone())
        .serve(hills.clone());
    let working = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
    let ada = engine
        .start(&sea, Trip::default())
        .thread("ada")
        .await
        .unwrap();
    let bob = engine
        .start(&hills, Trip::default())
        .thread("bob")
        .await
        .unwrap();
    for run in [ada, bob] {
        assert_eq!(engine.wait(run).await.unwrap().status, RunStatus::Waiting);
    }

    assert_eq!(house.listed(&[]).await.len(), 4);
    let of_sea = house.listed(&["--graph", "sea"]).await;
    assert!(
        of_sea.len() == 2 && of_sea.iter().all(|it| it["id"] != Value::Null),
        "{of_sea:?}"
    );
    let of_bob = house.listed(&["--thread", "bob"]).await;
    assert_eq!(of_bob.len(), 2);
    assert_eq!(house.listed(&[&bob.to_string()]).await, of_bob);
    assert!(
        house
            .listed(&["--graph", "sea", "--thread", "bob"])
            .await
            .is_empty()
    );
    let first = house.listed(&["--limit", "1"]).await;
    let id = first[0]["id"].as_str().unwrap();
    let rest = house.listed(&["--after", id]).await;
    assert_eq!((first.len(), rest.len()), (1, 3));
    assert!(rest.iter().all(|it| it["id"] != first[0]["id"]), "{rest:?}");

    let run = ada.to_string();
    let answer = async |answers: Value| {
        house
            .run(["runs", "answer-all", &run, &answers.to_string()])
            .await
    };
    // One that does not fit keeps the others from being taken.
    answer(json!({ "from": "Genoa", "days": "many" }))
        .await
        .refused(2, &["days"]);
    assert_eq!(house.listed(&["--graph", "sea"]).await.len(), 2);
    let slip = answer(json!({ "form": "Genoa", "days": 3 })).await;
    slip.refused(2, &["the question `form`", "did you mean `from`?"]);
    let done = answer(json!({ "from": "Genoa", "days": 3 })).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(engine.wait(ada).await.unwrap().status, RunStatus::Completed);
    let trip: Trip = engine.state(ada).await.unwrap();
    assert_eq!((trip.from.as_str(), trip.days), ("Genoa", 3));
    assert!(house.listed(&["--graph", "sea"]).await.is_empty());
    house
        .run(["graph", "hlils@1"])
        .await
        .refused(2, &["did you mean hills@1?"]);
    stop.cancel();
    working.await.unwrap().unwrap();
}
