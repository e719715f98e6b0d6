//! What answers when no script does.

use std::sync::Arc;

use async_trait::async_trait;

use super::received::Received;
use crate::model::{ChatModel, ModelError, ModelErrorKind};

/// Answers the requests that no [`Script`](super::Script) was given for. Closures do, and so does
/// [`FromModel`].
#[async_trait]
pub trait Fallback: Send + Sync {
    /// The text of the reply.
    ///
    /// # Errors
    /// [`ModelError`], sent to the client as the HTTP error that means the same.
    ///
    /// # Cancel safety
    /// Dropped when the client goes: an answer that was begun is nobody's then.
    async fn answer(&self, request: &Received) -> Result<String, ModelError>;
}

#[async_trait]
impl<F> Fallback for F
where
    F: Fn(&Received) -> Result<String, ModelError> + Send + Sync,
{
    async fn answer(&self, request: &Received) -> Result<String, ModelError> {
        self(request)
    }
}

/// Lets another model answer, such as the offline one.
#[derive(Debug, Clone)]
pub struct FromModel(pub Arc<dyn ChatModel>);

#[async_trait]
impl Fallback for FromModel {
    async fn answer(&self, request: &Received) -> Result<String, ModelError> {
        let asked = request.chat_request();
        let reply = self.0.complete(&asked, &mut |_| ()).await?;
        Ok(reply.text)
    }
}

/// Refuses, so that a test sees what it forgot to script.
pub(super) struct Unscripted;

#[async_trait]
impl Fallback for Unscripted {
    async fn answer(&self, request: &Received) -> Result<String, ModelError> {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
        Err(ModelError::new(
            ModelErrorKind::BadRequest,
            format!(
                "no script is left for request {} of {} for {}: give the fake one, or a fallback",
                request.n,
                name(&request.agent),
                name(&request.purpose)
            ),
        ))
    }
}
