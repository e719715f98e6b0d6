use std::time::Duration;

use futures::future::join_all;
use velo_engine::lease::{self, Incarnation, StepRow, Then, Verdict, commit_all, commit_steps};
use velo_engine::prelude::*;
use velo_engine::{RunStatus, test_kit};

use crate::support::Log;

const ONLY: NodeKey<Log> = NodeKey::new("only");
const LONG: Duration = Duration::from_secs(600);

fn graph() -> Graph<Log> {
    Graph::builder("one", 1)
        .node(ONLY, async |_: Context<Log>| Ok(Next::goto(ONLY)))
        .start(ONLY)
        .may_go(ONLY, ONLY)
        .compile()
        .unwrap()
}

async fn register(engine: &Engine) -> Incarnation {
    Incarnation::register(engine.pool(), "test", "nowhere", 1, LONG)
        .await
        .unwrap()
}

async fn claim_one(engine: &Engine, incarnation: Incarnation) -> lease::Lease {
    let claims = incarnation
        .claim(engine.pool(), &["one@1".to_owned()], 1, None)
        .await
        .unwrap();
    claims[0].lease
}

fn row(lease: lease::Lease, seq: i32, then: Then) -> StepRow {
    StepRow {
        lease,
        seq,
        delta: b"[]".to_vec(),
        control: br#"{"t":[{"n":"only"}]}"#.to_vec(),
        snapshot: None,
        then,
    }
}

async fn commit(engine: &Engine, row: StepRow) -> Verdict {
    let worker = row.lease.worker;
    commit_steps(engine.pool(), worker, &[row]).await.unwrap()[0]
}

/// beyond/fencing: of a step.
#[tokio::test]
async fn a_lost_lease_cannot_commit_and_the_new_one_can() {
    let engine = test_kit::engine().await;
    engine.start(&graph(), Log::default()).await.unwrap();
    let old = register(&engine).await;
    let stale = claim_one(&engine, old).await;
    old.retire(engine.pool()).await.unwrap();
    let new = register(&engine).await;
    let fresh = claim_one(&engine, new).await;
    assert_eq!(fresh.fence, stale.fence + 1);
    assert_eq!(
        commit(&engine, row(stale, 1, Then::Finish)).await,
        Verdict::Lost
    );
    assert_eq!(
        engine.run(fresh.run).await.unwrap().status,
        RunStatus::Active
    );
    assert_eq!(
        commit(&engine, row(fresh, 1, Then::Finish)).await,
        Verdict::Added
    );
    assert_eq!(
        engine.run(fresh.run).await.unwrap().status,
        RunStatus::Completed
    );
}

/// beyond/idempotent_retry: of a step.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_told_from_one_that_was_refused() {
    let engine = test_kit::engine().await;
    engine.start(&graph(), Log::default()).await.unwrap();
    let worker = register(&engine).await;
    let lease = claim_one(&engine, worker).await;
    assert_eq!(
        commit(&engine, row(lease, 1, Then::Keep)).await,
        Verdict::Added
    );
    assert_eq!(
        commit(&engine, row(lease, 1, Then::Keep)).await,
        Verdict::Repeated
    );
    assert_eq!(
        commit(&engine, row(lease, 2, Then::Finish)).await,
        Verdict::Added
    );
    assert_eq!(
        commit(&engine, row(lease, 2, Then::Finish)).await,
        Verdict::Repeated
    );
    assert_eq!(
        commit(&engine, row(lease, 3, Then::Keep)).await,
        Verdict::Lost
    );
}

#[tokio::test]
async fn one_lost_lease_in_a_batch_does_not_hold_up_the_others() {
    let engine = test_kit::engine().await;
    for _ in 0..3 {
        engine.start(&graph(), Log::default()).await.unwrap();
    }
    let worker = register(&engine).await;
    let claims = worker
        .claim(engine.pool(), &["one@1".to_owned()], 10, None)
        .await
        .unwrap();
    let mut rows: Vec<StepRow> = claims
        .iter()
        .map(|claim| row(claim.lease, 1, Then::Yield))
        .collect();
    rows[1].lease.fence -= 1;
    let verdicts = commit_steps(engine.pool(), worker.id(), &rows)
        .await
        .unwrap();
    assert_eq!(verdicts, [Verdict::Added, Verdict::Lost, Verdict::Added]);
    let again = worker
        .claim(engine.pool(), &["one@1".to_owned()], 10, None)
        .await
        .unwrap();
    assert_eq!(
        again.len(),
        2,
        "the two that yielded are ready, the third is still leased"
    );
}

