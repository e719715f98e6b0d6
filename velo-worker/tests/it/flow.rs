//! Queues, limits, rates, priorities and pauses, for the whole fleet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::sync::Semaphore;
use velo_engine::lease::Incarnation;
use velo_engine::prelude::*;
use velo_engine::{Allowance, Gate, HeldBack, IfBusy, Rate, RunStatus, Why, test_kit};
use velo_worker::WorkerBuilder;

use crate::support::{self, Beside, Log, line, settled, until, within};

const WORK: NodeKey<Log> = NodeKey::new("work");
const EACH: NodeKey<Log, u32> = NodeKey::new("each");

/// Counts how many are inside at once, and lets them out when it is told to.
#[derive(Debug, Clone)]
struct Meter {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    way_out: Arc<Semaphore>,
}

impl Meter {
    fn new() -> Self {
        Self {
            inside: Arc::default(),
            most: Arc::default(),
            way_out: Arc::new(Semaphore::new(0)),
        }
    }

    async fn pass(&self) {
        struct Inside(Arc<AtomicUsize>);
        impl Drop for Inside {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let now = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        let _inside = Inside(Arc::clone(&self.inside));
        self.most.fetch_max(now, Ordering::SeqCst);
        self.way_out.acquire().await.unwrap().forget();
    }

    fn let_out(&self, many: usize) {
        self.way_out.add_permits(many);
    }

    fn inside(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

fn metered(meter: &Meter) -> Graph<Log> {
    let meter = meter.clone();
    let work = move |_: Context<Log>| {
        let meter = meter.clone();
        async move {
            meter.pass().await;
            Ok(line("done").into())
        }
    };
    single(work)
}

/// As [`metered`], behind the limit `bank`.
fn limited(meter: &Meter) -> Graph<Log> {
    let meter = meter.clone();
    let work = move |cx: Context<Log>| {
        let meter = meter.clone();
        async move {
            cx.limit("bank").await?;
            meter.pass().await;
            Ok(line("done").into())
        }
    };
    single(work)
}

fn single(work: impl Node<Log>) -> Graph<Log> {
    Graph::builder("flow", 1)
        .node(WORK, work)
        .start(WORK)
        .compile()
        .unwrap()
}

fn quick() -> Graph<Log> {
    single(async |_: Context<Log>| Ok(line("done").into()))
}

/// One whose leases also a machine that is busy elsewhere keeps.
fn worker(engine: &Engine, graph: Graph<Log>) -> WorkerBuilder {
    support::worker(engine, graph).lease(Duration::from_secs(10))
}

/// One that is found dead soon.
fn mortal(engine: &Engine, graph: Graph<Log>) -> WorkerBuilder {
    support::worker(engine, graph).lease(Duration::from_secs(3))
}

async fn start_in(engine: &Engine, graph: &Graph<Log>, queue: &str, many: usize) -> Vec<RunId> {
    let mut runs = Vec::new();
    for _ in 0..many {
        let run = engine.start(graph, Log::default()).queue(queue);
        runs.push(run.await.unwrap());
    }
    runs
}

async fn completed(engine: &Engine, runs: &[RunId]) {
    for run in runs {
        let settled = settled(engine, *run).await;
        assert_eq!(settled.status, RunStatus::Completed, "{settled:?}");
    }
}

async fn count(engine: &Engine, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

async fn run_sql(engine: &Engine, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(engine.pool())
        .await
        .unwrap();
}

async fn incarnation(engine: &Engine) -> Incarnation {
    let ttl = Duration::from_secs(600);
    Incarnation::register(engine.pool(), "test", "test", 1, ttl)
        .await
        .unwrap()
}

#[tokio::test]
async fn no_more_runs_of_a_queue_are_at_work_than_it_allows_also_when_a_worker_dies() {
    let engine = test_kit::engine().await;
    let meter = Meter::new();
    let graph = metered(&meter);
    let gate = Gate::queue("tenant/*");
    engine.set_gate(&gate, Allowance::at_most(2)).await.unwrap();
    let runs = start_in(&engine, &graph, "tenant/acme", 12).await;
    let doomed = Beside::start(mortal(&engine, graph.clone()).concurrency(8));
    until(async || meter.inside() == 2).await;
    let others = [
        Beside::start(worker(&engine, graph.clone())),
        Beside::start(worker(&engine, graph.clone())),
    ];
    let why = engine.why(runs[11]).await.unwrap();
    assert!(
        matches!(&why, Why::HeldBack { queue, by: HeldBack::Full { max: 2, inside: 2 }, .. } if queue == "tenant/acme"),
        "{why:?}"
    );
    doomed.die().await;
    // What the dead one had still counts, until others have taken over.
    until(async || meter.inside() == 2).await;
    meter.let_out(100);
    completed(&engine, &runs).await;
    assert_eq!(meter.most(), 2);
    let rest = "select count(*) from velo.queue";
    assert_eq!(count(&engine, rest).await, 0);
    for other in others {
        other.stop().await;
    }
}

#[tokio::test]
async fn a_limit_that_is_raised_lets_in_more_and_one_that_is_lowered_ends_nothing() {
    let engine = test_kit::engine().await;
    let meter = Meter::new();
    let graph = metered(&meter);
    let gate = Gate::queue("one");
    engine.set_gate(&gate, Allowance::at_most(3)).await.unwrap();
    let runs = start_in(&engine, &graph, "one", 6).await;
    let beside = Beside::start(worker(&engine, graph));
    until(async || meter.inside() == 3).await;
    engine.set_gate(&gate, Allowance::at_most(1)).await.unwrap();
    meter.let_out(2);
    until(async || meter.inside() == 1).await;
    let listed = engine.gates("", 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].waiting), (1, 3), "{listed:?}");
    engine.set_gate(&gate, Allowance::at_most(3)).await.unwrap();
    until(async || meter.inside() == 3).await;
    assert!(engine.remove_gate(&gate).await.unwrap());
    until(async || meter.inside() == 4).await;
    meter.let_out(100);
    completed(&engine, &runs).await;
    beside.stop().await;
}

/// Rows of the queue that a claim reads.
async fn read_by_claim(engine: &Engine, worker: Incarnation, codes: &[&str]) -> (i64, i64) {
    let mut transaction = engine.pool().begin().await.unwrap();
    let claimed: i64 =
        sqlx::query_scalar("select count(*) from velo.lease($1, $2, 16, null, null)")
            .bind(worker.id())
            .bind(codes)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
    let read: i64 = sqlx::query_scalar(
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'velo.queue'::regclass",
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    (claimed, read)
}

#[tokio::test]
async fn a_claim_reads_no_more_of_a_hundred_thousand_held_runs_in_front_than_of_none() {
    let engine = test_kit::engine().await;
    let worker = incarnation(&engine).await;
    engine
        .set_gate(&Gate::queue("big"), Allowance::at_most(1))
        .await
        .unwrap();
    engine.pause_gate(&Gate::queue("shut"), None).await.unwrap();
    run_sql(
        &engine,
        "insert into velo.queue (run_id, code, ready_at, lane)
         select g, 'flow@1', clock_timestamp(), case when g % 2 = 0 then 'big' else 'shut' end
         from generate_series(1, 100000) g",
    )
    .await;
    run_sql(
        &engine,
        "insert into velo.queue (run_id, code, ready_at)
         select g, 'flow@1', clock_timestamp() from generate_series(200001, 200100) g",
    )
    .await;
    run_sql(&engine, "vacuum analyze velo.queue").await;
    let (claimed, read) = read_by_claim(&engine, worker, &["flow@1"]).await;
    assert_eq!(claimed, 16);
    assert!(read < 100, "{read} rows were read");
    // The line is short for this one, so it looks at the queues.
    run_sql(&engine, "delete from velo.queue where lane is null").await;
    let (claimed, read) = read_by_claim(&engine, worker, &["flow@1"]).await;
    assert_eq!(claimed, 1);
    assert!(read < 200, "{read} rows were read");
    let (claimed, read) = read_by_claim(&engine, worker, &["flow@1"]).await;
    assert_eq!(claimed, 0);
    assert!(read < 200, "{read} rows were read");
}

#[tokio::test]
async fn claims_and_queues_walk_their_indexes_in_order_and_sort_nothing() {
    let engine = test_kit::engine().await;
    run_sql(
        &engine,
        "insert into velo.queue (run_id, code, ready_at, lane)
         select g, 'flow@' || g % 7, clock_timestamp(), case when g % 2 = 0 then 'lane ' || g % 50 end
         from generate_series(1, 20000) g",
    )
    .await;
    run_sql(&engine, "vacuum analyze velo.queue").await;
    let function: String = sqlx::query_scalar(
        "select string_agg(prosrc, '') from pg_proc where pronamespace = 'velo'::regnamespace
           and proname in ('lease', 'balance')",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    for (index, column, condition) in [
        (
            "queue_line",
            "ready_at",
            "q.code = 'flow@1' and q.ready_at is not null",
        ),
        (
            "queue_held",
            "gated_at",
            "q.lane = 'lane 4' and q.gated_at is not null and least(q.fence, 1) = 0",
        ),
    ] {
        let order = format!(
            "order by (q.{column} - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'"
        );
        // The very words of the functions.
        assert!(function.contains(&order), "{order}");
        let explained: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "explain (costs off) select q.run_id from velo.queue q where {condition} {order} limit 16 for update skip locked"
        )))
        .fetch_all(engine.pool())
        .await
        .unwrap();
        let plan = explained.join("\n");
        assert!(
            plan.contains(&format!("Index Scan using {index}")),
            "{plan}"
        );
        assert!(!plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test]
async fn a_run_that_has_waited_for_long_goes_before_new_ones_of_higher_priority() {
    let engine = test_kit::engine().await;
    let graph = quick();
    let worker = incarnation(&engine).await;
    let mut runs = Vec::new();
    for (priority, minutes) in [(5, 6), (5, 4), (0, 0)] {
        let run = engine.start(&graph, Log::default()).priority(priority);
        let run = run.await.unwrap();
        let earlier = format!(
            "update velo.queue set ready_at = ready_at - interval '{minutes} minutes' where run_id = {run}"
        );
        run_sql(&engine, &earlier).await;
        runs.push(run);
    }
    let codes = [graph.code().to_owned()];
    let mut order = Vec::new();
    for _ in 0..3 {
        let claims = worker.claim(engine.pool(), &codes, 1, None).await.unwrap();
        order.push(claims[0].lease.run);
    }
    assert_eq!(order, [runs[0], runs[2], runs[1]]);
}

/// Claims one after the other, ends each at once, and says of which queues they were.
async fn served(engine: &Engine, code: &str, many: usize) -> Vec<String> {
    let worker = incarnation(engine).await;
    let codes = [code.to_owned()];
    let mut served = Vec::new();
    while served.len() < many {
        let claims = worker.claim(engine.pool(), &codes, 4, None).await.unwrap();
        for claim in claims {
            served.push(claim.queue.unwrap());
            run_sql(
                engine,
                &format!("delete from velo.queue where run_id = {}", claim.lease.run),
            )
            .await;
        }
    }
    served
}

async fn fill(engine: &Engine, lane: &str, first: i64, many: i64) {
    run_sql(
        engine,
        &format!(
            "insert into velo.queue (run_id, code, ready_at, lane)
             select g, 'flow@1', clock_timestamp(), '{lane}' from generate_series({first}, {first} + {many} - 1) g"
        ),
    )
    .await;
}

#[tokio::test]
async fn a_tenant_with_one_run_does_not_wait_behind_all_of_another_one() {
    let engine = test_kit::engine().await;
    fill(&engine, "big", 1, 5_000).await;
    let first = served(&engine, "flow@1", 100).await;
    assert!(first.iter().all(|queue| queue == "big"));
    fill(&engine, "small", 10_001, 1).await;
    velo_engine::lease::balance(engine.pool(), "small")
        .await
        .unwrap();
    let next = served(&engine, "flow@1", 24).await;
    assert!(next.iter().any(|queue| queue == "small"), "{next:?}");
}

#[tokio::test]
async fn queues_are_served_in_proportion_to_their_weights() {
    let engine = test_kit::engine().await;
    let weight = Allowance::default().weight(3);
    engine
        .set_gate(&Gate::queue("paying"), weight)
        .await
        .unwrap();
    fill(&engine, "paying", 1, 1_000).await;
    fill(&engine, "free", 10_001, 1_000).await;
    let served = served(&engine, "flow@1", 400).await;
    let paying = served.iter().filter(|queue| *queue == "paying").count();
    assert!((280..=320).contains(&paying), "{paying} of 400");
}

#[tokio::test]
async fn a_queue_with_a_rate_begins_its_runs_no_faster() {
    let engine = test_kit::engine().await;
    let graph = quick();
    let rate = Rate::new(10, Duration::from_secs(1)).burst(2);
    let allowance = Allowance::default().rate(rate);
    engine
        .set_gate(&Gate::queue("mail"), allowance)
        .await
        .unwrap();
    let workers = [
        Beside::start(worker(&engine, graph.clone())),
        Beside::start(worker(&engine, graph.clone())),
    ];
    let runs = start_in(&engine, &graph, "mail", 7).await;
    completed(&engine, &runs).await;
    let between: f64 = sqlx::query_scalar(
        "select extract(epoch from max(s.at) - min(r.created_at))::float8
         from velo.step s join velo.run r on r.id = s.run_id where s.seq = 1",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert!(between >= 0.49, "two at once and five at 0.1 s: {between}");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_paused_queue_begins_nothing_and_what_is_at_work_stops_after_its_step() {
    let engine = test_kit::engine().await;
    let meter = Meter::new();
    let inside = meter.clone();
    let ending = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ending);
    let work = move |_: Context<Log>| {
        let (meter, is_last) = (inside.clone(), Arc::clone(&asked));
        async move {
            meter.pass().await;
            if is_last.load(Ordering::SeqCst) {
                return Ok(line("last").into());
            }
            Ok(line("again").goto(WORK))
        }
    };
    let graph = Graph::builder("flow", 1)
        .node(WORK, work)
        .start(WORK)
        .may_go(WORK, WORK)
        .compile()
        .unwrap();
    let gate = Gate::queue("tenant/acme");
    let runs = start_in(&engine, &graph, "tenant/acme", 1).await;
    let beside = Beside::start(worker(&engine, graph.clone()));
    until(async || meter.inside() == 1).await;
    engine.pause_gate(&gate, Some("the bill")).await.unwrap();
    let late = start_in(&engine, &graph, "tenant/acme", 1).await;
    until(async || {
        // Steps go on until the worker has heard of it.
        if meter.inside() == 1 {
            meter.let_out(1);
        }
        matches!(
            engine.why(runs[0]).await.unwrap(),
            Why::HeldBack {
                by: HeldBack::Paused { .. },
                ..
            }
        )
    })
    .await;
    for run in [runs[0], late[0]] {
        let why = engine.why(run).await.unwrap();
        assert!(why.to_string().contains("is paused: the bill"), "{why}");
    }
    assert!(engine.resume_gate(&gate).await.unwrap());
    assert!(!engine.resume_gate(&gate).await.unwrap());
    assert!(engine.gates("", 10).await.unwrap().is_empty());
    ending.store(true, Ordering::SeqCst);
    meter.let_out(100);
    completed(&engine, &[runs[0], late[0]]).await;
    beside.stop().await;
}

#[tokio::test]
async fn runs_of_a_paused_graph_wait_and_those_of_others_go_on() {
    let engine = test_kit::engine().await;
    let graph = quick();
    let other = Graph::builder("other", 1)
        .node(WORK, async |_: Context<Log>| Ok(line("done").into()))
        .start(WORK)
        .compile()
        .unwrap();
    let gate = Gate::graph("flow");
    engine.pause_gate(&gate, None).await.unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()).serve(other.clone()));
    let free = engine.start(&other, Log::default()).await.unwrap();
    completed(&engine, &[free]).await;
    let why = engine.why(run).await.unwrap();
    assert!(
        matches!(&why, Why::GraphPaused { gate, .. } if gate == "graph/flow"),
        "{why:?}"
    );
    let refused = engine.set_gate(&gate, Allowance::at_most(1)).await;
    assert!(refused.is_err(), "a graph has no limit");
    engine.resume_gate(&gate).await.unwrap();
    completed(&engine, &[run]).await;
    beside.stop().await;
}

