//! A tenant: one company, whose rows no other company sees.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{StoreError, TenantId, UserId};

/// The tenant of an installation without sign-in. The migration creates it.
pub const LOCAL_TENANT: TenantId =
    TenantId(Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0001));

/// The only user of [`LOCAL_TENANT`], an admin. The migration creates it.
pub const LOCAL_USER: UserId = UserId(Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0002));

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// The company's name.
    pub company_name: String,
    /// Its part of the host name, unique.
    pub subdomain: String,
    /// What it pays for.
    pub plan_tier: PlanTier,
    /// Settings of the tenant, an object.
    pub settings: serde_json::Value,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What a tenant pays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum PlanTier {
    /// Nothing.
    Free,
    /// The usual plan.
    Pro,
    /// A plan by contract.
    Enterprise,
}

pub(super) const GET: &str = "\
-- velo: tenant.get
select id, company_name, subdomain, plan_tier, settings, created_at, updated_at
from velo.tenants
where id = $1";

/// Reads a tenant; `None` when there is no such one.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn get(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<Option<Tenant>, StoreError> {
    sqlx::query_as(GET)
        .bind(tenant)
        .fetch_optional(db)
        .await
        .map_err(StoreError::while_doing("read the tenant"))
}
