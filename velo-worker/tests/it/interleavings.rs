//! Answers that are lost, requests that come late, two at once: whatever happens in between, a run
//! ends, its steps are there once, and so are the effects of its nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Deserializer, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Notify;
use velo_engine::lease::{self, Incarnation, Neighbour};
use velo_engine::prelude::*;
use velo_engine::{NodeErrorKind, RunStatus, test_kit};
use velo_worker::WorkerError;

use crate::proxy::{At, Late, Loss, Proxy};
use crate::support::{Beside, Log, line, settled, until, within, worker};

const FIRST: NodeKey<Log> = NodeKey::new("first");
const SECOND: NodeKey<Log> = NodeKey::new("second");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");
const LONG: Duration = Duration::from_secs(600);

fn quickly(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        max_attempts,
        first_delay: Duration::from_millis(20),
        factor: 1.0,
        ..RetryPolicy::default()
    }
}

fn single(node: impl Node<Log>, policy: RetryPolicy) -> Graph<Log> {
    Graph::builder("single", 1)
        .node(FIRST, node)
        .retry(FIRST, policy)
        .start(FIRST)
        .compile()
        .unwrap()
}

/// Counts the runs of a node, and holds them where the test wants.
#[derive(Debug, Clone, Default)]
struct Calls {
    made: Arc<AtomicU32>,
    came: Arc<Notify>,
    open: Arc<Notify>,
}

