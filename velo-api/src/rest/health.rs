use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::time::timeout;

use crate::http::{Kind, Problem};
use crate::router::Api;

/// How long the database may take to answer.
const DATABASE_TIME: Duration = Duration::from_secs(2);

const CHECK: &str = "\
-- velo: api.health
select 1";

#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
}

pub(crate) async fn show(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    match timeout(DATABASE_TIME, sqlx::query(CHECK).execute(api.agency.pool())).await {
        Ok(Ok(_)) => Ok(Json(Health { status: "ok" })),
        Ok(Err(error)) => Err(Problem::unavailable(
            "the database refuses to answer: see the log for its reason",
            error,
        )),
        Err(_) => Err(Problem::new(
            Kind::Unavailable,
            format!(
                "the database did not answer within {} s",
                DATABASE_TIME.as_secs()
            ),
        )),
    }
}
