use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use velo_agents::domain::ArtifactId;
use velo_agents::domain::artifact::{self, Artifact};

use crate::caller::Caller;
use crate::http::{Id, Kind, Problem};
use crate::router::Api;

/// How much of an artifact is handed to the connection at a time, in bytes.
const CHUNK: usize = 64 * 1024;

pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ArtifactId>,
) -> Result<Json<Artifact>, Problem> {
    found(&api, caller, id).await.map(Json)
}

/// Sends the content, which has been read whole before the first byte goes out: what is damaged in
/// the store is answered by a problem, not by a part.
pub(crate) async fn download(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ArtifactId>,
) -> Result<Response, Problem> {
    let artifact = found(&api, caller, id).await?;
    let room = Arc::clone(&api.downloads)
        .acquire_owned()
        .await
        .expect("nobody closes the semaphore");
    let content = api
        .agency
        .blobs()
        .get(&artifact.gcs_path, &artifact.sha256)
        .await?;
    let headers = [
        (CONTENT_TYPE, media_type(&artifact.media_type)),
        (CONTENT_DISPOSITION, disposition(&artifact.file_name)),
        (CONTENT_LENGTH, HeaderValue::from(content.len())),
        // Agents write what people ask for: a browser must neither guess what it is nor show it
        // as a page of this server.
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, in_chunks(Bytes::from(content), room)).into_response())
}

fn in_chunks(content: Bytes, room: OwnedSemaphorePermit) -> Body {
    Body::from_stream(stream::unfold(
        (content, room),
        |(mut rest, room)| async move {
            let length = rest.len().min(CHUNK);
            let chunk = rest.split_to(length);
            (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), (rest, room)))
        },
    ))
}

fn media_type(written: &str) -> HeaderValue {
    HeaderValue::from_str(written)
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// `attachment` with the last part of the artifact's path, in ASCII for old programs and whole for
/// the others (RFC 6266).
fn disposition(path: &str) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain: String = name
        .chars()
        .map(|c| match c {
            ' '..='~' if c != '"' && c != '\\' && c != '%' => c,
            _ => '_',
        })
        .collect();
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all text");
        }
    }
    let value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    HeaderValue::try_from(value).expect("both forms of the name are printable ASCII")
}

async fn found(api: &Api, caller: Caller, id: ArtifactId) -> Result<Artifact, Problem> {
    artifact::get(api.agency.pool(), caller.tenant, id)
        .await?
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no artifact {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_quoted_whatever_it_is() {
        for (path, value) in [
            (
                "PRD.md",
                "attachment; filename=\"PRD.md\"; filename*=UTF-8''PRD.md",
            ),
            (
                "docs/été \"1\".md",
                "attachment; filename=\"_t_ _1_.md\"; filename*=UTF-8''%C3%A9t%C3%A9%20%221%22.md",
            ),
            (
                "a\r\nb",
                "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab",
            ),
        ] {
            assert_eq!(disposition(path), value, "{path:?}");
        }
    }

    #[test]
    fn a_media_type_that_is_no_header_becomes_plain_bytes() {
        assert_eq!(
            media_type("text/markdown; charset=utf-8"),
            "text/markdown; charset=utf-8"
        );
        for broken in ["", "text/html\r\nset-cookie: a=b"] {
            assert_eq!(media_type(broken), "application/octet-stream");
        }
    }
}