impl Calls {
    fn next(&self) -> u32 {
        self.made.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn made(&self) -> u32 {
        self.made.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        self.came.notify_one();
        self.open.notified().await;
    }
}

async fn with_effects() -> Engine {
    let engine = test_kit::engine().await;
    sqlx::query("create table effect (what text)")
        .execute(engine.pool())
        .await
        .unwrap();
    engine
}

/// Writes through the node's transaction.
async fn affect<I>(cx: &Context<Log, I>, what: impl Into<String>) -> Result<(), NodeError> {
    sqlx::query("insert into effect values ($1)")
        .bind(what.into())
        .execute(&mut *cx.tx().await?)
        .await?;
    Ok(())
}

async fn effects(engine: &Engine) -> Vec<String> {
    sqlx::query_scalar("select what from effect order by what")
        .fetch_all(engine.pool())
        .await
        .unwrap()
}

async fn count(engine: &Engine, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

/// The run completes, with each of its steps there and nobody at work any more.
async fn completes(engine: &Engine, run: RunId) {
    let found = settled(engine, run).await;
    assert_eq!(found.status, RunStatus::Completed, "{:?}", found.error);
    let steps = engine.steps(run, -1, 1_000).await.unwrap();
    let seqs: Vec<i32> = steps.iter().map(|step| step.seq).collect();
    assert_eq!(seqs, (0..=found.steps).collect::<Vec<_>>());
    assert_eq!(count(engine, "select count(*) from velo.queue").await, 0);
}

async fn register(engine: &Engine) -> Incarnation {
    Incarnation::register(engine.pool(), "test", "nowhere", 1, LONG)
        .await
        .unwrap()
}

/// Waits until as many sessions of this database wait for a lock.
async fn until_waiting(engine: &Engine, sessions: i64) {
    until(async || {
        let waiting = count(
            engine,
            "select count(*) from pg_stat_activity \
             where datname = current_database() and wait_event_type = 'Lock'",
        );
        waiting.await == sessions
    })
    .await;
}

#[tokio::test]
async fn an_error_that_a_node_swallowed_in_its_transaction_costs_an_attempt_and_no_more() {
    let engine = with_effects().await;
    let graph = single(
        async |cx: Context<Log>| {
            affect(&cx, "once").await?;
            if cx.attempt() == 1 {
                let refused = sqlx::query("select 1 / 0")
                    .execute(&mut *cx.tx().await?)
                    .await;
                assert!(refused.is_err());
            }
            Ok(line(format!("attempt {}", cx.attempt())).into())
        },
        quickly(2),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["attempt 2"]);
    assert_eq!(effects(&engine).await, ["once"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_commit_that_a_deferred_constraint_refuses_costs_an_attempt_and_no_more() {
    let engine = test_kit::engine().await;
    sqlx::query("create table effect (what text unique deferrable initially deferred)")
        .execute(engine.pool())
        .await
        .unwrap();
    let graph = Graph::builder("deferred", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..2))
        })
        .node(EACH, async |cx: Context<Log, u32>| {
            affect(&cx, cx.input().to_string()).await?;
            if cx.attempt() == 1 {
                affect(&cx, cx.input().to_string()).await?;
            }
            Ok(line(cx.input().to_string()).into())
        })
        .default_retry(quickly(2))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    completes(&engine, run).await;
    assert_eq!(effects(&engine).await, ["0", "1"]);
    beside.stop().await;
}

/// A payload that cannot be read without a panic.
#[derive(Debug, Serialize)]
struct Grenade;

impl<'de> Deserialize<'de> for Grenade {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("nobody may read this");
    }
}

#[tokio::test]
async fn a_payload_whose_reading_panics_pauses_the_run_and_the_worker_goes_on() {
    const BOOM: NodeKey<Log, Grenade> = NodeKey::new("boom");
    let engine = test_kit::engine().await;
    let graph = Graph::builder("boom", 1)
        .node(FIRST, async |_: Context<Log>| Ok(Next::send(BOOM, Grenade)))
        .node(BOOM, async |_: Context<Log, Grenade>| Ok(Next::none()))
        .start(FIRST)
        .may_go(FIRST, BOOM)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    let paused = settled(&engine, run).await;
    assert_eq!(
        (paused.status, paused.is_leased),
        (RunStatus::Paused, false)
    );
    let error = paused.error.unwrap();
    assert_eq!(error["kind"], "panic");
    assert!(
        error["message"]
            .to_string()
            .contains("nobody may read this")
    );
    beside.stop().await;
}

#[tokio::test]
async fn an_error_that_no_database_can_store_or_wait_for_stops_no_run() {
    let engine = test_kit::engine().await;
    let graph = single(
        async |cx: Context<Log>| match cx.attempt() {
            1 => Err(NodeError {
                kind: NodeErrorKind::Transient,
                message: "a \0 in the message".to_owned(),
                causes: vec!["and \0 in a cause".to_owned()],
                class: Some("a \0 in its class".to_owned()),
                error_type: None,
            }),
            _ => Err(NodeError::transient("not before the end of time")).retry_after(Duration::MAX),
        },
        quickly(3),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until(async || {
        let asleep =
            "select count(*) from velo.queue where wake_at > clock_timestamp() + interval '1 year'";
        count(&engine, asleep).await == 1
    })
    .await;
    assert!(engine.cancel(run).await.unwrap());
    beside.stop().await;
}

#[tokio::test]
async fn runs_whose_claim_was_never_answered_are_found_again() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = single(async |_: Context<Log>| Ok(Next::none()), quickly(1));
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let lost = proxy.lose(At::Statement("queue.claim"), Loss::Answer);
    let beside = Beside::start(worker(&proxy.engine, graph).concurrency(2));
    within(lost.notified()).await;
    for run in runs {
        let found = settled(&engine, run).await;
        assert_eq!(found.status, RunStatus::Completed);
    }
    beside.stop().await;
}

#[tokio::test]
async fn a_worker_outlives_a_database_that_is_away_for_longer_than_its_lease() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let calls = Calls::default();
    let held = calls.clone();
    let graph = single(
        move |cx: Context<Log>| {
            let (call, held) = (held.next(), held.clone());
            async move {
                if call == 1 {
                    held.pass().await;
                }
                Ok(line(format!("fence {}", cx.fence())).into())
            }
        },
        quickly(1),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&proxy.engine, graph));
    within(calls.came.notified()).await;
    proxy.close();
    until(async || {
        let expired = "select count(*) from velo.worker where expires_at < clock_timestamp() - interval '1 second'";
        count(&engine, expired).await == 1
    })
    .await;
    proxy.open();
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["fence 2"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_worker_whose_pool_was_closed_ends_with_an_error() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Log>| Ok(Next::none()), quickly(1));
    let own = Engine::connect(
        PgPoolOptions::new()
            .connect_with((*engine.pool().connect_options()).clone())
            .await
            .unwrap(),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let work = tokio::spawn(worker(&own, graph).run(std::future::pending()));
    completes(&engine, run).await;
    own.pool().close().await;
    let ended = within(work).await.unwrap();
    assert!(matches!(ended, Err(WorkerError::Register(_))), "{ended:?}");
}

