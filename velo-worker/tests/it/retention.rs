//! Runs that are kept for as long as is said, and then deleted by whichever worker comes; and never what a run needs
//! that has not ended.

use std::time::Duration;

use futures::future::join_all;
use sqlx::{AssertSqlSafe, PgPool};
use velo_engine::prelude::*;
use velo_engine::test_kit::{self, Clock, database_with_clock};
use velo_engine::{ALL_GRAPHS, IfClosed, Kept, OnClose, Swept, pending};
use velo_worker::test_kit::Fleet;

use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const ASK: NodeKey<Log> = NodeKey::new("ask");
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A run of it ends at once.
fn short() -> Graph<Log> {
    Graph::builder("short", 1)
        .node(FIRST, async |_: Context<Log>| Ok(line("done").into()))
        .start(FIRST)
        .compile()
        .unwrap()
}

/// A run of it waits until it is answered.
fn asking(name: &str) -> Graph<Log> {
    Graph::builder(name, 1)
        .node(ASK, async |cx: Context<Log>| {
            let said: String = cx.ask("word", &"what now?").await?;
            Ok(line(said).into())
        })
        .start(ASK)
        .compile()
        .unwrap()
}

/// An engine whose database's time can be put forward.
async fn timed() -> (Engine, Clock) {
    let (pool, clock) = database_with_clock().await;
    (Engine::migrate_and_connect(pool).await.unwrap(), clock)
}

async fn ended(engine: &Engine, graph: &Graph<Log>) -> RunId {
    let run = engine.start(graph, Log::default()).await.unwrap();
    assert_eq!(settled(engine, run).await.status, RunStatus::Completed);
    run
}

/// In one look, since it may be deleted between two.
async fn is_there(engine: &Engine, run: RunId) -> bool {
    let (runs, steps): (i64, i64) = sqlx::query_as(
        "select (select count(*) from velo.run where id = $1), (select count(*) from velo.step where run_id = $1)",
    )
    .bind(run)
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert_eq!(runs > 0, steps > 0, "half of run {run} is there");
    runs > 0
}