#[tokio::test]
async fn a_paused_node_holds_its_runs_without_a_worker_and_others_of_the_step_go_on() {
    let engine = test_kit::engine().await;
    let first = async |_: Context<Log>| Ok(line("first").into());
    const SIDE: NodeKey<Log> = NodeKey::new("side");
    let graph = Graph::builder("flow", 1)
        .node(WORK, first)
        .node(SIDE, async |_: Context<Log>| Ok(line("side").into()))
        .start(WORK)
        .start(SIDE)
        .compile()
        .unwrap();
    let gate = Gate::node("flow@1", "work");
    engine.pause_gate(&gate, Some("a bug")).await.unwrap();
    let beside = Beside::start(worker(&engine, graph.clone()).concurrency(1));
    // So that the worker knows of it.
    until(async || count(&engine, "select count(*) from velo.worker").await == 1).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    for run in &runs {
        until(async || matches!(engine.why(*run).await.unwrap(), Why::HeldUp { .. })).await;
        let why = engine.why(*run).await.unwrap().to_string();
        assert!(why.contains("node/flow@1/work is paused: a bug"), "{why}");
        let sides = format!("select count(*) from velo.outcome where run_id = {run}");
        assert_eq!(count(&engine, &sides).await, 1);
    }
    engine.resume_gate(&gate).await.unwrap();
    completed(&engine, &runs).await;
    beside.stop().await;
}