/// Two branches: the first one's outcome is the trap's, the second waits for the test.
fn two_branches(first: &Calls, second: &Calls, fails_later: bool) -> Graph<Log> {
    let (first, second) = (first.clone(), second.clone());
    Graph::builder("two", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..2))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let (first, second) = (first.clone(), second.clone());
            async move {
                affect(&cx, cx.input().to_string()).await?;
                if *cx.input() == 1 {
                    second.pass().await;
                } else if first.next() > 1 {
                    first.pass().await;
                    if fails_later {
                        return Err(NodeError::transient("too late"));
                    }
                }
                Ok(line(cx.input().to_string()).into())
            }
        })
        .default_retry(quickly(3))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap()
}

async fn a_branch_that_comes_late(fails_later: bool) {
    let engine = with_effects().await;
    let proxy = Proxy::before(&engine).await;
    let (first, second) = (Calls::default(), Calls::default());
    let graph = two_branches(&first, &second, fails_later);
    let late = Late::default();
    proxy.lose(At::CommitAfter("outcome.add"), Loss::Late(late.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&proxy.engine, graph));
    // The first branch runs again, since its commit is not there.
    within(first.came.notified()).await;
    within(late.arrive()).await;
    within(second.came.notified()).await;
    second.open.notify_one();
    until(async || count(&engine, "select count(*) from velo.outcome").await == 2).await;
    first.open.notify_one();
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["0", "1"]);
    assert_eq!(effects(&engine).await, ["0", "1"]);
    beside.stop().await;
}

/// put_writes/idempotent: with its effects.
#[tokio::test]
async fn a_branch_whose_commit_comes_late_has_its_effects_once() {
    a_branch_that_comes_late(false).await;
}

#[tokio::test]
async fn a_step_whose_outcomes_are_all_there_is_committed_though_its_last_attempt_failed() {
    a_branch_that_comes_late(true).await;
}

#[tokio::test]
async fn a_branch_that_lost_its_connection_reads_back_what_it_kept() {
    let engine = with_effects().await;
    let proxy = Proxy::before(&engine).await;
    let paid = Calls::default();
    let counted = paid.clone();
    let graph = Graph::builder("paying", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..2))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let counted = counted.clone();
            async move {
                let call: u32 = cx
                    .step("pay", |_| async { Ok::<_, NodeError>(counted.next()) })
                    .await?;
                affect(&cx, call.to_string()).await?;
                Ok(line(call.to_string()).into())
            }
        })
        .default_retry(quickly(1))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    proxy.lose(At::CommitAfter("outcome.add"), Loss::Request);
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&proxy.engine, graph));
    completes(&engine, run).await;
    assert_eq!(paid.made(), 2);
    assert_eq!(effects(&engine).await, ["1", "2"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_step_that_an_earlier_attempt_committed_late_is_read_back() {
    let engine = with_effects().await;
    let proxy = Proxy::before(&engine).await;
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = Graph::builder("late", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let counted = counted.clone();
            async move {
                let call = counted.next();
                if call == 1 {
                    affect(&cx, "effect").await?;
                } else {
                    counted.pass().await;
                }
                Ok(line(format!("call {call}")).into())
            }
        })
        .node(SECOND, async |cx: Context<Log>| {
            Ok(line(format!("after {}", cx.state().lines[0])).into())
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let late = Late::default();
    proxy.lose(At::CommitAfter("step.commit"), Loss::Late(late.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&proxy.engine, graph));
    within(calls.came.notified()).await;
    within(late.arrive()).await;
    calls.open.notify_one();
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["call 1", "after call 1"]);
    assert_eq!(effects(&engine).await, ["effect"]);
    beside.stop().await;
}

/// beyond/ordering: of two leases.
#[tokio::test]
async fn a_step_that_was_committed_late_by_the_lease_before_is_read_back() {
    let engine = with_effects().await;
    let proxy = Proxy::before(&engine).await;
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = Graph::builder("late", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let counted = counted.clone();
            async move {
                let call = counted.next();
                affect(&cx, "effect").await?;
                match call {
                    1 => (),
                    2 => return Err(NodeError::transient("gives the lease back")),
                    _ => counted.pass().await,
                }
                Ok(line(format!("call {call}")).into())
            }
        })
        .node(SECOND, async |cx: Context<Log>| {
            Ok(line(format!("fence {}", cx.fence())).into())
        })
        .default_retry(quickly(3))
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let late = Late::default();
    proxy.lose(At::CommitAfter("step.commit"), Loss::Late(late.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&proxy.engine, graph));
    within(calls.came.notified()).await;
    within(late.arrive()).await;
    calls.open.notify_one();
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["call 1", "fence 2"]);
    assert_eq!(effects(&engine).await, ["effect"]);
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_was_given_back_is_not_gone_on_with_when_the_answer_is_lost() {
    let engine = with_effects().await;
    let proxy = Proxy::before(&engine).await;
    let (first, second) = (Calls::default(), Calls::default());
    let (held, counted) = (first.clone(), second.clone());
    let graph = Graph::builder("yield", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let held = held.clone();
            async move {
                affect(&cx, "effect").await?;
                held.pass().await;
                Ok(Next::none())
            }
        })
        .node(SECOND, move |cx: Context<Log>| {
            counted.next();
            async move { Ok(line(format!("fence {}", cx.fence())).into()) }
        })
        .start(FIRST)
        .edge(FIRST, SECOND)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let stopping = Beside::start(worker(&proxy.engine, graph.clone()));
    within(first.came.notified()).await;
    stopping.ask_to_stop();
    let lost = proxy.lose(At::CommitAfter("step.commit"), Loss::Answer);
    first.open.notify_one();
    within(lost.notified()).await;
    stopping.stop().await;
    assert_eq!(second.made(), 0);
    let next = Beside::start(worker(&engine, graph));
    completes(&engine, run).await;
    assert_eq!(second.made(), 1);
    assert_eq!(effects(&engine).await, ["effect"]);
    next.stop().await;
}

