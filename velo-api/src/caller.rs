//! Who makes a request: the one place that sign-in will replace.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use velo_agents::domain::{LOCAL_TENANT, LOCAL_USER, TenantId, UserId};

/// The person behind a request, and the tenant whose rows it may see. Without sign-in it is always
/// the local user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self {
            tenant: LOCAL_TENANT,
            user: LOCAL_USER,
        })
    }
}