#[tokio::test]
async fn nodes_under_a_limit_are_never_more_at_once_also_when_a_worker_dies() {
    let engine = test_kit::engine().await;
    let meter = Meter::new();
    let graph = limited(&meter);
    engine
        .set_gate(&Gate::limit("bank"), Allowance::at_most(2))
        .await
        .unwrap();
    let mut runs = Vec::new();
    for _ in 0..10 {
        runs.push(engine.start(&graph, Log::default()).await.unwrap());
    }
    let doomed = Beside::start(mortal(&engine, graph.clone()));
    until(async || meter.inside() == 2).await;
    until(async || {
        count(
            &engine,
            "select count(*) from velo.queue where worker is not null",
        )
        .await
            == 2
    })
    .await;
    let mut held = 0;
    for run in &runs {
        match engine.why(*run).await.unwrap() {
            Why::HeldUp { by, .. } => {
                assert_eq!((by[0].gate.as_str(), by[0].max), ("limit/bank", Some(2)));
                held += 1;
            }
            why => assert!(matches!(why, Why::Running { .. }), "{why:?}"),
        }
    }
    assert_eq!(held, 8);
    let other = Beside::start(worker(&engine, graph.clone()));
    doomed.die().await;
    until(async || meter.inside() == 2).await;
    meter.let_out(100);
    completed(&engine, &runs).await;
    assert_eq!(meter.most(), 2);
    assert_eq!(count(&engine, "select count(*) from velo.permit").await, 0);
    other.stop().await;
}

