//! A role that owns nothing: what it must be granted, and that it needs no more.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;
use velo_engine::prelude::*;
use velo_engine::{Grade, examine, test_kit};

use super::support::{Beside, Log, line, settled, worker};

const WORK: NodeKey<Log> = NodeKey::new("work");
const REST: NodeKey<Log> = NodeKey::new("rest");

fn graph() -> Graph<Log> {
    let work = async |cx: Context<Log>| {
        let kept: String = cx
            .step("keep", async |_| Ok::<_, NodeError>("kept".to_owned()))
            .await?;
        cx.emit("worked", &kept)?;
        Ok(line(kept).into())
    };
    let rest = async |cx: Context<Log>| {
        cx.sleep("rest", Duration::from_millis(1)).await?;
        let word: String = cx.signal("word").await?;
        Ok(line(word).into())
    };
    Graph::builder("role", 1)
        .node(WORK, work)
        .node(REST, rest)
        .start(WORK)
        .edge(WORK, REST)
        .compile()
        .unwrap()
}

/// What docs/operating.md says that a role needs.
const GRANTS: &[&str] = &[
    "grant usage on schema velo to {role}",
    "grant select, insert, update, delete on all tables in schema velo to {role}",
    "grant usage on all sequences in schema velo to {role}",
];

async fn role(owner: &PgPool) -> String {
    let role = format!("velo_role_{}", Uuid::new_v4().simple());
    run(owner, &format!("create role {role} login password 'r'")).await;
    role
}

async fn run(owner: &PgPool, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(owner)
        .await
        .unwrap();
}

async fn pool_of(owner: &PgPool, role: &str) -> PgPool {
    let options: PgConnectOptions = (*owner.connect_options()).clone();
    let options = options.username(role).password("r");
    PgPoolOptions::new()
        .max_connections(8)
        .connect_with(options)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_role_with_no_more_than_the_documented_grants_starts_runs_and_works_on_them() {
    let owner = test_kit::engine().await;
    let role = role(owner.pool()).await;
    for grant in GRANTS {
        run(owner.pool(), &grant.replace("{role}", &role)).await;
    }
    let engine = Engine::connect(pool_of(owner.pool(), &role).await);
    let graph = graph();
    let beside = Beside::start(worker(&engine, graph.clone()));
    let run = engine.start(&graph, Log::default()).await.unwrap();
    engine.signal(run, "word", &"said", None).await.unwrap();
    assert_eq!(settled(&engine, run).await.status, RunStatus::Completed);
    let log: Log = engine.state(run).await.unwrap();
    assert_eq!(log.lines, ["kept", "said"]);
    beside.stop().await;
    let findings = examine(engine.pool()).await.unwrap();
    let privileges = findings.iter().find(|it| it.check == "privileges");
    assert_eq!(privileges.unwrap().grade, Grade::Fine, "{findings:?}");
}

#[tokio::test]
async fn a_role_without_them_is_told_which_tables_it_may_not_use() {
    let owner = test_kit::engine().await;
    let role = role(owner.pool()).await;
    for grant in GRANTS {
        run(owner.pool(), &grant.replace("{role}", &role)).await;
    }
    run(
        owner.pool(),
        &format!("revoke insert on velo.step from {role}"),
    )
    .await;
    let pool = pool_of(owner.pool(), &role).await;
    let findings = examine(&pool).await.unwrap();
    let privileges = findings.iter().find(|it| it.check == "privileges").unwrap();
    assert_eq!(privileges.grade, Grade::Unsafe, "{findings:?}");
    assert!(privileges.found.ends_with("write step"), "{privileges:?}");
}
