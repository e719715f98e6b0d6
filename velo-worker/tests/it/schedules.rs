use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use sqlx::PgPool;
use velo_engine::prelude::*;
use velo_engine::schedule::{
    BACKFILL_MAX, FIRES_PER_TURN, FireCause, FireOutcome, Overlap, ScheduleError, ScheduleSetup,
    Spec, fire_due, fire_due_at,
};
use velo_engine::{Allowance, Gate, HeldBack, RunStatus, Why, test_kit};

use crate::support::{Beside, Log, settled, until, worker};

const ONLY: NodeKey<Log> = NodeKey::new("only");
const NAME: &str = "reports/nightly";
const MINUTE: Duration = Duration::from_secs(60);

fn graph() -> Graph<Log> {
    Graph::builder("one", 1)
        .node(ONLY, async |_: Context<Log>| {
            Ok(Log::update().turns(1).into())
        })
        .start(ONLY)
        .compile()
        .unwrap()
}

fn minutely<'a>(engine: &'a Engine, graph: &'a Graph<Log>) -> ScheduleSetup<'a, Log> {
    let state = Log {
        lines: vec!["from the schedule".to_owned()],
        turns: 0,
    };
    engine.schedule(graph, NAME, Spec::every(MINUTE).unwrap(), state)
}

/// An engine with a schedule that fires each minute, and its next time.
async fn scheduled(overlap: Overlap) -> (Engine, Graph<Log>, DateTime<Utc>) {
    let (engine, graph) = (test_kit::engine().await, graph());
    minutely(&engine, &graph)
        .overlap(overlap)
        .create()
        .await
        .unwrap();
    let next = next(&engine).await;
    (engine, graph, next)
}

async fn next(engine: &Engine) -> DateTime<Utc> {
    let schedule = engine.get_schedule(NAME).await.unwrap();
    schedule.next_at.unwrap()
}

/// Has its next time be so many minutes ago.
async fn set_back(engine: &Engine, minutes: i64) -> DateTime<Utc> {
    let back = "update velo.schedule
                set next_at = next_at - make_interval(mins => $1), due_at = due_at - make_interval(mins => $1)";
    let minutes = i32::try_from(minutes).unwrap();
    sqlx::query(back)
        .bind(minutes)
        .execute(engine.pool())
        .await
        .unwrap();
    next(engine).await
}

/// What became of its times, oldest first.
async fn outcomes(engine: &Engine) -> Vec<FireOutcome> {
    let fires = engine.schedule_fires(NAME, 1_000).await.unwrap();
    fires.iter().rev().map(|fire| fire.outcome).collect()
}

async fn runs(engine: &Engine, status: RunStatus) -> Vec<RunId> {
    let found = engine.runs(&[status], None, 1_000).await.unwrap();
    found.iter().rev().map(|run| run.id).collect()
}

