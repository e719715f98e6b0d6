//! Interrupted, killed, asked for again: what was done is kept, and found by every name it has.

use rustix::process::Signal;
use velo_agents::fake_gemini::{Outcome, Script};

use crate::house::{BRIEF, Ended, House, Says, end, insist, signal, told};

impl House {
    /// Runs the brief until `agent` waits for its reply, and then ends it.
    async fn ended_in_call(&self, agent: &str, purpose: &str, by: &[Signal]) -> Ended {
        let (script, hold) = Script::fallback().held();
        self.fake.next_of(agent, purpose, script);
        let running = self.velo(["run", BRIEF, "--json"]).spawn().unwrap();
        hold.reached(1).await;
        for by in by {
            signal(&running, *by);
        }
        let ended = end(running).await;
        let is_gone =
            |asked: &velo_agents::fake_gemini::Received| asked.outcome == Outcome::ClientGone;
        self.fake
            .wait_until(|requests| requests.iter().any(is_gone))
            .await;
        ended
    }

    async fn finishes_with(&self, args: &[&str]) -> serde_json::Value {
        let finished = self.run(args.iter().copied()).await;
        assert_eq!(finished.code, Some(0), "{args:?}: {finished:?}");
        assert!(self.fake.repeated().is_empty());
        finished.json()
    }
}

#[tokio::test]
async fn interrupted_it_finishes_the_step_and_resumes_at_the_next() {
    let house = House::new().await;
    let (script, hold) = Script::fallback().held();
    house.fake.next_of("oracle", "draft_prd", script);
    let mut running = house.velo(["run", BRIEF, "--json"]).spawn().unwrap();
    let mut says = Says::of(&mut running);
    hold.reached(1).await;
    signal(&running, Signal::INT);
    says.wait_for("finishing the step").await;
    hold.release();
    let told = says.wait_for("interrupted; what is done is kept").await;
    let interrupted = end(running).await;
    assert_eq!(interrupted.code, Some(130), "{interrupted:?}");
    let report = interrupted.json();
    assert_eq!(report["status"], "active");
    let resume = format!("velo run --resume {}", report["run_id"].as_str().unwrap());
    assert!(told.ends_with(&resume), "{told}");
    let finished = house.finishes_with(&["run", "--resume", "--json"]).await;
    assert_eq!(finished["run_id"], report["run_id"]);
    assert_eq!(house.asked("oracle"), 1);
}

#[tokio::test]
async fn interrupted_twice_it_stops_in_the_middle_of_a_call() {
    let house = House::new().await;
    let (script, hold) = Script::fallback().held();
    house.fake.next_of("oracle", "draft_prd", script);
    let mut running = house.velo(["run", BRIEF, "--json"]).spawn().unwrap();
    hold.reached(1).await;
    signal(&running, Signal::INT);
    told(&mut running, "Ctrl-C again stops at once").await;
    let interrupted = insist(running, Signal::INT).await;
    assert_eq!(interrupted.code, Some(130), "{interrupted:?}");
    assert_eq!(interrupted.json()["status"], "active");
    house.finishes_with(&["run", BRIEF, "--json"]).await;
}

#[tokio::test]
async fn killed_in_a_call_it_is_resumed_by_each_of_its_names() {
    let house = House::new().await;
    let killed = house
        .ended_in_call("neuron", "break_down", &[Signal::KILL])
        .await;
    assert_eq!(
        (killed.code, killed.stdout.as_str()),
        (None, ""),
        "{killed:?}"
    );
    let by_newest = house.ended_in_resume(&["run", "--resume"]).await;
    let run = house.count("select id from velo.run").await.to_string();
    house.ended_in_resume(&["run", "--resume", &run]).await;
    let project: uuid::Uuid = sqlx::query_scalar("select id from velo.projects")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    let project = project.to_string();
    assert!(by_newest.contains(&run), "{by_newest}");
    let finished = house
        .finishes_with(&["run", "--resume", &project, "--json"])
        .await;
    assert_eq!(finished["project_id"], project.as_str());
    assert_eq!(
        house.asked("oracle"),
        1,
        "the PRD was kept through all of it"
    );

    // What has ended delivers its documents once more, elsewhere if wanted, and asks nothing.
    let asked = house.fake.requests().len();
    house
        .finishes_with(&["run", "--resume", &run, "--out", "elsewhere", "--json"])
        .await;
    assert!(house.path().join("elsewhere/task-plan.md").exists());
    assert_eq!(house.fake.requests().len(), asked);
    house
        .run(["run", "--resume"])
        .await
        .refused(2, &["no run is unfinished"]);
}

impl House {
    /// Resumes it, and kills it in the next call; returns what it said about the run.
    async fn ended_in_resume(&self, args: &[&str]) -> String {
        let (script, hold) = Script::fallback().held();
        self.fake.next_of("neuron", "break_down", script);
        let mut running = self.velo(args.iter().copied()).spawn().unwrap();
        let line = told(&mut running, "going on with run").await;
        hold.reached(1).await;
        signal(&running, Signal::KILL);
        end(running).await;
        line
    }
}

#[tokio::test]
async fn killed_and_asked_for_again_it_goes_on_with_the_same_project() {
    let house = House::new().await;
    house
        .ended_in_call("oracle", "draft_prd", &[Signal::KILL])
        .await;
    let finished = house
        .finishes_with(&["run", BRIEF, "--out", "out", "--json"])
        .await;
    assert_eq!(finished["tasks"].as_array().unwrap().len(), 16);
    for artifact in finished["artifacts"].as_array().unwrap() {
        let path = house.path().join(artifact["path"].as_str().unwrap());
        assert!(path.exists(), "{artifact}");
    }
    assert_eq!(house.count("select count(*) from velo.projects").await, 1);
}

#[tokio::test]
async fn a_brief_whose_project_has_ended_begins_another_and_so_does_new() {
    let house = House::new().await;
    house
        .ended_in_call("oracle", "draft_prd", &[Signal::KILL])
        .await;
    house
        .finishes_with(&["run", BRIEF, "--new", "--json"])
        .await;
    assert_eq!(house.count("select count(*) from velo.projects").await, 2);
    let unfinished = "select count(*) from velo.run where finished_at is null";
    assert_eq!(house.count(unfinished).await, 1, "the old one is kept");
    house.run(["run", BRIEF]).await;
    assert_eq!(house.count(unfinished).await, 0, "and found again");
    house.run(["run", BRIEF]).await;
    assert_eq!(house.count("select count(*) from velo.projects").await, 3);
}