#[tokio::test]
async fn tasks_of_one_step_share_a_limit_and_go_on_as_others_of_them_finish() {
    let engine = test_kit::engine().await;
    let meter = Meter::new();
    let inside = meter.clone();
    let each = move |cx: Context<Log, u32>| {
        let meter = inside.clone();
        async move {
            cx.step("before", async |_| Ok::<_, NodeError>(*cx.input()))
                .await?;
            cx.limit("bank").await?;
            meter.pass().await;
            Ok(line(cx.input().to_string()).into())
        }
    };
    let graph = Graph::builder("flow", 1)
        .node(WORK, async |_: Context<Log>| {
            Ok(Next::send_all(EACH, 0..10))
        })
        .node(EACH, each)
        .start(WORK)
        .may_go(WORK, EACH)
        .compile()
        .unwrap();
    engine
        .set_gate(&Gate::limit("bank"), Allowance::at_most(3))
        .await
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    for finished in 0..8 {
        until(async || meter.inside() == 3).await;
        let done = "select count(*) from velo.outcome";
        until(async || count(&engine, done).await == finished).await;
        meter.let_out(1);
    }
    meter.let_out(2);
    completed(&engine, &[run]).await;
    assert_eq!(meter.most(), 3);
    let log: Log = engine.state(run).await.unwrap();
    assert_eq!(log.lines.len(), 10);
    beside.stop().await;
}

