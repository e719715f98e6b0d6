//! What every request and answer has in common, whatever it is about.

mod answer;
mod body;
mod connections;
mod id;
mod origin;
mod paging;
mod problem;

use std::time::Duration;

use axum::http::{Method, Uri};

pub(crate) use answer::answer;
pub(crate) use body::JsonBody;
pub(crate) use connections::Counted;
pub(crate) use id::Id;
pub(crate) use origin::same_origin;
pub(crate) use paging::Paging;
pub(crate) use problem::{Kind, Problem};

/// The longest body of a request, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// The most connections that are open at once; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 1_024;

/// The most artifacts that are downloaded at once, because each is whole in memory meanwhile.
pub const MAX_DOWNLOADS: usize = 16;

/// How long a request may take until its answer begins.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);

pub(crate) async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(
        Kind::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Kind::MethodNotAllowed,
        format!(
            "{method} is not possible at {}: see the header `allow` for what is",
            uri.path()
        ),
    )
}