#[tokio::test]
async fn a_node_whose_connection_always_breaks_fails_in_the_end() {
    let engine = with_effects().await;
    let calls = Calls::default();
    let (counted, pool) = (calls.clone(), engine.pool().clone());
    let graph = single(
        move |cx: Context<Log>| {
            counted.next();
            let pool = pool.clone();
            async move {
                let own: i32 = sqlx::query_scalar("select pg_backend_pid()")
                    .fetch_one(&mut *cx.tx().await?)
                    .await?;
                terminate(&pool, own).await;
                Ok(Next::none())
            }
        },
        quickly(1),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    assert!(calls.made() <= 10, "{} calls", calls.made());
    beside.stop().await;
}

async fn terminate(pool: &PgPool, backend: i32) {
    sqlx::query("select pg_terminate_backend($1, 10000)")
        .bind(backend)
        .execute(pool)
        .await
        .unwrap();
}

/// An engine with a pool that is too small.
async fn cramped(engine: &Engine, connections: u32, patience: Duration) -> Engine {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(patience)
        .connect_with((*engine.pool().connect_options()).clone())
        .await
        .unwrap();
    Engine::connect(pool)
}

#[tokio::test]
async fn a_failed_attempt_gives_its_connection_back_before_its_failure_is_written() {
    let engine = with_effects().await;
    let graph = single(
        async |cx: Context<Log>| {
            affect(&cx, format!("attempt {}", cx.attempt())).await?;
            if cx.attempt() == 1 {
                return Err(NodeError::transient("with its transaction open"));
            }
            Ok(Next::none())
        },
        quickly(2),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(
        &cramped(&engine, 1, Duration::from_millis(500)).await,
        graph,
    ));
    completes(&engine, run).await;
    assert_eq!(effects(&engine).await, ["attempt 2"]);
    beside.stop().await;
}

#[tokio::test]
async fn branches_that_hold_transactions_never_keep_the_last_connection_from_the_engine() {
    const RUNS: usize = 12;
    let engine = with_effects().await;
    let graph = Graph::builder("wide", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..8))
        })
        .node(EACH, async |cx: Context<Log, u32>| {
            affect(&cx, "effect").await?;
            if cx.input().is_multiple_of(2) && cx.attempt() == 1 {
                return Err(NodeError::transient("once"));
            }
            Ok(Next::none())
        })
        .default_retry(quickly(2))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let beside = Beside::start(worker(&cramped(&engine, 3, LONG).await, graph));
    for run in runs {
        assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    }
    assert_eq!(effects(&engine).await.len(), RUNS * 8);
    beside.stop().await;
}

