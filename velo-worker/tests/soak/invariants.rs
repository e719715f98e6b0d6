//! What must hold of all runs when all have ended.

use std::fmt;

use sqlx::AssertSqlSafe;
use velo_engine::prelude::*;

use crate::load::{CALLS, EFFECTS, Mixed};

/// What was counted.
#[derive(Debug)]
pub(crate) struct Found {
    steps: i64,
    effects: i64,
    calls: i64,
    leases: i64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            steps,
            effects,
            calls,
            leases,
        } = self;
        write!(
            f,
            "{steps} steps committed, {effects} effects once each, {calls} calls under {leases} leases"
        )
    }
}

/// Each is the name of a promise, and a query for what breaks it.
const NONE: [(&str, &str); 9] = [
    (
        "G1: every run has ended",
        "select id::text from velo.run where finished_at is null",
    ),
    (
        "G4: the steps of a run have no gap",
        "select run_id::text from velo.step group by run_id having max(seq) <> count(*) - 1",
    ),
    (
        "G5: no step is committed under an older lease than the one before it",
        "select run_id::text from (
           select run_id, fence < lag(fence) over (partition by run_id order by seq) as is_older from velo.step
         ) step where is_older",
    ),
    (
        "G7: no place in the queue is left",
        "select run_id::text from velo.queue",
    ),
    (
        "G7: no thread is held",
        "select name from velo.thread where is_live",
    ),
    (
        "G7: no end is left to be told",
        "select run_id::text from velo.ending",
    ),
    (
        "G7: nothing belongs to a run that is not there",
        "select run_id::text from (
           select run_id from velo.step union select run_id from velo.memo union select run_id from velo.outcome
           union select run_id from velo.failure union select run_id from velo.wait union select run_id from velo.child
         ) row where not exists (select from velo.run r where r.id = row.run_id)",
    ),
    (
        "G7: no worker is left",
        "select id::text from velo.worker",
    ),
    (
        "G7: no message is used twice or left",
        "select run_id::text from velo.signal where used_seq is null",
    ),
];

pub(crate) async fn check(engine: &Engine, runs: &[RunId]) -> Found {
    let pool = engine.pool();
    for (promise, query) in NONE {
        let broken: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("{query} limit 5")))
            .fetch_all(pool)
            .await
            .unwrap();
        assert_eq!(broken, Vec::<String>::new(), "{promise}");
    }
    let count =
        async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(pool).await.unwrap() };
    for run in runs {
        let (effects, calls): (i64, i64) = sqlx::query_as(
            "select (select count(*) from effect where run_id = $1),
                    (select count(distinct key) from call where run_id = $1)",
        )
        .bind(run)
        .fetch_one(pool)
        .await
        .unwrap();
        assert_eq!(effects, EFFECTS, "G2: the effects of run {run}");
        assert_eq!(calls, CALLS, "G3: the keys of the calls of run {run}");
        let state: Mixed = engine.state(*run).await.unwrap();
        let expected = Mixed {
            packed: vec![0, 1, 2, 3, 4, 5],
            word: "please".to_owned(),
            is_approved: true,
            child: 3,
        };
        assert_eq!(state, expected, "the state of run {run}");
    }
    let runs = i64::try_from(runs.len()).unwrap();
    assert_eq!(
        count("select count(*) from velo.run where parent is null").await,
        runs,
        "no run but those that somebody has started"
    );
    Found {
        steps: count("select count(*) from velo.step where seq > 0").await,
        effects: count("select count(*) from effect").await,
        calls: count("select count(*) from call").await,
        leases: count("select coalesce(sum(fence), 0)::bigint from (select max(fence) as fence from velo.step group by run_id) lease").await,
    }
}
