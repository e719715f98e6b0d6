//! The way back of a run that cannot be finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use velo_engine::prelude::*;
use velo_engine::{NodeFailure, RunStatus, test_kit};

use crate::support::{Beside, Log, line, settled, steady, within, worker};

const FLIGHT: NodeKey<Log> = NodeKey::new("flight");
const HOTELS: NodeKey<Log, u32> = NodeKey::new("hotels");
const CAR: NodeKey<Log> = NodeKey::new("car");
const CANCEL: NodeKey<Log, String> = NodeKey::new("cancel");
const GIVE_UP: NodeKey<Log, NodeFailure> = NodeKey::new("give_up");
const TELL: NodeKey<Log> = NodeKey::new("tell");

/// Where the second cancellation stands still, the first time.
#[derive(Clone, Default)]
struct Door {
    passed: Arc<AtomicU32>,
    came: Arc<Notify>,
}

/// Books a flight and two hotels, gets no car, and takes all of it back.
fn trip(door: &Door) -> Graph<Log> {
    let door = door.clone();
    Graph::builder("trip", 1)
        .node(FLIGHT, async |_: Context<Log>| {
            let hotels = Next::send_all(HOTELS, [1, 2]).and_update(line("flight"));
            Ok(hotels.and_compensation(CANCEL, "flight".to_owned()))
        })
        .node(HOTELS, async |cx: Context<Log, u32>| {
            let hotel = format!("hotel {}", cx.input());
            Ok(Next::from(line(hotel.clone())).and_compensation(CANCEL, hotel))
        })
        .node(CAR, async |_: Context<Log>| {
            Err::<Next<Log>, _>(NodeError::permanent("no car is left"))
        })
        .node(CANCEL, move |cx: Context<Log, String>| {
            let door = door.clone();
            async move {
                if door.passed.fetch_add(1, Ordering::SeqCst) == 1 {
                    door.came.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(line(format!("no {} under fence {}", cx.input(), cx.fence())).into())
            }
        })
        .node(GIVE_UP, async |cx: Context<Log, NodeFailure>| {
            let why = line(cx.input().error.to_string());
            Ok(Next::unwind_to(TELL).and_update(why))
        })
        .node(TELL, async |_: Context<Log>| Ok(line("told").into()))
        .start(FLIGHT)
        .may_go(FLIGHT, HOTELS)
        .may_go(FLIGHT, CANCEL)
        .may_go(HOTELS, CANCEL)
        .edge(HOTELS, CAR)
        .on_error(CAR, GIVE_UP)
        .may_go(GIVE_UP, TELL)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn what_was_done_is_taken_back_in_reverse_and_goes_on_after_the_death_of_its_worker() {
    let engine = test_kit::engine().await;
    let door = Door::default();
    let graph = trip(&door);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let doomed = Beside::start(worker(&engine, graph.clone()));
    within(door.came.notified()).await;
    doomed.die().await;
    let heir = Beside::start(steady(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    heir.stop().await;
    let state: Log = engine.state(run).await.unwrap();
    let (there, back) = state.lines.split_at(4);
    assert_eq!(there[..3], ["flight", "hotel 1", "hotel 2"]);
    assert!(there[3].contains("no car is left"), "{}", there[3]);
    // The first one was committed by the worker that died, and is not done again.
    let first = back[0].strip_prefix("no hotel 2 under fence ").unwrap();
    let second = back[1].strip_prefix("no hotel 1 under fence ").unwrap();
    assert!(second > first, "{back:?}");
    assert_eq!(back[2], format!("no flight under fence {second}"));
    assert_eq!(back[3..], ["told"]);
    assert_eq!(door.passed.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_fork_has_what_was_registered_and_takes_it_back_too() {
    let engine = test_kit::engine().await;
    let door = Door {
        // Nothing stands still.
        passed: Arc::new(AtomicU32::new(10)),
        ..Door::default()
    };
    let graph = trip(&door);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(steady(&engine, graph.clone()));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let fork = engine.fork(&graph, run, 2).await.unwrap();
    assert_eq!(settled(&engine, fork).await.status, RunStatus::Completed);
    beside.stop().await;
    let (first, again): (Log, Log) = (
        engine.state(run).await.unwrap(),
        engine.state(fork).await.unwrap(),
    );
    let names = |log: &Log| -> Vec<String> {
        let lines = log.lines.iter();
        lines
            .map(|line| line.split(" under").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names(&first), names(&again));
    assert_eq!(first.lines.len(), 8);
}