#[tokio::test]
async fn a_node_that_waits_for_a_token_gives_its_place_to_others() {
    let engine = test_kit::engine().await;
    let slow = single(async |cx: Context<Log>| {
        cx.limit("mail").await?;
        Ok(line("sent").into())
    });
    let other = Graph::builder("other", 1)
        .node(WORK, async |_: Context<Log>| Ok(line("done").into()))
        .start(WORK)
        .compile()
        .unwrap();
    let gate = Gate::limit("mail");
    let rate = Rate::new(1, Duration::from_secs(3_600));
    engine
        .set_gate(&gate, Allowance::default().rate(rate))
        .await
        .unwrap();
    let beside = Beside::start(
        worker(&engine, slow.clone())
            .serve(other.clone())
            .concurrency(1),
    );
    let first = engine.start(&slow, Log::default()).await.unwrap();
    completed(&engine, &[first]).await;
    let second = engine.start(&slow, Log::default()).await.unwrap();
    until(async || matches!(engine.why(second).await.unwrap(), Why::HeldUp { .. })).await;
    let why = engine.why(second).await.unwrap();
    let Why::HeldUp {
        by, until: wake_at, ..
    } = &why
    else {
        panic!("{why:?}");
    };
    assert!(by[0].until.is_some() && *wake_at == by[0].until, "{why:?}");
    let free = engine.start(&other, Log::default()).await.unwrap();
    completed(&engine, &[free]).await;
    // A new rate is for those that wait, too.
    let rate = Rate::new(100, Duration::from_secs(1));
    engine
        .set_gate(&gate, Allowance::default().rate(rate))
        .await
        .unwrap();
    completed(&engine, &[second]).await;
    beside.stop().await;
}

