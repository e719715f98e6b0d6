use sqlx::{Executor, PgPool, Row, SqlSafeStr};
use velo_agents::domain::project::ProjectStatus;
use velo_agents::domain::tenant::PlanTier;
use velo_agents::domain::{self, LOCAL_TENANT, LOCAL_USER, STATEMENTS, tenant};
use velo_engine::test_kit;

use crate::support::migrated;

const SOURCES: &[&str] = &[
    include_str!("../../src/domain.rs"),
    include_str!("../../src/domain/activity.rs"),
    include_str!("../../src/domain/artifact.rs"),
    include_str!("../../src/domain/project.rs"),
    include_str!("../../src/domain/task.rs"),
    include_str!("../../src/domain/tenant.rs"),
    include_str!("../../src/domain/usage.rs"),
];

#[tokio::test]
async fn postgres_accepts_every_statement() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    for sql in STATEMENTS {
        conn.prepare((*sql).into_sql_str())
            .await
            .unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }
}

#[test]
fn every_statement_is_listed_named_once_and_bound_to_a_tenant() {
    let marks: usize = SOURCES
        .iter()
        .map(|source| source.matches("\n-- velo: ").count())
        .sum();
    assert_eq!(marks, STATEMENTS.len());
    let mut names: Vec<&str> = STATEMENTS
        .iter()
        .map(|sql| sql.lines().next().unwrap())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), STATEMENTS.len());
    for sql in STATEMENTS {
        assert!(sql.starts_with("-- velo: "), "{sql}");
        assert!(
            sql.contains("tenant_id") || sql.contains("velo.tenants"),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn migrating_twice_and_at_the_same_time_is_harmless() {
    let pool = test_kit::database().await;
    let (one, two) = tokio::join!(domain::migrate(&pool), domain::migrate(&pool));
    one.unwrap();
    two.unwrap();
    domain::migrate(&pool).await.unwrap();
    let applied: i64 = sqlx::query_scalar("select count(*) from velo.agency_migrations")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(applied as usize, domain::MIGRATOR.iter().count());
}

#[tokio::test]
async fn the_local_tenant_and_its_user_are_there_from_the_start() {
    let pool = migrated().await;
    let tenant = tenant::get(&pool, LOCAL_TENANT)
        .await
        .unwrap()
        .expect("the migration makes it");
    assert_eq!(
        (tenant.subdomain.as_str(), tenant.plan_tier),
        ("local", PlanTier::Free)
    );
    let role: String =
        sqlx::query_scalar("select role from velo.users where tenant_id = $1 and id = $2")
            .bind(LOCAL_TENANT)
            .bind(LOCAL_USER)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(role, "admin");
}

#[tokio::test]
async fn every_table_carries_the_tenant_or_is_it() {
    let pool = test_kit::database().await;
    domain::migrate(&pool).await.unwrap();
    let without: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables t
         where table_schema = 'velo' and table_name not in ('tenants', 'agency_migrations')
           and not exists (select 1 from information_schema.columns c
                           where c.table_schema = 'velo' and c.table_name = t.table_name
                             and c.column_name = 'tenant_id' and c.is_nullable = 'NO')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(without, Vec::<String>::new());
}

#[tokio::test]
async fn statuses_in_code_are_those_that_the_database_allows() {
    let pool = migrated().await;
    for (table, names) in [
        (
            "projects",
            names::<ProjectStatus>(&["planning", "in_progress", "completed", "archived", "failed"]),
        ),
        (
            "tasks",
            names::<domain::task::TaskStatus>(&[
                "pending",
                "in_progress",
                "completed",
                "failed",
                "pending_review",
                "blocked",
                "cancelled",
            ]),
        ),
        (
            "agent_activities",
            names::<domain::activity::ActivityStatus>(&[
                "started",
                "in_progress",
                "completed",
                "failed",
            ]),
        ),
    ] {
        let check: String = sqlx::query_scalar(
            "select pg_get_constraintdef(oid) from pg_constraint
             where conrelid = ('velo.' || $1)::regclass and conname = $1 || '_status_check'",
        )
        .bind(table)
        .fetch_one(&pool)
        .await
        .unwrap();
        for name in &names {
            assert!(
                check.contains(&format!("'{name}'")),
                "{table} lacks {name}: {check}"
            );
        }
        assert_eq!(
            check.matches("::text").count(),
            names.len(),
            "{table} allows more: {check}"
        );
    }
}

/// The names, once each was read as a `T`.
fn names<T: serde::de::DeserializeOwned>(names: &[&str]) -> Vec<String> {
    for name in names {
        serde_json::from_value::<T>((*name).into())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The plan of a listed statement, as it is when no parameter is known.
async fn generic_plan(pool: &PgPool, name: &str, arguments: &str) -> String {
    let sql = STATEMENTS
        .iter()
        .find(|sql| sql.starts_with(&format!("-- velo: {name}\n")))
        .unwrap();
    let mut conn = pool.acquire().await.unwrap();
    for setting in [
        "deallocate all",
        "set plan_cache_mode = force_generic_plan",
        "set enable_seqscan = off",
        "set enable_sort = off",
    ] {
        conn.execute(setting).await.unwrap();
    }
    let prepare = format!("prepare listed as {sql}");
    conn.execute(sqlx::AssertSqlSafe(prepare)).await.unwrap();
    let explain = format!("explain execute listed ({arguments})");
    let rows = conn.fetch_all(sqlx::AssertSqlSafe(explain)).await.unwrap();
    rows.iter()
        .map(|row| row.get::<String, _>(0))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn every_list_is_read_from_its_index_and_never_sorted() {
    let pool = migrated().await;
    for (list, arguments, index) in [
        ("project.list", "null, null, null, 10", "projects_newest"),
        ("task.list", "null, null, null, null, 10", "tasks_in_order"),
        (
            "artifact.list",
            "null, null, null, null, 10",
            "artifacts_oldest",
        ),
        (
            "activity.list",
            "null, null, null, null, 10",
            "agent_activities_newest",
        ),
    ] {
        let plan = generic_plan(&pool, list, arguments).await;
        assert!(plan.contains(index), "{list}\n{plan}");
        assert!(!plan.contains("Sort"), "{list}\n{plan}");
        let position = plan
            .lines()
            .find(|line| line.contains("Index Cond"))
            .unwrap_or_default();
        assert!(
            position.contains("ROW("),
            "the position is not part of the index condition of {list}\n{plan}"
        );
    }
}