async fn count(engine: &Engine, sql: &'static str, run: RunId) -> i64 {
    sqlx::query_scalar(sql)
        .bind(run)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

/// Looks until a whole pass has deleted nothing; returns how many runs went.
async fn pass(engine: &Engine) -> u64 {
    let mut deleted = 0;
    loop {
        let swept = whole_pass(engine).await;
        if swept == 0 {
            return deleted;
        }
        deleted += swept;
    }
}

async fn whole_pass(engine: &Engine) -> u64 {
    due(engine).await;
    let mut deleted = 0;
    loop {
        let swept = engine.advance_retention().await.unwrap();
        let swept = swept.expect("nobody else is at it");
        deleted += swept.deleted;
        if swept.is_pass_over {
            return deleted;
        }
    }
}

async fn due(engine: &Engine) {
    sqlx::query("update velo.sweep set due_at = clock_timestamp()")
        .execute(engine.pool())
        .await
        .unwrap();
}

/// Rows of runs that ended in the past, and nothing else of them, each started a minute after the one before.
async fn old_runs(pool: &PgPool, number: i64, days: i32) -> Vec<RunId> {
    sqlx::query_scalar(
        "insert into velo.run (id, nonce, graph, version, fingerprint, status, created_at, finished_at)
         select ((extract(epoch from now() - make_interval(days => $2)) * 1000)::bigint + n * 60000) << 21,
                n, 'short', 1, gen_random_uuid(), 'completed', now(), now() - make_interval(days => $2)
         from generate_series(1, $1) n
         returning id",
    )
    .bind(number)
    .bind(days)
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_run_is_kept_for_as_long_as_its_end_says_and_one_that_has_not_ended_for_ever() {
    let (engine, clock) = timed().await;
    let (short, asking) = (short(), asking("asking"));
    let beside = Beside::start(worker(&engine, short.clone()).serve(asking.clone()));
    let completed = ended(&engine, &short).await;
    let ask = async || {
        let run = engine.start(&asking, Log::default()).await.unwrap();
        assert_eq!(settled(&engine, run).await.status, RunStatus::Waiting);
        run
    };
    let (waiting, cancelled, failed) = (ask().await, ask().await, ask().await);
    assert!(engine.cancel(cancelled).await.unwrap());
    assert!(engine.terminate(failed, "given up").await.unwrap());
    beside.stop().await;

    clock.jump(29 * DAY).await;
    assert_eq!(pass(&engine).await, 0);
    clock.jump(DAY).await;
    assert_eq!(engine.prunable().await.unwrap().runs.len(), 2);
    assert_eq!(pass(&engine).await, 2);
    assert!(!is_there(&engine, completed).await && !is_there(&engine, cancelled).await);
    clock.jump(60 * DAY).await;
    assert!(is_there(&engine, failed).await);
    assert_eq!(pass(&engine).await, 1);
    clock.jump(3650 * DAY).await;
    assert_eq!(pass(&engine).await, 0);
    assert!(is_there(&engine, waiting).await);

    // It goes on as if nothing had been.
    let asked = engine.questions(Some(waiting), 1).await.unwrap();
    engine.answer(&asked[0], &"at last").await.unwrap();
    let beside = Beside::start(worker(&engine, asking));
    assert_eq!(settled(&engine, waiting).await.status, RunStatus::Completed);
    assert_eq!(engine.prunable().await.unwrap().deleted, 3);
    beside.stop().await;
}

#[tokio::test]
async fn what_is_said_of_a_graph_holds_at_once_and_can_be_taken_back() {
    let (engine, clock) = timed().await;
    let graph = short();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let first = ended(&engine, &graph).await;
    beside.stop().await;
    let (kept, never) = (Kept::Completed, None);
    engine.set_retention(ALL_GRAPHS, kept, never).await.unwrap();
    clock.jump(400 * DAY).await;
    assert_eq!(pass(&engine).await, 0);
    let rules = engine.retention().await.unwrap();
    assert_eq!(rules.len(), Kept::ALL.len());
    assert_eq!((rules[0].time(), rules[0].is_default), (None, false));
    engine
        .set_retention("short", kept, Some(500 * DAY))
        .await
        .unwrap();
    assert!(engine.clear_retention(ALL_GRAPHS, kept).await.unwrap());
    assert_eq!(pass(&engine).await, 0);
    assert!(engine.clear_retention("short", kept).await.unwrap());
    assert!(!engine.clear_retention("short", kept).await.unwrap());
    assert_eq!(pass(&engine).await, 1);
    assert!(!is_there(&engine, first).await);
}

#[tokio::test]
async fn workers_delete_by_themselves() {
    let graph = short();
    let served = graph.clone();
    let fleet = Fleet::start(2, move |worker| worker.serve(served.clone())).await;
    let engine = fleet.engine();
    let old = engine.start(&graph, Log::default()).await.unwrap();
    fleet.settled(old).await;
    fleet.clock().jump(8 * DAY).await;
    let young = engine.start(&graph, Log::default()).await.unwrap();
    fleet.settled(young).await;
    engine
        .set_retention("short", Kept::Completed, Some(7 * DAY))
        .await
        .unwrap();
    until(async || !is_there(engine, old).await).await;
    assert!(is_there(engine, young).await);
    fleet.stop().await;
}

#[tokio::test]
async fn many_who_delete_at_once_delete_each_run_once() {
    let engine = test_kit::engine().await;
    let runs = old_runs(engine.pool(), 3_000, 40).await;
    let (seen, young) = (engine.prunable().await.unwrap(), 7);
    assert_eq!((seen.runs[0].runs, seen.is_all), (3_000, true));
    old_runs(engine.pool(), young, 20).await;
    let left = "select count(*) from velo.run where id <= $1";
    let last = *runs.last().unwrap();
    let delete = async || {
        let mut deleted = 0;
        while count(&engine, left, last).await > 0 {
            match engine.advance_retention().await.unwrap() {
                Some(swept) => deleted += swept.deleted,
                None => tokio::task::yield_now().await,
            }
        }
        deleted
    };
    let deleted = within(join_all((0..5).map(|_| delete()))).await;
    assert_eq!(deleted.iter().sum::<u64>(), 3_000, "{deleted:?}");
    let left = count(
        &engine,
        "select count(*) from velo.run where id > $1",
        RunId::from_i64(0),
    );
    assert_eq!(left.await, young);
}

#[tokio::test]
async fn a_batch_is_bounded_in_runs_and_in_steps_and_the_next_one_goes_on_from_there() {
    let engine = test_kit::engine().await;
    let runs = old_runs(engine.pool(), 600, 40).await;
    let long = "insert into velo.step (run_id, seq, fence, delta, control)
                select $1, n, 1, '', '' from generate_series(0, 15000) n";
    for run in [runs[2], runs[4]] {
        sqlx::query(long)
            .bind(run)
            .execute(engine.pool())
            .await
            .unwrap();
    }
    let look = async || {
        // Each by another process.
        let other = Engine::connect(engine.pool().clone());
        let swept = other.advance_retention().await.unwrap();
        let Swept {
            deleted,
            is_pass_over,
            ..
        } = swept.unwrap();
        (deleted, is_pass_over)
    };
    assert_eq!(look().await, (4, false));
    assert_eq!(look().await, (500, false));
    assert_eq!(look().await, (96, true));
    assert_eq!(engine.advance_retention().await.unwrap(), None);
    assert_eq!(whole_pass(&engine).await, 0);
}

/// What this says of those who wait in the middle of a deletion.
async fn on_waiting(engine: &Engine, what: &str) -> i64 {
    let sql = format!(
        "select {what} from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock' and query like '%run.delete%'"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn one_that_is_killed_in_the_middle_has_deleted_nothing_and_the_next_one_does() {
    let engine = test_kit::engine().await;
    let graph = short();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let (one, two) = (ended(&engine, &graph).await, ended(&engine, &graph).await);
    beside.stop().await;
    engine
        .set_retention("short", Kept::Completed, Some(Duration::ZERO))
        .await
        .unwrap();
    // A step that somebody holds has it stand still between two of its tables.
    let mut holder = engine.pool().begin().await.unwrap();
    sqlx::query("select from velo.step where run_id = $1 for update")
        .bind(two)
        .execute(&mut *holder)
        .await
        .unwrap();
    let deleting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.advance_retention().await }
    });
    until(async || on_waiting(&engine, "count(*)").await == 1).await;
    // What another one does meanwhile is nothing.
    assert_eq!(engine.advance_retention().await.unwrap(), None);
    let killed = on_waiting(&engine, "count(pg_terminate_backend(pid))").await;
    assert_eq!(killed, 1);
    assert!(within(deleting).await.unwrap().is_err());
    assert!(is_there(&engine, one).await && is_there(&engine, two).await);
    holder.rollback().await.unwrap();
    until(async || whole_pass(&engine).await == 2).await;
    assert!(!is_there(&engine, one).await && !is_there(&engine, two).await);
}

#[tokio::test]
async fn children_go_after_their_parents_and_a_parent_after_those_that_are_still_at_work() {
    const PART: NodeKey<Log> = NodeKey::new("part");
    let (engine, clock) = timed().await;
    let (short, asking) = (short(), asking("asking"));
    let (child, detached) = (short.clone(), asking.clone());
    let graph = Graph::builder("parent", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let (child, detached) = (child.clone(), detached.clone());
            async move {
                cx.child("short", &child, Log::default()).await?;
                cx.child("asking", &detached, Log::default())
                    .on_close(OnClose::Abandon)
                    .detached()
                    .await?;
                Ok(Next::none())
            }
        })
        .node(PART, async |cx: Context<Log>| {
            let said: String = cx.ask("end", &"may it end?").await?;
            Ok(line(said).into())
        })
        .start(FIRST)
        .edge(FIRST, PART)
        .child(&short)
        .child(&asking)
        .compile()
        .unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let parent = engine.start(&graph, Log::default()).await.unwrap();
    assert_eq!(settled(&engine, parent).await.status, RunStatus::Waiting);
    let children = engine.children(parent, 9).await.unwrap();
    let child_of = |graph: &str| children.iter().find(|it| it.graph == graph).unwrap().run;
    let (done, open) = (child_of("short@1"), child_of("asking@1"));
    settled(&engine, open).await;

    // The parent is at work.
    clock.jump(40 * DAY).await;
    assert_eq!(pass(&engine).await, 0);
    let answer = async |run| {
        let asked = engine.questions(Some(run), 9).await.unwrap();
        let asked = asked.iter().find(|it| it.id.run == run).unwrap();
        engine.answer(asked, &"yes").await.unwrap();
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    };
    answer(parent).await;
    // A child that it has left behind is.
    clock.jump(40 * DAY).await;
    assert_eq!(pass(&engine).await, 0);
    assert!(is_there(&engine, parent).await && is_there(&engine, done).await);
    answer(open).await;
    until(async || {
        count(
            &engine,
            "select count(*) from velo.ending where run_id > $1 - $1",
            open,
        )
        .await
            == 0
    })
    .await;
    beside.stop().await;
    // The child that has just ended is kept for its own time.
    assert_eq!(pass(&engine).await, 2);
    assert!(!is_there(&engine, parent).await && !is_there(&engine, done).await);
    assert!(is_there(&engine, open).await);
    clock.jump(30 * DAY).await;
    assert_eq!(pass(&engine).await, 1);
}

