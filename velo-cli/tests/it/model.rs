//! A model that fails: what may pass is tried again within bounds, the rest pauses the run with its
//! reason, and resuming repeats nothing that was answered.

use std::time::Duration;

use velo_agents::fake_gemini::{DEFAULT_KEY, Script};

use crate::house::{BRIEF, Ended, House, end, ended};

const PRD: (&str, &str) = ("oracle", "draft_prd");
const PLAN: (&str, &str) = ("neuron", "break_down");

impl House {
    fn next_of(&self, (agent, purpose): (&str, &str), script: Script) {
        self.fake.next_of(agent, purpose, script);
    }

    /// Runs the brief, which is paused for a reason that contains `words`.
    async fn paused(&self, words: &[&str]) -> Ended {
        let paused = self.run(["run", BRIEF, "--json"]).await;
        is_paused(&paused, words);
        paused
    }

    /// Resumes the newest run, which comes to its end without repeating what was answered.
    async fn finishes(&self) {
        let finished = self.run(["run", "--resume", "--json"]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(finished.json()["status"], "completed");
        assert!(self.fake.repeated().is_empty());
    }
}

fn is_paused(paused: &Ended, words: &[&str]) {
    assert_eq!(paused.code, Some(3), "{paused:?}");
    let report = paused.json();
    assert_eq!(report["status"], "paused");
    let error = report["error"].as_str().unwrap();
    paused.says(&["the run is paused", error, "velo run --resume"]);
    paused.says(words);
}

#[tokio::test]
async fn a_wrong_key_pauses_the_run_and_names_the_variable_and_the_right_key_finishes_it() {
    let house = House::new().await;
    let mut velo = house.velo(["run", BRIEF, "--json"]);
    velo.env("GEMINI_API_KEY", "not-the-key");
    let paused = ended(velo).await;
    is_paused(
        &paused,
        &["refused the API key (400)", "check GEMINI_API_KEY"],
    );
    assert!(!format!("{paused:?}").contains("not-the-key"));
    house.finishes().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_half_way_costs_nothing_that_was_done() {
    let house = House::new().await;
    house.next_of(PLAN, Script::unauthorized());
    house
        .paused(&["refused the API key (401)", "check GEMINI_API_KEY"])
        .await;
    house.next_of(PLAN, Script::fallback().error_after(0, 403));
    let paused = house.run(["run", "--resume", "--json"]).await;
    is_paused(
        &paused,
        &["denied access", "GEMINI_API_KEY may use the Gemini API"],
    );
    house.finishes().await;
    assert_eq!(house.asked("oracle"), 1, "the PRD was not asked for again");
}

#[tokio::test]
async fn a_blocked_brief_pauses_the_run_at_once() {
    let house = House::new().await;
    house.next_of(PRD, Script::safety_block());
    house.paused(&["SAFETY"]).await;
    assert_eq!(house.asked("oracle"), 1);
    // Nothing was answered, so resuming asks once more.
    let finished = house.run(["run", "--resume", "--json"]).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(house.asked("oracle"), 2);
}

#[tokio::test]
async fn a_used_up_quota_pauses_the_run_at_once() {
    let house = House::new().await;
    house.next_of(PRD, Script::daily_quota());
    house.paused(&["quota", "used up"]).await;
    assert_eq!(house.asked("oracle"), 1);
    house.finishes().await;
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_is_kept() {
    let house = House::new().await;
    let wait = Duration::from_secs(2);
    house.next_of(PRD, Script::rate_limited(Some(wait), None));
    let finished = house.run(["run", BRIEF, "--json"]).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.says(&["asking again in 2.0 s"]);
    let asked = house.fake.requests();
    let waited = (asked[1].at - asked[0].at).to_std().unwrap();
    assert!(waited >= wait, "waited {waited:?} only");
}

#[tokio::test]
async fn a_model_that_is_always_overloaded_pauses_the_run_after_the_policys_attempts() {
    const ATTEMPTS: usize = 5;
    let house = House::new().await;
    house.fake.always_of(PRD.0, PRD.1, Script::overloaded());
    let mut velo = house.velo(["run", BRIEF, "--json"]);
    velo.env("VELO_MODEL_ATTEMPTS", "1");
    let running = velo.spawn().unwrap();
    for attempt in 1..ATTEMPTS {
        house.fake.wait_for_requests(attempt).await;
        house.hurry().await;
    }
    let paused = end(running).await;
    is_paused(&paused, &["overloaded", "again in"]);
    assert_eq!(house.asked("oracle"), ATTEMPTS);
    house.fake.always_of(PRD.0, PRD.1, Script::fallback());
    house.finishes().await;
}

impl House {
    /// Lets the run that waits for its next attempt, or is about to, wait no longer.
    async fn hurry(&self) {
        let sql = "with failed as (update velo.failure set retry_at = clock_timestamp()) \
                   update velo.queue set wake_at = clock_timestamp() where wake_at is not null";
        loop {
            let hurried = sqlx::query(sql).execute(&self.pool).await.unwrap();
            if hurried.rows_affected() == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_spoilt_reply_is_asked_for_again() {
    let spoilt = [
        Script::fallback().cut_after(2),
        Script::fallback().ended_after(2),
        Script::fallback().error_after(1, 503),
        Script::malformed_json(),
        Script::garbage("<html>busy</html>"),
        Script::server_error(),
    ];
    for script in spoilt {
        let house = House::new().await;
        house.next_of(PLAN, script.clone());
        let finished = house.run(["run", BRIEF, "--json"]).await;
        assert_eq!(finished.code, Some(0), "{script:?}: {finished:?}");
        assert_eq!(house.asked("oracle"), 1, "{script:?}");
        assert_eq!(house.asked("neuron"), 2, "{script:?}");
    }
}

#[tokio::test]
async fn a_reply_that_is_not_what_was_asked_for_is_mended_by_the_model() {
    let unfit = [
        Script::answer("I would rather talk about the weather."),
        Script::answer("{\"title\": \"half a plan\""),
        Script::fallback().at_token_limit(),
    ];
    for script in unfit {
        let house = House::new().await;
        house.next_of(PRD, script.clone());
        let finished = house.run(["run", BRIEF, "--json"]).await;
        assert_eq!(finished.code, Some(0), "{script:?}: {finished:?}");
        assert!(house.asked("oracle") <= 2, "{script:?}");
        assert_eq!(house.asked("neuron"), 1, "{script:?}");
    }
}

#[tokio::test]
async fn a_document_that_is_never_valid_pauses_the_run_and_resuming_begins_it_afresh() {
    const TRIES: usize = 3;
    let house = House::new().await;
    for purpose in ["break_down", "repair_plan"] {
        house
            .fake
            .always_of("neuron", purpose, Script::answer("{\"tasks\": []}"));
    }
    house.paused(&["check_plan"]).await;
    assert_eq!((house.asked("oracle"), house.asked("neuron")), (1, TRIES));
    for purpose in ["break_down", "repair_plan"] {
        house.fake.always_of("neuron", purpose, Script::fallback());
    }
    let finished = house.run(["run", "--resume", "--json"]).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (house.asked("oracle"), house.asked("neuron")),
        (1, TRIES + 1)
    );
}

#[tokio::test]
async fn what_was_spent_is_reported() {
    let house = House::new().await;
    let mut velo = house.velo(["run", BRIEF, "--json"]);
    velo.env("GEMINI_API_KEY", DEFAULT_KEY);
    let report = ended(velo).await.json();
    let spent: f64 = sqlx::query_scalar("select sum(cost_usd)::float8 from velo.usage_logs")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert!(spent > 0.0);
    assert!((report["cost_usd"].as_f64().unwrap() - spent).abs() < 1e-9);
    let tokens = house
        .count("select sum(tokens_used)::bigint from velo.usage_logs")
        .await;
    assert_eq!(report["tokens"], tokens);
    assert_eq!(report["offline"], false);
}

#[tokio::test]
async fn a_paused_run_is_terminated_with_a_reason_and_asked_again_says_the_same() {
    let house = House::new().await;
    house.next_of(PLAN, Script::unauthorized());
    let paused = house.paused(&[]).await.json();
    let run = paused["run_id"].as_str().unwrap();
    let terminate = ["runs", "terminate", run, "nobody wants it", "--json"];
    let ended = house.run(terminate).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let shown = printed(&house.run(["runs", "show", run, "--json"]).await);
    assert_eq!(shown["run"]["status"], "cancelled");
    assert_eq!(shown["run"]["error"]["message"], "nobody wants it");
    let again = house.run(terminate).await;
    assert_eq!(again.stdout, ended.stdout, "{again:?}");
    let late = house.run(["runs", "skip", run]).await;
    late.refused(2, &["could not skip task 0"]);
}

#[tokio::test]
async fn a_failed_task_of_a_paused_run_is_skipped_and_one_that_has_not_failed_is_not() {
    let house = House::new().await;
    house.next_of(PLAN, Script::unauthorized());
    let paused = house.paused(&[]).await.json();
    let run = paused["run_id"].as_str().unwrap();
    let other = house.run(["runs", "skip", run, "--task", "7"]).await;
    other.refused(2, &["could not skip task 7", "paused"]);
    let skipped = house.run(["runs", "skip", run, "--json"]).await;
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    assert_eq!(printed(&skipped)["done"], true);
    let shown = printed(&house.run(["runs", "show", run, "--json"]).await);
    assert_eq!(shown["run"]["status"], "active");
}

/// What `velo runs` printed, which is no report of a project.
fn printed(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap()
}
