//! A database for each test, and the rows that most tests begin with.

use sqlx::{PgConnection, PgPool};
use velo_agents::domain::project::{self, NewProject, Project};
use velo_agents::domain::{self, LOCAL_TENANT, LOCAL_USER, ProjectId, TenantId, UserId};
use velo_engine::test_kit;

/// A database with the agency's tables, and the engine's, which some of its statements read.
pub(crate) async fn migrated() -> PgPool {
    let pool = test_kit::database().await;
    velo_engine::migrate(&pool).await.unwrap();
    domain::migrate(&pool).await.unwrap();
    pool
}

/// A project of the local tenant.
pub(crate) async fn project(conn: &mut PgConnection) -> Project {
    project::create(conn, &new_project("Shop")).await.unwrap()
}

/// A project of the local tenant, not made yet.
pub(crate) fn new_project(name: &str) -> NewProject {
    NewProject {
        id: ProjectId::new(),
        tenant: LOCAL_TENANT,
        user: LOCAL_USER,
        name: name.to_owned(),
        description: "a shop for tea".to_owned(),
        brief: "Make me a shop for tea, please".to_owned(),
        run_id: Some(7),
    }
}

/// A second tenant with one user.
pub(crate) async fn other_tenant(pool: &PgPool) -> (TenantId, UserId) {
    let (tenant, user) = (TenantId::new(), UserId::new());
    sqlx::query(
        "insert into velo.tenants (id, company_name, subdomain) values ($1, 'Other', 'other')",
    )
    .bind(tenant)
    .execute(pool)
    .await
    .unwrap();
    sqlx::query("insert into velo.users (id, tenant_id, email) values ($1, $2, 'a@other.example')")
        .bind(user)
        .bind(tenant)
        .execute(pool)
        .await
        .unwrap();
    (tenant, user)
}
