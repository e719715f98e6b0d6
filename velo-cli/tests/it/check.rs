//! `velo check`: a build beside the runs of another one.

use velo_engine::prelude::*;

use crate::house::House;

#[tokio::test]
async fn runs_that_this_build_cannot_go_on_with_are_listed_with_the_reason() {
    let house = House::new().await;
    let engine = Engine::migrate_and_connect(house.pool.clone())
        .await
        .unwrap();
    let before = house.run(["check"]).await;
    assert_eq!(before.code, Some(0), "{before:?}");
    assert!(
        before.stdout.contains("each of the 0 live runs"),
        "{before:?}"
    );

    // As a build before this one might have been.
    let graph = Graph::builder("velo.planning", 7)
        .node(NodeKey::<Brief>::new("only"), async |_: Context<Brief>| {
            Ok(Next::none())
        })
        .start(NodeKey::new("only"))
        .compile()
        .unwrap();
    let run = engine.start(&graph, Brief::default()).await.unwrap();
    let after = house.run(["check"]).await;
    assert_eq!(after.code, Some(3), "{after:?}");
    for words in [&run.to_string(), "velo.planning@7", "1 of the 1 live runs"] {
        assert!(after.stdout.contains(words), "no {words} in {after:?}");
    }
    let json = house.run(["check", "--json"]).await;
    assert_eq!(json.code, Some(3), "{json:?}");
    let told: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        told["broken"][0]["misfits"][0]["reason"], "no_version",
        "{told}"
    );
}

#[derive(State, Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct Brief {
    text: String,
}