/// As if a worker had run it to its end.
async fn finish(pool: &PgPool, run: RunId) {
    let done = "with done as (delete from velo.queue where run_id = $1)
                update velo.run set status = 'completed', finished_at = clock_timestamp() where id = $1";
    sqlx::query(done).bind(run).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_worker_starts_and_runs_what_is_due() {
    let (engine, graph, _) = scheduled(Overlap::Skip).await;
    let due = set_back(&engine, 1).await;
    let beside = Beside::start(worker(&engine, graph));
    until(|| async { !engine.schedule_fires(NAME, 1).await.unwrap().is_empty() }).await;
    // The oldest: a minute may have begun meanwhile.
    let fire = engine.schedule_fires(NAME, 9).await.unwrap().pop().unwrap();
    assert_eq!((fire.fire_at, fire.cause), (due, FireCause::Time));
    let run = fire.run_id.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let state: Log = engine.state(run).await.unwrap();
    assert_eq!(
        (state.lines[0].as_str(), state.turns),
        ("from the schedule", 1)
    );
    beside.stop().await;
}

#[tokio::test]
async fn a_worker_without_the_code_fires_for_those_that_have_it() {
    let (engine, _, _) = scheduled(Overlap::Skip).await;
    set_back(&engine, 1).await;
    let other = Graph::builder("other", 1)
        .node(ONLY, async |_: Context<Log>| Ok(Next::none()))
        .start(ONLY)
        .compile()
        .unwrap();
    let beside = Beside::start(worker(&engine, other));
    until(|| async { runs(&engine, RunStatus::Active).await.len() == 1 }).await;
    beside.stop().await;
}

#[tokio::test]
async fn ten_that_fire_at_once_start_one_run_a_time() {
    let (engine, _, first) = scheduled(Overlap::AllowAll).await;
    for minute in 0..5 {
        let now = first + MINUTE * minute;
        let rounds = join_all((0..10).map(|_| fire_due_at(&engine, now))).await;
        let started: usize = rounds
            .iter()
            .map(|fired| fired.as_ref().unwrap().runs.len())
            .sum();
        assert_eq!(started, 1, "{rounds:?}");
    }
    let fires = engine.schedule_fires(NAME, 100).await.unwrap();
    let times: Vec<_> = fires.iter().rev().map(|fire| fire.fire_at).collect();
    let expected: Vec<_> = (0..5).map(|minute| first + MINUTE * minute).collect();
    assert_eq!(times, expected);
    assert_eq!(runs(&engine, RunStatus::Active).await.len(), 5);
}

#[tokio::test]
async fn a_connection_that_dies_at_the_commit_leaves_nothing_and_the_time_fires_later_once() {
    let (engine, _, first) = scheduled(Overlap::AllowAll).await;
    for statement in [
        "create function die() returns trigger language plpgsql as
         $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$",
        "create constraint trigger die after insert on velo.schedule_fire
         deferrable initially deferred for each row execute function die()",
    ] {
        sqlx::query(statement).execute(engine.pool()).await.unwrap();
    }
    let died = fire_due_at(&engine, first).await.unwrap_err();
    assert!(died.is_transient(), "{died:?}");
    assert!(
        outcomes(&engine).await.is_empty() && runs(&engine, RunStatus::Active).await.is_empty()
    );
    assert_eq!(next(&engine).await, first);

    sqlx::query("drop trigger die on velo.schedule_fire")
        .execute(engine.pool())
        .await
        .unwrap();
    for started in [1, 0] {
        let fired = fire_due_at(&engine, first).await.unwrap();
        assert_eq!(fired.runs.len(), started);
    }
}

#[tokio::test]
async fn a_schedule_that_cannot_be_fired_does_not_hold_up_the_others() {
    let (engine, graph, first) = scheduled(Overlap::Skip).await;
    let spec = Spec::every(MINUTE).unwrap();
    let other = engine.schedule(&graph, "other", spec, Log::default());
    other.create().await.unwrap();
    let refuse = "alter table velo.schedule_fire add check (name <> 'other')";
    sqlx::query(refuse).execute(engine.pool()).await.unwrap();
    let unreadable = "insert into velo.schedule
         (name, graph, version, fingerprint, code, priority, control, state, spec, jitter_ms, catch_up_ms,
          overlap, next_at, due_at)
         select 'a newer one', graph, version, fingerprint, code, priority, control, state, '{\"moon\": 1}',
                jitter_ms, catch_up_ms, overlap, next_at, due_at
         from velo.schedule where name = 'other'";
    sqlx::query(unreadable)
        .execute(engine.pool())
        .await
        .unwrap();

    let fired = fire_due_at(&engine, first + MINUTE).await.unwrap();
    assert_eq!(fired.runs.len(), 1);
    assert_eq!(outcomes(&engine).await.len(), 2);
    let newer = engine.get_schedule("a newer one").await.unwrap();
    assert!(newer.is_paused && newer.note.unwrap().contains("newer version"));
}

#[tokio::test]
async fn after_a_downtime_what_is_within_the_window_fires_and_the_rest_is_missed() {
    let (engine, graph) = (test_kit::engine().await, graph());
    minutely(&engine, &graph)
        .overlap(Overlap::AllowAll)
        .catch_up(MINUTE * 10)
        .create()
        .await
        .unwrap();
    let first = next(&engine).await;
    let back = first + MINUTE * 180;
    let fired = fire_due_at(&engine, back).await.unwrap();
    assert_eq!(fired.runs.len(), 11);
    let mut fires = engine.schedule_fires(NAME, 1_000).await.unwrap();
    let missed = fires.pop().unwrap();
    assert_eq!(
        (missed.fire_at, missed.outcome),
        (first, FireOutcome::Missed)
    );
    assert_eq!(missed.until, Some(back - MINUTE * 10));
    assert_eq!(fires.last().unwrap().fire_at, back - MINUTE * 10);
    assert_eq!(next(&engine).await, back + MINUTE);
}

#[tokio::test]
async fn a_backlog_larger_than_a_turn_is_fired_in_one_round() {
    let (engine, _, first) = scheduled(Overlap::Skip).await;
    let times = u32::try_from(FIRES_PER_TURN).unwrap() - 10;
    // Twice within the hour of the window, and a third of it beyond one turn.
    fire_due_at(&engine, first + MINUTE * (times - 1))
        .await
        .unwrap();
    let spec = Spec::every(Duration::from_secs(20)).unwrap();
    engine
        .schedule(&graph(), NAME, spec, Log::default())
        .replace()
        .await
        .unwrap();
    let before = outcomes(&engine).await.len();
    let first = next(&engine).await;
    let last = first + Duration::from_secs(20) * (2 * times);
    fire_due_at(&engine, last).await.unwrap();
    let more = outcomes(&engine).await.len() - before;
    assert!(more > FIRES_PER_TURN, "{more}");
    assert!(next(&engine).await > last);
}

#[tokio::test]
async fn skip_starts_none_beside_a_run_that_lives() {
    use FireOutcome::{Skipped, Started};
    let (engine, _, first) = scheduled(Overlap::Skip).await;
    fire_due_at(&engine, first + MINUTE * 2).await.unwrap();
    assert_eq!(outcomes(&engine).await, [Started, Skipped, Skipped]);
    finish(engine.pool(), runs(&engine, RunStatus::Active).await[0]).await;
    fire_due_at(&engine, first + MINUTE * 3).await.unwrap();
    assert_eq!(outcomes(&engine).await.last(), Some(&Started));
}

#[tokio::test]
async fn buffer_one_starts_the_one_that_waited_when_the_run_has_ended() {
    use FireOutcome::{Buffered, Skipped, Started};
    let (engine, _, first) = scheduled(Overlap::BufferOne).await;
    let last = first + MINUTE * 2;
    fire_due_at(&engine, last).await.unwrap();
    assert_eq!(outcomes(&engine).await, [Started, Buffered, Skipped]);
    assert!(engine.get_schedule(NAME).await.unwrap().is_buffering);
    assert_eq!(fire_due_at(&engine, last).await.unwrap().runs, []);
    finish(engine.pool(), runs(&engine, RunStatus::Active).await[0]).await;
    // At no time of its own, and once however many look.
    let rounds = join_all((0..5).map(|_| fire_due_at(&engine, last))).await;
    let started: usize = rounds
        .into_iter()
        .map(|fired| fired.unwrap().runs.len())
        .sum();
    assert_eq!(started, 1);
    assert_eq!(outcomes(&engine).await, [Started, Started, Skipped]);
    assert!(!engine.get_schedule(NAME).await.unwrap().is_buffering);
}

#[tokio::test]
async fn buffer_all_starts_one_after_the_other_in_order() {
    use FireOutcome::{Buffered, Started};
    let (engine, _, first) = scheduled(Overlap::BufferAll).await;
    let last = first + MINUTE * 2;
    fire_due_at(&engine, last).await.unwrap();
    assert_eq!(outcomes(&engine).await, [Started, Buffered, Buffered]);
    for expected in [[Started, Started, Buffered], [Started, Started, Started]] {
        let live = runs(&engine, RunStatus::Active).await;
        assert_eq!(live.len(), 1);
        finish(engine.pool(), live[0]).await;
        fire_due_at(&engine, last).await.unwrap();
        assert_eq!(outcomes(&engine).await, expected);
    }
}

#[tokio::test]
async fn cancel_other_starts_the_newest_when_the_one_before_has_ended() {
    use FireOutcome::{Buffered, Skipped, Started};
    let (engine, _, first) = scheduled(Overlap::CancelOther).await;
    fire_due_at(&engine, first + MINUTE).await.unwrap();
    // Nobody had it: it ended at once.
    let live = runs(&engine, RunStatus::Active).await;
    assert_eq!(runs(&engine, RunStatus::Cancelled).await.len(), 1);
    assert_eq!(live.len(), 1);

    // Now some worker has it, and has not noticed yet.
    let lease = "update velo.queue set worker = 1, ready_at = null where run_id = $1";
    sqlx::query(lease)
        .bind(live[0])
        .execute(engine.pool())
        .await
        .unwrap();
    let last = first + MINUTE * 3;
    fire_due_at(&engine, last).await.unwrap();
    assert_eq!(
        outcomes(&engine).await,
        [Started, Started, Skipped, Buffered]
    );
    let told = "select is_cancelled from velo.queue where run_id = $1";
    let is_told: bool = sqlx::query_scalar(told)
        .bind(live[0])
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert!(is_told);
    finish(engine.pool(), live[0]).await;
    fire_due_at(&engine, last).await.unwrap();
    assert_eq!(
        outcomes(&engine).await,
        [Started, Started, Skipped, Started]
    );
}

#[tokio::test]
async fn allow_all_starts_one_beside_the_other() {
    let (engine, _, first) = scheduled(Overlap::AllowAll).await;
    let fired = fire_due_at(&engine, first + MINUTE * 2).await.unwrap();
    assert_eq!(fired.runs.len(), 3);
    assert_eq!(runs(&engine, RunStatus::Active).await.len(), 3);
}

#[tokio::test]
async fn a_paused_schedule_starts_nothing_and_goes_on_without_what_it_slept_through() {
    let (engine, graph, _) = scheduled(Overlap::AllowAll).await;
    engine
        .pause_schedule(NAME, Some("the source is down"))
        .await
        .unwrap();
    set_back(&engine, 30).await;
    assert_eq!(fire_due(&engine).await.unwrap().runs, []);
    // A service that starts anew does not undo what an operator did.
    minutely(&engine, &graph).replace().await.unwrap();
    let paused = engine.get_schedule(NAME).await.unwrap();
    assert_eq!(
        (paused.is_paused, paused.note.as_deref()),
        (true, Some("the source is down"))
    );
    assert!(engine.next_fires(NAME, 1).await.unwrap()[0].fire_at > Utc::now() - MINUTE);

    engine.unpause_schedule(NAME).await.unwrap();
    let going = engine.get_schedule(NAME).await.unwrap();
    assert_eq!((going.is_paused, going.note), (false, None));
    let next = next(&engine).await;
    let before = next - Duration::from_micros(1);
    assert_eq!(fire_due_at(&engine, before).await.unwrap().runs, []);
    engine.unpause_schedule(NAME).await.unwrap();
    assert_eq!(fire_due_at(&engine, next).await.unwrap().runs.len(), 1);
}

#[tokio::test]
async fn a_trigger_fires_now_beside_the_times_and_also_when_paused() {
    let (engine, _, first) = scheduled(Overlap::Skip).await;
    engine.pause_schedule(NAME, None).await.unwrap();
    let fire = engine.trigger_schedule(NAME).await.unwrap();
    assert_eq!(
        (fire.cause, fire.outcome),
        (FireCause::Trigger, FireOutcome::Started)
    );
    assert_eq!(engine.run(fire.run_id.unwrap()).await.unwrap().graph, "one");
    let second = engine.trigger_schedule(NAME).await.unwrap();
    assert_eq!(second.outcome, FireOutcome::Skipped);
    assert_eq!(next(&engine).await, first);
    let none = engine.trigger_schedule("no such").await.unwrap_err();
    assert!(matches!(none, ScheduleError::NoSchedule(name) if name == "no such"));
}

#[tokio::test]
async fn a_backfill_fires_each_time_of_its_window_once_and_no_more_than_the_limit() {
    let (engine, _, first) = scheduled(Overlap::Skip).await;
    let (from, to) = (first - MINUTE * 10, first - MINUTE * 2);
    let fill = || engine.backfill_schedule(NAME, from..=to, Overlap::AllowAll);
    let fires = fill().await.unwrap();
    assert_eq!(fires.len(), 9);
    assert!(
        fires
            .iter()
            .all(|fire| fire.outcome == FireOutcome::Started)
    );
    assert_eq!(fill().await.unwrap(), fires);
    assert_eq!(runs(&engine, RunStatus::Active).await.len(), 9);
    assert_eq!(next(&engine).await, first);

    let most = u32::try_from(BACKFILL_MAX).unwrap();
    let long = engine
        .backfill_schedule(NAME, first - MINUTE * (most + 5)..=to, Overlap::AllowAll)
        .await
        .unwrap_err();
    assert!(matches!(long, ScheduleError::TooMany { .. }), "{long}");
    let future = engine
        .backfill_schedule(NAME, first..=first + MINUTE * 5, Overlap::AllowAll)
        .await
        .unwrap();
    assert!(
        future.len() <= 1,
        "what is to come is the schedule's: {future:?}"
    );
}

#[tokio::test]
async fn a_backfill_brings_what_was_skipped_after_all() {
    use FireOutcome::{Skipped, Started};
    let (engine, _, _) = scheduled(Overlap::Skip).await;
    let first = set_back(&engine, 3).await;
    fire_due_at(&engine, first + MINUTE).await.unwrap();
    assert_eq!(outcomes(&engine).await, [Started, Skipped]);
    let fires = engine
        .backfill_schedule(NAME, first..=first + MINUTE, Overlap::AllowAll)
        .await
        .unwrap();
    assert_eq!(
        (fires[0].cause, fires[1].cause),
        (FireCause::Time, FireCause::Backfill)
    );
    assert_eq!(outcomes(&engine).await, [Started, Started]);
}

#[tokio::test]
async fn a_name_is_created_once_and_replaced_without_losing_what_is_due() {
    let (engine, graph, _) = scheduled(Overlap::Skip).await;
    let again = minutely(&engine, &graph).create().await.unwrap_err();
    assert!(matches!(again, ScheduleError::Exists(name) if name == NAME));
    let due = set_back(&engine, 3).await;
    minutely(&engine, &graph)
        .overlap(Overlap::AllowAll)
        .replace()
        .await
        .unwrap();
    let replaced = engine.get_schedule(NAME).await.unwrap();
    assert_eq!(
        (replaced.next_at, replaced.overlap),
        (Some(due), Overlap::AllowAll)
    );
    assert!(fire_due(&engine).await.unwrap().runs.len() >= 3);

    let hourly = Spec::cron("0 * * * *", "UTC").unwrap();
    let other = engine.schedule(&graph, NAME, hourly, Log::default());
    other.jitter(MINUTE).replace().await.unwrap();
    let next = engine.next_fires(NAME, 3).await.unwrap();
    assert_eq!(
        next[1].fire_at - next[0].fire_at,
        chrono::Duration::hours(1)
    );
    for next in next {
        assert!((next.fire_at..next.fire_at + MINUTE).contains(&next.due_at));
    }
    let bad = engine.schedule(&graph, "a\nb", Spec::every(MINUTE).unwrap(), Log::default());
    assert!(matches!(bad.create().await, Err(ScheduleError::Name(_))));
}

#[tokio::test]
async fn a_deleted_schedule_is_gone_with_its_record_and_its_runs_go_on() {
    let (engine, _, first) = scheduled(Overlap::BufferOne).await;
    fire_due_at(&engine, first + MINUTE).await.unwrap();
    engine.delete_schedule(NAME).await.unwrap();
    assert_eq!(engine.schedules("", 10).await.unwrap(), []);
    assert!(outcomes(&engine).await.is_empty());
    let live = runs(&engine, RunStatus::Active).await;
    finish(engine.pool(), live[0]).await;
    assert_eq!(
        fire_due_at(&engine, first + MINUTE * 5).await.unwrap().runs,
        []
    );
    let none = engine.delete_schedule(NAME).await;
    assert!(matches!(none, Err(ScheduleError::NoSchedule(_))));
}

#[tokio::test]
async fn terminate_other_ends_the_run_in_the_middle_of_its_node_and_the_next_one_comes_to_its_end()
{
    let engine = test_kit::engine().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let graph = Graph::builder("one", 1)
        .node(ONLY, move |_: Context<Log>| {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if call == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(Log::update().turns(1).into())
            }
        })
        .start(ONLY)
        .compile()
        .unwrap();
    let secondly = Spec::every(Duration::from_secs(1)).unwrap();
    engine
        .schedule(&graph, NAME, secondly, Log::default())
        .overlap(Overlap::TerminateOther)
        .create()
        .await
        .unwrap();
    let beside = Beside::start(worker(&engine, graph));
    until(async || !runs(&engine, RunStatus::Completed).await.is_empty()).await;
    engine.pause_schedule(NAME, None).await.unwrap();
    let ended = runs(&engine, RunStatus::Cancelled).await;
    let first = engine.run(ended[0]).await.unwrap();
    assert_eq!(first.steps, 0, "{first:?}");
    let reason = first.error.unwrap();
    assert_eq!(reason["message"], "the next run of its schedule is due");
    let fires = engine.schedule_fires(NAME, 1_000).await.unwrap();
    assert!(
        fires.iter().all(|fire| fire.outcome != FireOutcome::Missed),
        "{fires:?}"
    );
    beside.stop().await;
}

#[tokio::test]
async fn runs_of_a_schedule_are_of_its_queue_and_wait_for_their_place_there() {
    let (engine, graph) = (test_kit::engine().await, graph());
    let queue = Gate::Queue("nightly".to_owned());
    let allow = |max| Allowance {
        max: Some(max),
        ..Allowance::default()
    };
    engine.set_gate(&queue, allow(0)).await.unwrap();
    minutely(&engine, &graph)
        .queue("nightly")
        .create()
        .await
        .unwrap();
    let schedule = engine.get_schedule(NAME).await.unwrap();
    assert_eq!(schedule.queue.as_deref(), Some("nightly"));
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.trigger_schedule(NAME).await.unwrap().run_id.unwrap();
    until(async || {
        let why = engine.why(run).await.unwrap();
        matches!(
            why,
            Why::HeldBack {
                by: HeldBack::Full { .. },
                ..
            }
        )
    })
    .await;
    engine.set_gate(&queue, allow(1)).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    // Replaced without one, the next is of none.
    minutely(&engine, &graph).replace().await.unwrap();
    engine.set_gate(&queue, allow(0)).await.unwrap();
    let run = engine.trigger_schedule(NAME).await.unwrap().run_id.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
}