#[tokio::test]
async fn what_a_live_fork_was_forked_from_stays_with_its_children() {
    let (engine, clock) = timed().await;
    let (child, graph) = (short(), asking("asking"));
    let (inner, beside_graph) = (child.clone(), child.clone());
    let parent = Graph::builder("parent", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let inner = inner.clone();
            async move {
                cx.child("short", &inner, Log::default()).await?;
                Ok(Next::none())
            }
        })
        .node(ASK, async |cx: Context<Log>| {
            let said: String = cx.ask("word", &"what now?").await?;
            Ok(line(said).into())
        })
        .start(FIRST)
        .edge(FIRST, ASK)
        .child(&child)
        .compile()
        .unwrap();
    let beside = Beside::start(
        worker(&engine, parent.clone())
            .serve(graph)
            .serve(beside_graph),
    );
    let origin = engine.start(&parent, Log::default()).await.unwrap();
    assert_eq!(settled(&engine, origin).await.status, RunStatus::Waiting);
    let part = engine.children(origin, 9).await.unwrap()[0].run;
    let between = engine.fork(&parent, origin, 1).await.unwrap();
    assert_eq!(settled(&engine, between).await.status, RunStatus::Waiting);
    let live = engine.fork(&parent, between, 0).await.unwrap();
    assert_eq!(settled(&engine, live).await.status, RunStatus::Waiting);
    assert!(engine.cancel(origin).await.unwrap() && engine.cancel(between).await.unwrap());
    let told = "select count(*) from velo.ending where run_id > $1 - $1";
    until(async || count(&engine, told, origin).await == 0).await;
    clock.jump(40 * DAY).await;
    assert_eq!(pass(&engine).await, 0);
    assert_eq!(engine.prune(DAY, 0).await.unwrap(), 0);
    assert!(is_there(&engine, origin).await && is_there(&engine, part).await);
    assert!(engine.cancel(live).await.unwrap());
    until(async || count(&engine, told, origin).await == 0).await;
    beside.stop().await;
    assert!(pass(&engine).await >= 3);
    assert!(!is_there(&engine, origin).await && !is_there(&engine, part).await);
}