#[tokio::test]
async fn steps_that_are_committed_at_once_are_all_committed_or_none() {
    let engine = test_kit::engine().await;
    for _ in 0..3 {
        engine.start(&graph(), Log::default()).await.unwrap();
    }
    let worker = register(&engine).await;
    let codes = ["one@1".to_owned()];
    let claims = worker.claim(engine.pool(), &codes, 10, None).await.unwrap();
    let ends = [Then::Keep, Then::Yield, Then::Finish];
    let rows = |seq: i32| -> Vec<StepRow> {
        let held = claims.iter().zip(ends);
        held.map(|(claim, then)| row(claim.lease, seq, then))
            .collect()
    };
    let steps = async || {
        let looks = join_all(claims.iter().map(|claim| engine.run(claim.lease.run))).await;
        let runs = looks.into_iter().map(Result::unwrap);
        runs.map(|run| (run.steps, run.status)).collect::<Vec<_>>()
    };
    let before = steps().await;

    let mut stale = rows(1);
    stale[2].lease.fence -= 1;
    let pool = engine.pool();
    assert!(!commit_all(pool, worker.id(), &stale).await.unwrap());
    assert_eq!(steps().await, before, "one of the leases is gone");

    assert!(commit_all(pool, worker.id(), &rows(1)).await.unwrap());
    let after = steps().await;
    let expected = [RunStatus::Active, RunStatus::Active, RunStatus::Completed];
    assert_eq!(after, expected.map(|status| (1, status)));
    let again = worker.claim(pool, &codes, 10, None).await.unwrap();
    assert_eq!(again.len(), 1, "one of the leases was given back");

    assert!(!commit_all(pool, worker.id(), &rows(1)).await.unwrap());
    assert_eq!(steps().await, after, "they are committed already");
    assert_eq!(
        commit_steps(pool, worker.id(), &rows(1)).await.unwrap(),
        [Verdict::Repeated; 3]
    );
}

#[tokio::test]
async fn a_worker_that_was_given_up_cannot_claim() {
    let engine = test_kit::engine().await;
    engine.start(&graph(), Log::default()).await.unwrap();
    let worker = register(&engine).await;
    worker.retire(engine.pool()).await.unwrap();
    let refused = worker
        .claim(engine.pool(), &["one@1".to_owned()], 1, None)
        .await
        .unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().code().unwrap(),
        lease::GIVEN_UP
    );
}

#[tokio::test]
async fn a_live_worker_is_not_given_up_and_an_expired_one_is_once() {
    let engine = test_kit::engine().await;
    let run = engine.start(&graph(), Log::default()).await.unwrap();
    let worker = register(&engine).await;
    claim_one(&engine, worker).await;
    assert_eq!(lease::take_over(engine.pool()).await.unwrap(), 0);
    sqlx::query("update velo.worker set expires_at = clock_timestamp() - interval '1 second'")
        .execute(engine.pool())
        .await
        .unwrap();
    let pools = join_all((0..4).map(|_| lease::take_over(engine.pool()))).await;
    let handed: usize = pools.into_iter().map(Result::unwrap).sum();
    assert_eq!(handed, 1);
    assert!(!engine.run(run).await.unwrap().is_leased);
    let mut conn = engine.pool().acquire().await.unwrap();
    let beat = worker.heartbeat(&mut conn).await.unwrap();
    assert_eq!(beat, lease::Beat::GivenUp);
}

/// beyond/two_writers: claims.
#[tokio::test]
async fn many_claimers_at_once_claim_each_run_once() {
    const RUNS: usize = 200;
    let engine = test_kit::engine().await;
    let graph = graph();
    for _ in 0..RUNS {
        engine.start(&graph, Log::default()).await.unwrap();
    }
    let claimers = (0..8).map(|_| async {
        let worker = register(&engine).await;
        let mut runs = Vec::new();
        loop {
            let claims = worker
                .claim(engine.pool(), &["one@1".to_owned()], 7, None)
                .await
                .unwrap();
            if claims.is_empty() {
                return runs;
            }
            runs.extend(claims.into_iter().map(|claim| claim.lease.run));
        }
    });
    let mut runs = join_all(claimers).await.concat();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), RUNS);
}

#[tokio::test]
async fn a_run_that_kills_its_workers_is_paused_after_five() {
    let engine = test_kit::engine().await;
    let run = engine.start(&graph(), Log::default()).await.unwrap();
    for death in 1..=5 {
        assert_eq!(
            engine.run(run).await.unwrap().status,
            RunStatus::Active,
            "before death {death}"
        );
        let worker = register(&engine).await;
        claim_one(&engine, worker).await;
        lease::bury(
            engine.pool(),
            lease::Neighbour {
                id: worker.id(),
                pid: 1,
            },
        )
        .await
        .unwrap();
    }
    let paused = engine.run(run).await.unwrap();
    assert_eq!(paused.status, RunStatus::Paused);
    assert_eq!(paused.error.unwrap()["kind"], "crashed");
    assert!(engine.resume(run).await.unwrap());
    let worker = register(&engine).await;
    claim_one(&engine, worker).await;
}

#[tokio::test]
async fn a_take_over_waits_for_the_commit_that_is_under_way() {
    let engine = test_kit::engine().await;
    engine.start(&graph(), Log::default()).await.unwrap();
    let worker = register(&engine).await;
    let lease = claim_one(&engine, worker).await;
    let mut tx = engine.pool().begin().await.unwrap();
    let verdict = commit_steps(&mut *tx, worker.id(), &[row(lease, 1, Then::Keep)])
        .await
        .unwrap();
    assert_eq!(verdict, [Verdict::Added]);
    let retire = tokio::spawn({
        let pool = engine.pool().clone();
        async move { worker.retire(&pool).await }
    });
    crate::support::until(async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
             where d.datname = current_database() and l.locktype = 'advisory' and not l.granted",
        )
        .fetch_one(engine.pool())
        .await
        .unwrap();
        waiting == 1
    })
    .await;
    tx.commit().await.unwrap();
    assert_eq!(retire.await.unwrap().unwrap(), 1);
    assert_eq!(engine.run(lease.run).await.unwrap().steps, 1);
}