#[tokio::test]
async fn a_node_that_keeps_a_result_while_it_holds_the_last_connection_fails_and_says_why() {
    let engine = with_effects().await;
    let graph = single(
        async |cx: Context<Log>| {
            affect(&cx, "effect").await?;
            let kept: u32 = cx
                .step("later", |_| async { Ok::<_, NodeError>(1) })
                .await?;
            Ok(line(kept.to_string()).into())
        },
        quickly(1),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(
        &cramped(&engine, 1, Duration::from_millis(500)).await,
        graph,
    ));
    let paused = settled(&engine, run).await;
    assert_eq!(paused.status, RunStatus::Paused);
    let error = paused.error.unwrap();
    assert!(error["message"].to_string().contains("`later`"), "{error}");
    assert_eq!(effects(&engine).await, Vec::<String>::new());
    beside.stop().await;
}

#[tokio::test]
async fn a_context_that_outlives_its_attempt_keeps_no_lock_and_opens_no_transaction() {
    let engine = with_effects().await;
    sqlx::query("insert into effect values ('row')")
        .execute(engine.pool())
        .await
        .unwrap();
    let leaked = Arc::new(std::sync::Mutex::new(None));
    let slot = leaked.clone();
    let graph = single(
        move |cx: Context<Log>| {
            let slot = slot.clone();
            async move {
                sqlx::query("update effect set what = what || '+'")
                    .execute(&mut *cx.tx().await?)
                    .await?;
                if cx.attempt() == 1 {
                    slot.lock().unwrap().replace(cx);
                    return Err(NodeError::transient("leaks its context"));
                }
                Ok(Next::none())
            }
        },
        quickly(2),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    completes(&engine, run).await;
    assert_eq!(effects(&engine).await, ["row+"]);
    let late = leaked.lock().unwrap().take().unwrap();
    assert!(late.tx().await.unwrap_err().is_permanent());
    beside.stop().await;
}

#[tokio::test]
async fn a_result_that_was_kept_late_wins_over_one_that_was_made_since() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let held = calls.clone();
    let graph = single(
        move |cx: Context<Log>| {
            let held = held.clone();
            async move {
                if cx.attempt() == 1 {
                    held.pass().await;
                    return Err(NodeError::transient(
                        "did not wait for its result to be kept",
                    ));
                }
                let drawn: u32 = cx
                    .step("draw", |_| async {
                        held.pass().await;
                        Ok::<_, NodeError>(2)
                    })
                    .await?;
                Ok(line(format!("drawn by attempt {drawn}")).into())
            }
        },
        quickly(2),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    within(calls.came.notified()).await;
    // What the server is still doing for the first attempt.
    let mut late = engine.pool().begin().await.unwrap();
    let kept: bool = sqlx::query_scalar(
        "select velo.memoise(worker, run_id, fence, 1, 0, 'draw', '1') from velo.queue",
    )
    .fetch_one(&mut *late)
    .await
    .unwrap();
    assert!(kept);
    calls.open.notify_one();
    within(calls.came.notified()).await;
    late.commit().await.unwrap();
    calls.open.notify_one();
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["drawn by attempt 1"]);
    beside.stop().await;
}

#[tokio::test]
async fn deaths_of_workers_between_which_the_run_was_given_back_are_not_in_a_row() {
    let engine = test_kit::engine().await;
    let calls = Calls::default();
    let held = calls.clone();
    let graph = single(
        move |cx: Context<Log>| {
            let held = held.clone();
            async move {
                if cx.attempt() == 1 {
                    return Err(NodeError::transient("gives the lease back"));
                }
                held.pass().await;
                Ok(Next::none())
            }
        },
        quickly(2),
    );
    let run = engine.start(&graph, Log::default()).await.unwrap();
    for _ in 0..4 {
        let doomed = register(&engine).await;
        let codes = ["single@1".to_owned()];
        doomed.claim(engine.pool(), &codes, 1, None).await.unwrap();
        let dead = Neighbour {
            id: doomed.id(),
            pid: 1,
        };
        lease::bury(engine.pool(), dead).await.unwrap();
    }
    let beside = Beside::start(worker(&engine, graph));
    within(calls.came.notified()).await;
    beside.die().await;
    sqlx::query("update velo.worker set expires_at = clock_timestamp() - interval '1 second'")
        .execute(engine.pool())
        .await
        .unwrap();
    assert_eq!(lease::take_over(engine.pool()).await.unwrap(), 1);
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Active);
}