#[tokio::test]
async fn the_newest_run_of_a_thread_stays_until_something_else_is_said_of_threads() {
    let (engine, clock) = timed().await;
    let (short, asking) = (short(), asking("asking"));
    let beside = Beside::start(worker(&engine, short.clone()).serve(asking.clone()));
    let input = async |thread: &str, text: &str| {
        let run = engine.input(&short, thread, line(text)).await.unwrap();
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
        run
    };
    let (first, second) = (input("chat", "one").await, input("chat", "two").await);
    let alone = input("other", "one").await;
    // A thread that is in use, and may be rolled back.
    let before = input("busy", "one").await;
    let busy = engine.start(&asking, Log::default()).thread("busy");
    let busy = busy.await.unwrap();
    assert_eq!(settled(&engine, busy).await.status, RunStatus::Waiting);

    clock.jump(1_000 * DAY).await;
    assert_eq!(pass(&engine).await, 1);
    assert!(!is_there(&engine, first).await && is_there(&engine, second).await);
    let third = input("chat", "three").await;
    let heard: Log = engine.state(third).await.unwrap();
    assert_eq!(heard.lines, ["one", "done", "two", "done", "three", "done"]);

    engine
        .set_retention(ALL_GRAPHS, Kept::Thread, Some(365 * DAY))
        .await
        .unwrap();
    beside.stop().await;
    // `second` is not the newest any more.
    assert_eq!(pass(&engine).await, 2);
    assert!(!is_there(&engine, alone).await && is_there(&engine, third).await);
    assert!(is_there(&engine, before).await && is_there(&engine, busy).await);
    assert!(engine.thread("other").await.unwrap().is_none());
    // What the thread was about may begin again: nothing remembers that it was done.
    let again = engine.start(&short, Log::default()).thread("other");
    let again = again.if_closed(IfClosed::UseExisting).await.unwrap();
    assert_ne!(again, alone);
}