#[tokio::test]
async fn tokens_are_never_spent_twice_by_workers_that_ask_at_once() {
    let engine = test_kit::engine().await;
    let slow = single(async |cx: Context<Log>| {
        cx.limit("mail").await?;
        Ok(line("sent").into())
    });
    let rate = Rate::new(20, Duration::from_secs(1)).burst(3);
    engine
        .set_gate(&Gate::limit("mail"), Allowance::default().rate(rate))
        .await
        .unwrap();
    let mut runs = Vec::new();
    for _ in 0..15 {
        runs.push(engine.start(&slow, Log::default()).await.unwrap());
    }
    let workers: Vec<Beside> = (0..3)
        .map(|_| Beside::start(worker(&engine, slow.clone())))
        .collect();
    let begun = count(
        &engine,
        "select (extract(epoch from clock_timestamp()) * 1000)::bigint",
    )
    .await;
    completed(&engine, &runs).await;
    let ended = count(
        &engine,
        "select (extract(epoch from max(at)) * 1000)::bigint from velo.step where seq = 1",
    )
    .await;
    assert!(
        ended - begun >= 550,
        "12 tokens at 50 ms: {}",
        ended - begun
    );
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_child_is_of_the_queue_of_its_parent_and_a_parent_that_waits_takes_no_place() {
    let engine = test_kit::engine().await;
    let child = quick();
    let started = child.clone();
    let parent = Graph::builder("parent", 1)
        .node(WORK, move |cx: Context<Log>| {
            let child = started.clone();
            async move {
                let end = cx.child("part", &child, Log::default()).await?;
                Ok(line(end.lines.join(" ")).into())
            }
        })
        .start(WORK)
        .child(&child)
        .compile()
        .unwrap();
    engine
        .set_gate(&Gate::queue("one"), Allowance::at_most(1))
        .await
        .unwrap();
    let beside = Beside::start(worker(&engine, parent.clone()));
    let runs = start_in(&engine, &parent, "one", 3).await;
    within(completed(&engine, &runs)).await;
    beside.stop().await;
}

#[tokio::test]
async fn what_is_in_line_on_threads_takes_no_place_and_each_thread_keeps_its_order_under_a_limit() {
    let engine = test_kit::engine().await;
    let (meter, queue) = (Meter::new(), Gate::Queue("chats".to_owned()));
    let one = Allowance {
        max: Some(1),
        ..Allowance::default()
    };
    engine.set_gate(&queue, one).await.unwrap();
    let graph = metered(&meter);
    let mut runs = Vec::new();
    for text in ["one", "two", "three"] {
        for thread in ["ada", "bob"] {
            let input = engine.input(&graph, thread, line(text)).queue("chats");
            runs.push(input.if_busy(IfBusy::Enqueue).await.unwrap());
        }
    }
    let beside = Beside::start(worker(&engine, graph));
    until(async || meter.inside() == 1).await;
    // The newest of a thread waits for those before it, not for the limit.
    let why = engine.why(runs[5]).await.unwrap();
    assert!(matches!(why, Why::InThreadLine { .. }), "{why:?}");
    for done in 1..=runs.len() {
        meter.let_out(1);
        let ended = "select count(*) from velo.run where finished_at is not null";
        until(async || count(&engine, ended).await >= i64::try_from(done).unwrap()).await;
    }
    completed(&engine, &runs).await;
    assert_eq!(meter.most(), 1);
    for last in &runs[4..] {
        let log: Log = engine.state(*last).await.unwrap();
        assert_eq!(log.lines, ["one", "done", "two", "done", "three", "done"]);
    }
    beside.stop().await;
}

#[tokio::test]
async fn a_run_that_is_displaced_on_its_thread_gives_its_permit_to_the_next_one() {
    let engine = test_kit::engine().await;
    let (meter, limit) = (Meter::new(), Gate::Limit("bank".to_owned()));
    let one = Allowance {
        max: Some(1),
        ..Allowance::default()
    };
    engine.set_gate(&limit, one).await.unwrap();
    let graph = limited(&meter);
    let beside = Beside::start(worker(&engine, graph.clone()));
    let start = || engine.start(&graph, Log::default()).thread("ada");
    let first = start().await.unwrap();
    until(async || meter.inside() == 1).await;
    let second = start().if_busy(IfBusy::Terminate).await.unwrap();
    assert_eq!(settled(&engine, first).await.status, RunStatus::Cancelled);
    // The first one was dropped in the middle of its node.
    until(async || meter.inside() == 1 && engine.run(second).await.unwrap().is_leased).await;
    meter.let_out(1);
    completed(&engine, &[second]).await;
    assert_eq!(meter.most(), 1);
    beside.stop().await;
}
