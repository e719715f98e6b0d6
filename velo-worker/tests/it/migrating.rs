use std::time::Duration;

use futures::future::join_all;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use velo_engine::prelude::*;
use velo_engine::{RunStatus, migrate, pending, test_kit};

use crate::support::{Beside, Log, line, settled, worker};

const ONLY: NodeKey<Log> = NodeKey::new("only");

/// Whether runs can be started and worked on.
async fn works(pool: &PgPool) {
    assert!(pending(pool).await.unwrap().is_empty());
    let engine = Engine::connect(pool.clone());
    let graph = Graph::builder("one", 1)
        .node(ONLY, async |_: Context<Log>| Ok(line("done").into()))
        .start(ONLY)
        .compile()
        .unwrap();
    let run = engine.start(&graph, Log::default()).await.unwrap();
    let beside = Beside::start(worker(&engine, graph));
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    beside.stop().await;
}

#[tokio::test]
async fn of_six_that_migrate_at_once_one_does_and_the_others_wait() {
    let url = test_kit::database_url().await;
    let pools =
        join_all((0..6).map(|_| PgPoolOptions::new().max_connections(2).connect(&url))).await;
    let pools: Vec<PgPool> = pools.into_iter().map(Result::unwrap).collect();
    for migrated in join_all(pools.iter().map(migrate)).await {
        migrated.unwrap();
    }
    works(&test_pool(&url).await).await;
}

#[tokio::test]
async fn a_migration_that_dies_anywhere_is_finished_by_the_next_start() {
    let url = test_kit::database_url().await;
    let mut killer = PgConnection::connect(&url).await.unwrap();
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()";
    let mut deaths = 0;
    // A little later each time, until it comes through.
    for patience in (1..).map(|turn| Duration::from_millis(4 * turn)) {
        let pool = test_pool(&url).await;
        let migrating = migrate(&pool);
        let died = tokio::select! {
            migrated = migrating => { migrated.unwrap(); false }
            () = tokio::time::sleep(patience) => true,
        };
        if !died {
            break;
        }
        deaths += 1;
        // Its session may still be at work on what it was asked.
        sqlx::query(kill).execute(&mut killer).await.unwrap();
    }
    assert!(deaths > 0, "it was never struck");
    works(&test_pool(&url).await).await;
}

#[tokio::test]
async fn a_program_starts_on_tables_that_a_later_one_has_migrated() {
    let pool = test_kit::database().await;
    migrate(&pool).await.unwrap();
    let later =
        "insert into velo.migrations (version, description, success, checksum, execution_time)
                 values (9999, 'later', true, '\\x00', 0)";
    sqlx::query(later).execute(&pool).await.unwrap();
    migrate(&pool).await.unwrap();
    works(&pool).await;
}

async fn test_pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(10)
        .connect(url)
        .await
        .unwrap()
}
