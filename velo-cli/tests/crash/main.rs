//! Kills the binary with SIGKILL at every boundary of every step and inside every call of the model, and
//! starts it again: it always finishes, with the same result, and asks nothing again that was answered
//! and recorded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod house;
mod schedules;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use velo_agents::fake_gemini::{Outcome, Script};

use house::{House, Outcomes};

const SIGKILL: i32 = 9;
/// More hits of one place than any run has.
const HITS_MAX: u32 = 30;

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

/// Kills at the first, second, … time that the process comes to `place`, until it no longer does.
async fn kill_at_each(place: &str, asks_again: bool) {
    let undisturbed = undisturbed().await;
    let mut kills = 0;
    for hit in 1..HITS_MAX {
        let house = House::new().await;
        let status = house
            .velo()
            .env("VELO_FAILPOINT", format!("{place}:{hit}"))
            .status()
            .await
            .unwrap();
        if !was_killed(status) {
            assert!(status.success(), "{place}:{hit} ended with {status}");
            break;
        }
        kills += 1;
        let status = house.velo().status().await.unwrap();
        assert!(
            status.success(),
            "after {place}:{hit} the second start ended with {status}"
        );
        assert_eq!(house.outcomes().await, undisturbed, "after {place}:{hit}");
        let repeated = house.fake.repeated().len();
        // Only a reply that had arrived and was not yet recorded may be asked for again.
        assert_eq!(repeated, usize::from(asks_again), "after {place}:{hit}");
    }
    assert!(kills > 0, "the process never came to {place}");
}

async fn undisturbed() -> Outcomes {
    let house = House::new().await;
    let status = house.velo().status().await.unwrap();
    assert!(status.success(), "{status}");
    assert!(house.fake.repeated().is_empty());
    house.outcomes().await
}

#[tokio::test]
async fn killed_before_any_step_is_committed_it_finishes_as_if_undisturbed() {
    kill_at_each("step.before", false).await;
}

#[tokio::test]
async fn killed_inside_any_transaction_of_a_step_it_finishes_as_if_undisturbed() {
    kill_at_each("step.inside", false).await;
}

#[tokio::test]
async fn killed_after_any_step_was_committed_it_finishes_as_if_undisturbed() {
    kill_at_each("step.after", false).await;
}

#[tokio::test]
async fn killed_with_a_reply_in_hand_that_was_not_kept_it_asks_for_that_one_again() {
    kill_at_each("memo.before", true).await;
}

#[tokio::test]
async fn killed_after_a_reply_was_kept_it_does_not_ask_again() {
    kill_at_each("memo.after", false).await;
}

#[tokio::test]
async fn killed_inside_any_call_of_the_model_it_finishes_as_if_undisturbed() {
    let undisturbed = undisturbed().await;
    let mut kills = 0;
    for call in 0..HITS_MAX {
        let house = House::new().await;
        for _ in 0..call {
            house.fake.next(Script::fallback());
        }
        let (script, hold) = Script::fallback().held();
        house.fake.next(script);
        let mut velo = house.velo().spawn().unwrap();
        let is_held = tokio::select! {
            () = hold.reached(1) => true,
            status = velo.wait() => {
                assert!(status.unwrap().success());
                false
            }
        };
        if !is_held {
            break;
        }
        kills += 1;
        velo.kill().await.unwrap();
        house
            .fake
            .wait_until(|requests| {
                requests
                    .iter()
                    .any(|request| request.outcome == Outcome::ClientGone)
            })
            .await;
        let status = house.velo().status().await.unwrap();
        assert!(
            status.success(),
            "after call {call} the second start ended with {status}"
        );
        assert_eq!(house.outcomes().await, undisturbed, "after call {call}");
        assert!(house.fake.repeated().is_empty(), "after call {call}");
    }
    assert!(kills >= 2, "planning asks at least for a PRD and a plan");
}
