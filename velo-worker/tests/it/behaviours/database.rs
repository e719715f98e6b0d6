//! What a run does when the database is slow or refuses something.

use velo_engine::prelude::*;
use velo_engine::{EngineError, RunStatus, test_kit};

use super::support::{Sum, line, lines, reason, serve};
use crate::support::{settled, until};

const ONE: NodeKey<Sum> = NodeKey::new("one");
const TWO: NodeKey<Sum> = NodeKey::new("two");

/// Two nodes in a row, the second of which ends only when it is no longer wanted.
fn graph() -> Graph<Sum> {
    Graph::builder("stored", 1)
        .node(ONE, async |_: Context<Sum>| Ok(line("one")))
        .node(TWO, async |cx: Context<Sum>| {
            cx.cancelled().await;
            Ok(line("two"))
        })
        .start(ONE)
        .edge(ONE, TWO)
        .compile()
        .unwrap()
}

/// Two nodes side by side.
fn pair() -> Graph<Sum> {
    Graph::builder("pair", 1)
        .node(ONE, async |_: Context<Sum>| Ok(line("one")))
        .node(TWO, async |_: Context<Sum>| Ok(line("two")))
        .start(ONE)
        .start(TWO)
        .compile()
        .unwrap()
}

async fn execute(engine: &Engine, statement: &'static str) {
    sqlx::raw_sql(statement)
        .execute(engine.pool())
        .await
        .unwrap();
}

/// B39: a step whose commit is under way when its run is cancelled is committed, whole.
#[tokio::test]
async fn a_commit_that_is_under_way_when_its_run_is_cancelled_completes() {
    let engine = test_kit::engine().await;
    execute(
        &engine,
        "create function hold() returns trigger language plpgsql as $$
         begin perform pg_advisory_xact_lock(39); return new; end $$;
         create trigger hold before insert on velo.step for each row
         when (new.seq > 0) execute function hold()",
    )
    .await;
    let graph = graph();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    let mut holder = engine.pool().begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(39)")
        .execute(&mut *holder)
        .await
        .unwrap();
    let beside = serve(&engine, graph);
    let waiting = "select exists (select from pg_locks where locktype = 'advisory' \
                   and objid = 39 and not granted)";
    until(async || {
        let is_held: bool = sqlx::query_scalar(waiting)
            .fetch_one(engine.pool())
            .await
            .unwrap();
        is_held
    })
    .await;
    let cancelling = tokio::spawn({
        let engine = engine.clone();
        async move { engine.cancel(run).await.unwrap() }
    });
    holder.commit().await.unwrap();
    assert!(cancelling.await.unwrap());
    assert_eq!(settled(&engine, run).await.status, RunStatus::Cancelled);
    assert_eq!(engine.state::<Sum>(run).await.unwrap().lines, ["one"]);
    assert_eq!(engine.run(run).await.unwrap().steps, 1);
    beside.stop().await;
}

/// B41: a start that cannot be written is an error of who started it.
#[tokio::test]
async fn a_start_that_the_database_refuses_is_an_error_and_starts_nothing() {
    let engine = test_kit::engine().await;
    execute(&engine, REFUSE).await;
    execute(
        &engine,
        "create trigger refuse before insert on velo.step for each row execute function refuse()",
    )
    .await;
    let graph = graph();
    let refused = engine.start(&graph, Sum::default()).await.unwrap_err();
    assert!(
        matches!(&refused, EngineError::Database { source, .. } if source.to_string().contains("no more")),
        "{refused:?}"
    );
    assert_eq!(engine.unfinished(None, 10).await.unwrap(), []);
}

const REFUSE: &str = "\
create function refuse() returns trigger language plpgsql as $$
begin raise exception 'no more of this'; end $$";

/// B41: a step, or the outcome of a branch, that cannot be written has the run paused with the reason, and it
/// goes on when the reason is gone.
#[tokio::test]
async fn a_write_that_the_database_refuses_pauses_the_run_with_the_reason() {
    let triggers = [
        "create trigger refuse before insert on velo.step for each row \
         when (new.seq > 0) execute function refuse()",
        "create trigger refuse before insert on velo.outcome for each row \
         execute function refuse()",
    ];
    for trigger in triggers {
        let engine = test_kit::engine().await;
        execute(&engine, REFUSE).await;
        execute(&engine, trigger).await;
        let graph = pair();
        let run = engine.start(&graph, Sum::default()).await.unwrap();
        let beside = serve(&engine, graph);
        assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
        let told = reason(&engine, run).await;
        assert!(told.contains("no more of this"), "{trigger}: {told}");
        execute(&engine, "drop function refuse() cascade").await;
        assert!(engine.resume(run).await.unwrap());
        assert_eq!(lines(&engine, run).await, ["one", "two"]);
        beside.stop().await;
    }
}

/// B41: a state that cannot be read back is an error of who asks for it, and pauses the run.
#[tokio::test]
async fn a_state_that_cannot_be_read_back_is_an_error_and_pauses_the_run() {
    let engine = test_kit::engine().await;
    let graph = graph();
    let run = engine.start(&graph, Sum::default()).await.unwrap();
    execute(&engine, "update velo.step set snapshot = '{\"lines\": 7}'").await;
    let unreadable = engine.state::<Sum>(run).await;
    assert!(
        matches!(unreadable, Err(EngineError::Unreadable { .. })),
        "{unreadable:?}"
    );
    let beside = serve(&engine, graph);
    assert_eq!(settled(&engine, run).await.status, RunStatus::Paused);
    let told = reason(&engine, run).await;
    assert!(told.contains("did its type change?"), "{told}");
    beside.stop().await;
}
