use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use velo_agents::domain::{Cursor, PageRequest};

use super::{Kind, Problem};

/// The part of a list that is asked for: `?after=<cursor>&limit=<rows>`.
#[derive(Debug)]
pub(crate) struct Paging(pub(crate) PageRequest);

#[derive(Deserialize)]
struct Parameters {
    after: Option<String>,
    limit: Option<u32>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Parameters>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(Kind::Malformed, error.body_text()))?;
        let after = parameters.after.as_deref().map(str::parse::<Cursor>);
        let after = after
            .transpose()
            .map_err(|error| Problem::new(Kind::Malformed, error.to_string()))?;
        Ok(Self(PageRequest::new(parameters.limit, after)))
    }
}
