//! The usage log: every call of a model, with its tokens and its price.

use serde::Serialize;
use sqlx::{PgConnection, PgExecutor};

use super::{ProjectId, StoreError, TenantId, UsageId, UserId};

/// One call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUsage {
    /// Names the call: the idempotency key of the step that made it. One key is one row.
    pub call_key: String,
    /// The project that it was made for, if it was one.
    pub project: Option<ProjectId>,
    /// The person on whose behalf, if known.
    pub user: Option<UserId>,
    /// The agent that asked, not empty.
    pub agent_name: String,
    /// What it asked for, such as `draft_prd`; not empty.
    pub action_type: String,
    /// Tokens of the request.
    pub input_tokens: i64,
    /// Tokens generated.
    pub output_tokens: i64,
    /// Price in US dollars, kept to eight decimals.
    pub cost_usd: f64,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// Whether rules answered rather than a model.
    pub offline: bool,
    /// The engine's run.
    pub run_id: Option<i64>,
}

/// What a project has consumed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, sqlx::FromRow)]
pub struct UsageTotal {
    /// Calls of models.
    pub calls: i64,
    /// Of these, calls that rules answered.
    pub offline_calls: i64,
    /// Tokens of the requests.
    pub input_tokens: i64,
    /// Tokens generated.
    pub output_tokens: i64,
    /// Both together.
    pub tokens_used: i64,
    /// Price in US dollars.
    pub cost_usd: f64,
}

pub(super) const RECORD: &str = "\
-- velo: usage.record
insert into velo.usage_logs (id, tenant_id, project_id, user_id, agent_name, action_type,
                             input_tokens, output_tokens, cost_usd, model, offline, run_id, call_key)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9::float8::numeric, $10, $11, $12, $13)
on conflict (tenant_id, call_key) do nothing";

/// Writes a call into the log; says whether it was not there yet.
///
/// # Errors
/// [`StoreError`] when the statement fails, as it does for a project of another tenant or a price
/// that is no number.
///
/// # Cancel safety
/// Part of the caller's transaction.
pub async fn record(
    conn: &mut PgConnection,
    tenant: TenantId,
    new: &NewUsage,
) -> Result<bool, StoreError> {
    let done = sqlx::query(RECORD)
        .bind(UsageId::named(tenant.0, &new.call_key))
        .bind(tenant)
        .bind(new.project)
        .bind(new.user)
        .bind(&new.agent_name)
        .bind(&new.action_type)
        .bind(new.input_tokens)
        .bind(new.output_tokens)
        .bind(new.cost_usd)
        .bind(&new.model)
        .bind(new.offline)
        .bind(new.run_id)
        .bind(&new.call_key)
        .execute(conn)
        .await
        .map_err(StoreError::while_doing("record the model's usage"))?;
    Ok(done.rows_affected() == 1)
}

pub(super) const TOTAL: &str = "\
-- velo: usage.total
select count(*) as calls,
       count(*) filter (where offline) as offline_calls,
       coalesce(sum(input_tokens), 0)::bigint as input_tokens,
       coalesce(sum(output_tokens), 0)::bigint as output_tokens,
       coalesce(sum(tokens_used), 0)::bigint as tokens_used,
       coalesce(sum(cost_usd), 0)::float8 as cost_usd
from velo.usage_logs
where tenant_id = $1
  and project_id = $2";

/// Adds up what a project has consumed; zeros when there was no call.
///
/// # Errors
/// [`StoreError`] when the query fails.
///
/// # Cancel safety
/// Reads only.
pub async fn total(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    project: ProjectId,
) -> Result<UsageTotal, StoreError> {
    sqlx::query_as(TOTAL)
        .bind(tenant)
        .bind(project)
        .fetch_one(db)
        .await
        .map_err(StoreError::while_doing("add up the project's usage"))
}
