//! Several processes on one database: they share the work, and take over from the dead.

use rustix::process::Signal;
use tokio::process::Child;
use velo_agents::fake_gemini::{Hold, Outcome, Script};

use crate::house::{BRIEF, House, end, insist, signal, told};

const PROJECTS: usize = 6;
const FINISHED: &str = "select count(*) from velo.run where status = 'completed'";

#[tokio::test]
async fn two_that_are_given_the_same_brief_at_once_share_one_project() {
    let house = House::new().await;
    // Otherwise the one that comes second to the tables would come too late to the brief.
    house.run(["migrate"]).await;
    let (script, hold) = Script::fallback().held();
    house.fake.next_of("oracle", "draft_prd", script);
    let start = || house.velo(["run", BRIEF, "--json"]).spawn().unwrap();
    let (mut one, mut other) = (start(), start());
    tokio::join!(told(&mut one, "model "), told(&mut other, "model "));
    hold.reached(1).await;
    hold.release();
    let (one, other) = tokio::join!(end(one), end(other));
    assert_eq!(
        (one.code, other.code),
        (Some(0), Some(0)),
        "{one:?} {other:?}"
    );
    assert_eq!(one.json()["project_id"], other.json()["project_id"]);
    assert_eq!(house.count("select count(*) from velo.projects").await, 1);
    assert_eq!((house.asked("oracle"), house.asked("neuron")), (1, 1));
}

#[tokio::test]
async fn one_that_watches_takes_over_when_the_other_is_killed() {
    let house = House::new().await;
    let (script, hold) = Script::fallback().held();
    house.fake.next_of("oracle", "draft_prd", script);
    let one = house.velo(["run", BRIEF, "--json"]).spawn().unwrap();
    hold.reached(1).await;
    let mut other = house.velo(["run", BRIEF, "--json"]).spawn().unwrap();
    told(&mut other, "another process has it").await;
    signal(&one, Signal::KILL);
    let other = end(other).await;
    assert_eq!(other.code, Some(0), "{other:?}");
    assert_eq!(other.json()["status"], "completed");
    assert!(house.fake.repeated().is_empty());
}

impl House {
    fn worker(&self) -> Child {
        self.velo(["worker", "--concurrency", "3"]).spawn().unwrap()
    }

    /// Creates the projects through the API, and stops it.
    async fn create_projects(&self) {
        let mut api = self
            .velo(["api", "--listen", "127.0.0.1:0"])
            .spawn()
            .unwrap();
        let address = address(&mut api).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        for n in 0..PROJECTS {
            let body = serde_json::json!({"brief": format!("{BRIEF}, number {n}")});
            let request = http.post(format!("{address}/api/project/create"));
            let answer = request.json(&body).send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
        }
        signal(&api, Signal::TERM);
        let stopped = end(api).await;
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
    }

    /// Holds the next `n` PRDs at one place.
    fn hold_prds(&self, n: usize) -> Vec<Hold> {
        let held = (0..n).map(|_| {
            let (script, hold) = Script::fallback().held();
            self.fake.next_of("oracle", "draft_prd", script);
            hold
        });
        held.collect()
    }

    /// Waits until all projects are planned.
    async fn all_finish(&self) {
        let wanted = i64::try_from(PROJECTS).unwrap();
        while self.count(FINISHED).await < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Where the API listens, as it says.
pub(crate) async fn address(api: &mut Child) -> String {
    let line = told(api, "API on http://").await;
    let begin = line.find("http://").unwrap();
    let end = line.find("/api/").unwrap();
    line[begin..end].to_owned()
}

#[tokio::test]
async fn a_worker_is_killed_among_six_projects_and_nothing_is_lost_or_asked_twice() {
    let house = House::new().await;
    house.create_projects().await;
    let holds = house.hold_prds(PROJECTS);
    let (one, other) = (house.worker(), house.worker());
    for hold in &holds {
        hold.reached(1).await;
    }
    signal(&one, Signal::KILL);
    end(one).await;
    let gone = |asked: &&velo_agents::fake_gemini::Received| asked.outcome == Outcome::ClientGone;
    house
        .fake
        .wait_until(|requests| requests.iter().filter(gone).count() == PROJECTS / 2)
        .await;
    for hold in holds {
        hold.release();
    }
    // As its supervisor would do. It takes over at once what the one of its host left.
    let next = house.worker();
    house.all_finish().await;
    assert!(house.fake.repeated().is_empty());
    assert_eq!(house.asked("oracle"), PROJECTS + PROJECTS / 2);
    assert_eq!(house.asked("neuron"), PROJECTS);
    let twice = "select count(*) - count(distinct (project_id, key)) from velo.tasks";
    assert_eq!(house.count(twice).await, 0);
    let planned = "select count(distinct project_id) from velo.tasks";
    assert_eq!(house.count(planned).await, i64::try_from(PROJECTS).unwrap());
    for worker in [other, next] {
        signal(&worker, Signal::TERM);
        let stopped = end(worker).await;
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        assert!(!stopped.stderr.contains("ERROR"), "{stopped:?}");
    }
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_its_steps_and_takes_no_more() {
    let house = House::new().await;
    house.create_projects().await;
    let holds = house.hold_prds(3);
    let mut worker = house.worker();
    for hold in &holds {
        hold.reached(1).await;
    }
    signal(&worker, Signal::TERM);
    told(&mut worker, "steps that are under way may finish").await;
    for hold in holds {
        hold.release();
    }
    let stopped = end(worker).await;
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!((house.asked("oracle"), house.asked("neuron")), (3, 0));
    let leased = "select count(*) from velo.queue where worker is not null";
    assert_eq!(house.count(leased).await, 0, "all were given back");
    let next = house.worker();
    house.all_finish().await;
    assert_eq!(house.asked("oracle"), PROJECTS);
    drop(next);
}

#[tokio::test]
async fn a_worker_lets_go_after_its_grace_and_at_once_when_told_twice() {
    for (grace, signals) in [("0", 1), ("3600", 2)] {
        let house = House::new().await;
        house.create_projects().await;
        let holds = house.hold_prds(PROJECTS);
        let mut worker = house
            .velo(["worker", "--concurrency", "6", "--grace", grace])
            .spawn()
            .unwrap();
        for hold in &holds {
            hold.reached(1).await;
        }
        signal(&worker, Signal::TERM);
        let stopped = if signals == 2 {
            told(&mut worker, "Ctrl-C again").await;
            insist(worker, Signal::TERM).await
        } else {
            end(worker).await
        };
        assert_eq!(stopped.code, Some(130), "{stopped:?}");
    }
}