#[tokio::test]
async fn one_dead_worker_whose_lock_is_taken_does_not_hold_up_the_runs_of_others() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Log>| Ok(Next::none()), quickly(1));
    let codes = ["single@1".to_owned()];
    let mut workers = Vec::new();
    for _ in 0..2 {
        engine.start(&graph, Log::default()).await.unwrap();
        let worker = register(&engine).await;
        worker.claim(engine.pool(), &codes, 1, None).await.unwrap();
        workers.push(worker.id());
    }
    sqlx::query("update velo.worker set expires_at = clock_timestamp() - interval '1 second'")
        .execute(engine.pool())
        .await
        .unwrap();
    let mut frozen = engine.pool().begin().await.unwrap();
    sqlx::query("select velo.hold($1, 0, 0)")
        .bind(workers[0])
        .execute(&mut *frozen)
        .await
        .unwrap();
    assert_eq!(lease::take_over(engine.pool()).await.unwrap(), 1);
    frozen.rollback().await.unwrap();
    assert_eq!(lease::take_over(engine.pool()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_start_whose_answers_are_lost_starts_one_run() {
    let engine = test_kit::engine().await;
    let proxy = Proxy::before(&engine).await;
    let graph = single(async |_: Context<Log>| Ok(Next::none()), quickly(1));
    for thread in [None, Some("acme/1")] {
        proxy.lose(At::Statement("run.start"), Loss::Answer);
        proxy.lose(At::Statement("run.nonce"), Loss::Request);
        let mut start = proxy.engine.start(&graph, Log::default());
        if let Some(thread) = thread {
            start = start.thread(thread);
        }
        let run = within(start.into_future()).await.unwrap();
        assert_eq!(engine.unfinished(None, 10).await.unwrap()[0].id, run);
        assert_eq!(engine.unfinished(None, 10).await.unwrap().len(), 1);
        assert!(engine.cancel(run).await.unwrap());
    }
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_claim_reaches_the_claimer() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Log>| Ok(Next::none()), quickly(1));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let claimer = register(&engine).await;
    let mut claiming = engine.pool().begin().await.unwrap();
    sqlx::query("select velo.claim($1, '{single@1}', 1, null)")
        .bind(claimer.id())
        .execute(&mut *claiming)
        .await
        .unwrap();
    let cancelling = tokio::spawn({
        let engine = engine.clone();
        async move { engine.cancel(run).await.unwrap() }
    });
    until_waiting(&engine, 1).await;
    claiming.commit().await.unwrap();
    assert!(within(cancelling).await.unwrap());
    let mut conn = engine.pool().acquire().await.unwrap();
    assert_eq!(
        claimer
            .calls(&mut conn)
            .await
            .unwrap()
            .iter()
            .map(|call| call.run)
            .collect::<Vec<_>>(),
        [run]
    );
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_run_to_be_given_back_ends_it() {
    let engine = test_kit::engine().await;
    let graph = single(async |_: Context<Log>| Ok(Next::none()), quickly(1));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let claimer = register(&engine).await;
    let codes = ["single@1".to_owned()];
    claimer.claim(engine.pool(), &codes, 1, None).await.unwrap();
    let mut retiring = engine.pool().begin().await.unwrap();
    sqlx::query("select velo.give_up($1, false, true)")
        .bind(claimer.id())
        .execute(&mut *retiring)
        .await
        .unwrap();
    let cancelling = tokio::spawn({
        let engine = engine.clone();
        async move { engine.cancel(run).await.unwrap() }
    });
    until_waiting(&engine, 1).await;
    retiring.commit().await.unwrap();
    assert!(within(cancelling).await.unwrap());
    assert_eq!(engine.run(run).await.unwrap().status, RunStatus::Cancelled);
}

/// A bit of everything: a kept result, a fan-out with transactions one branch of which fails once, an
/// event, a transaction of its own and a plain step.
fn a_bit_of_everything(paid: &Calls) -> Graph<Log> {
    const LAST: NodeKey<Log> = NodeKey::new("last");
    let (paid_first, paid_each) = (paid.clone(), paid.clone());
    Graph::builder("everything", 1)
        .node(FIRST, move |cx: Context<Log>| {
            let paid = paid_first.clone();
            async move {
                let kept = cx.step("pay", |_| async { Ok::<_, NodeError>(paid.next()) });
                kept.await?;
                Ok(line("first").send_all(0..3))
            }
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let paid = paid_each.clone();
            async move {
                let kept = cx.step("pay", |_| async { Ok::<_, NodeError>(paid.next()) });
                kept.await?;
                affect(&cx, format!("each {}", cx.input())).await?;
                if *cx.input() == 1 && cx.attempt() == 1 {
                    return Err(NodeError::transient("once"));
                }
                Ok(line(format!("each {}", cx.input())).into())
            }
        })
        .node(SECOND, async |cx: Context<Log>| {
            affect(&cx, "second").await?;
            cx.emit("second", &1)?;
            Ok(line("second").into())
        })
        .node(LAST, async |_: Context<Log>| Ok(line("last").into()))
        .default_retry(quickly(5))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .edge(EACH, SECOND)
        .edge(SECOND, LAST)
        .compile()
        .unwrap()
}

trait SendAll {
    fn send_all(self, inputs: std::ops::Range<u32>) -> Next<Log>;
}

impl<U: Into<Next<Log>>> SendAll for U
where
    U: Update<State = Log>,
{
    fn send_all(self, inputs: std::ops::Range<u32>) -> Next<Log> {
        inputs.fold(self.end(), |next, input| next.and_send(EACH, input))
    }
}

#[tokio::test]
async fn whatever_message_is_lost_the_run_completes_and_nothing_happens_twice() {
    const PLACES: &[At] = &[
        At::Statement("queue.claim"),
        At::Statement("run.load"),
        At::Statement("memo.keep"),
        At::Statement("step.commit"),
        At::CommitAfter("step.commit"),
        At::Statement("outcome.add"),
        At::CommitAfter("outcome.add"),
        At::Statement("insert into effect"),
        At::Statement("events.append"),
        At::Statement("lease.hold"),
        At::CommitAfter("failure.record"),
        At::CommitAfter("queue.sleep"),
        At::Statement("queue.wake"),
        At::Statement("begin"),
    ];
    const AT_ONCE: usize = 6;
    let cases = PLACES
        .iter()
        .flat_map(|at| [(*at, Loss::Answer), (*at, Loss::Request)]);
    futures::stream::iter(cases)
        .for_each_concurrent(AT_ONCE, |(at, loss)| async move {
            let case = format!("{at:?} {loss:?}");
            let engine = with_effects().await;
            let proxy = Proxy::before(&engine).await;
            let paid = Calls::default();
            let graph = a_bit_of_everything(&paid);
            let sprung = proxy.lose(at, loss);
            let run = engine.start(&graph, Log::default()).await.unwrap();
            let beside = Beside::start(worker(&proxy.engine, graph));
            within(sprung.notified()).await;
            completes(&engine, run).await;
            let state: Log = engine.state(run).await.unwrap();
            let lines = ["first", "each 0", "each 1", "each 2", "second", "last"];
            assert_eq!(state.lines, lines, "{case}");
            let affected = ["each 0", "each 1", "each 2", "second"];
            assert_eq!(effects(&engine).await, affected, "{case}");
            assert_eq!(engine.events(run, 0, 10).await.unwrap().len(), 1, "{case}");
            assert_eq!(paid.made(), 4, "{case}");
            beside.stop().await;
        })
        .await;
}

/// beyond/crash_between: outcomes and step.
#[tokio::test]
async fn branches_that_had_finished_are_not_run_again_by_the_worker_that_takes_over() {
    let engine = with_effects().await;
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = Graph::builder("wide", 1)
        .node(FIRST, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..3))
        })
        .node(EACH, move |cx: Context<Log, u32>| {
            let counted = counted.clone();
            async move {
                counted.next();
                affect(&cx, cx.input().to_string()).await?;
                match (*cx.input(), cx.fence()) {
                    // Outlives the first worker only as a row.
                    (1, _) if cx.attempt() == 1 => return Err(NodeError::transient("once")),
                    (2, 1) => counted.pass().await,
                    _ => (),
                }
                Ok(line(format!("{} attempt {}", cx.input(), cx.attempt())).into())
            }
        })
        .default_retry(quickly(2))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let doomed = Beside::start(worker(&engine, graph.clone()));
    within(calls.came.notified()).await;
    let written =
        "select (select count(*) from velo.outcome) + (select count(*) from velo.failure)";
    until(async || count(&engine, written).await == 2).await;
    doomed.die().await;
    let heir = Beside::start(worker(&engine, graph));
    completes(&engine, run).await;
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(state.lines, ["0 attempt 1", "1 attempt 2", "2 attempt 1"]);
    assert_eq!(effects(&engine).await, ["0", "1", "2"]);
    assert_eq!(calls.made(), 5);
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_lost_at_random_and_workers_that_die_lose_and_repeat_nothing() {
    const RUNS: usize = 24;
    let engine = test_kit::engine().await;
    sqlx::query("create table effect (run bigint, turn int)")
        .execute(engine.pool())
        .await
        .unwrap();
    let graph = Graph::builder("random", 1)
        .node(FIRST, async |cx: Context<Log>| {
            // Not the same in each attempt, to find out when one is taken for another.
            let drawn = RunId::random();
            let kept: RunId = cx
                .step("draw", |_| async { Ok::<_, NodeError>(drawn) })
                .await?;
            let turn = cx.state().turns + 1;
            let next = Log::update().lines(vec![kept.to_string()]).turns(turn);
            Ok(if turn < 4 {
                next.end()
                    .and_goto(SECOND)
                    .and_send(EACH, 0)
                    .and_send(EACH, 1)
            } else {
                next.end()
            })
        })
        .node(EACH, async |cx: Context<Log, u32>| {
            let turn = cx.state().turns * 10 + cx.input();
            let insert = sqlx::query("insert into effect values ($1, $2)")
                .bind(cx.run())
                .bind(turn.cast_signed());
            insert.execute(&mut *cx.tx().await?).await?;
            if RunId::random().as_i64() % 5 == 0 {
                return Err(NodeError::transient("by chance"));
            }
            Ok(Next::end())
        })
        .node(SECOND, async |cx: Context<Log>| {
            let insert = sqlx::query("insert into effect values ($1, $2)")
                .bind(cx.run())
                .bind((cx.state().turns * 10 + 2).cast_signed());
            insert.execute(&mut *cx.tx().await?).await?;
            Ok(Next::goto(FIRST))
        })
        .default_retry(quickly(1_000))
        .start(FIRST)
        .may_go(FIRST, EACH)
        .may_go(FIRST, SECOND)
        .may_go(SECOND, FIRST)
        .compile()
        .unwrap();
    let endless = single(
        async |cx: Context<Log>| {
            cx.cancelled().await;
            Err(NodeError::transient("cancelled"))
        },
        quickly(1_000),
    );
    let proxy = Proxy::before(&engine).await;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let steady = worker(&proxy.engine, graph.clone()).serve(endless.clone());
    let steady = Beside::start(steady);
    until(async || count(&engine, "select count(*) from velo.worker").await == 1).await;
    proxy.lose_one_in(40);
    // These never end by themselves.
    let mut given_up = Vec::new();
    for _ in 0..4 {
        given_up.push(engine.start(&endless, Log::default()).await.unwrap());
    }
    let ended = given_up.clone();
    for death in 1..=4 {
        let doomed = Beside::start(worker(&proxy.engine, graph.clone()).concurrency(8));
        // Of 192 in all.
        let steps = 24 + 30 * death;
        until(async || count(&engine, "select count(*) from velo.step").await >= steps).await;
        doomed.die().await;
        // In the middle of whatever they are doing.
        let cancelled = engine.cancel(given_up.remove(0)).await.unwrap();
        assert!(cancelled);
    }
    proxy.lose_one_in(0);
    for run in ended {
        let found = settled(&engine, run).await;
        assert_eq!(found.status, RunStatus::Cancelled);
    }
    for run in runs {
        let found = settled(&engine, run).await;
        assert_eq!(found.status, RunStatus::Completed, "{:?}", found.error);
        assert_eq!(engine.state::<Log>(run).await.unwrap().turns, 4);
    }
    let doubled: Vec<(i64, i32)> =
        sqlx::query_as("select run, turn from effect group by run, turn having count(*) > 1")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    assert_eq!(doubled, []);
    let expected = i64::try_from(RUNS).unwrap() * 9;
    assert_eq!(
        count(&engine, "select count(*) from effect").await,
        expected
    );
    assert_eq!(count(&engine, "select count(*) from velo.queue").await, 0);
    steady.stop().await;
}