#[tokio::test]
async fn operations_and_rates_that_nobody_needs_any_more_are_forgotten() {
    let (engine, clock) = timed().await;
    let filter = velo_engine::RunFilter::default();
    let cancel = velo_engine::BulkAction::Cancel;
    let done = engine.bulk(&cancel, &filter).await.unwrap();
    engine.wait_bulk(done).await.unwrap();
    let open = engine.bulk(&cancel, &filter).await.unwrap();
    sqlx::query("insert into velo.bucket (gate, empty_at) values ('queue/a', clock_timestamp())")
        .execute(engine.pool())
        .await
        .unwrap();
    assert_eq!(whole_pass(&engine).await, 0);
    assert_eq!(engine.bulks(9).await.unwrap().len(), 2);
    clock.jump(31 * DAY).await;
    whole_pass(&engine).await;
    let left = engine.bulks(9).await.unwrap();
    assert_eq!(left.iter().map(|bulk| bulk.id).collect::<Vec<_>>(), [open]);
    let buckets = "select count(*) from velo.bucket where $1 = $1";
    assert_eq!(count(&engine, buckets, RunId::from_i64(0)).await, 0);
}

#[tokio::test]
async fn where_runs_ended_before_there_was_retention_nothing_is_deleted_in_the_first_week() {
    let pool = test_kit::database().await;
    for migration in pending(&pool).await.unwrap() {
        if migration.description == "retention" {
            old_runs(&pool, 3, 400).await;
        }
        if migration.version == 1 {
            sqlx::raw_sql("create schema if not exists velo")
                .execute(&pool)
                .await
                .unwrap();
        }
        sqlx::raw_sql(sqlx::AssertSqlSafe(migration.sql))
            .execute(&pool)
            .await
            .unwrap();
    }
    let engine = Engine::connect(pool);
    assert_eq!(engine.advance_retention().await.unwrap(), None);
    let seen = engine.prunable().await.unwrap();
    assert_eq!(seen.runs[0].runs, 3);
    assert!(seen.next_at > chrono::Utc::now() + Duration::from_secs(6 * 24 * 3600));
}
