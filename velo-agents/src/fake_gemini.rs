//! A server on this machine that speaks Gemini's wire format, for tests and demonstrations.
//!
//! [`FakeGemini`] answers at both endpoints, with an API key and on Vertex AI, and is the token
//! endpoint and the metadata server besides. It refuses what the real server refuses, answers as
//! it is scripted ([`Script`]) or as a [`Fallback`] says, and writes down every request
//! ([`Received`]): whether a paid call was repeated after a crash is read from there.

mod answer;
mod builder;
mod check;
mod fallback;
mod hold;
mod log;
mod received;
mod refusal;
mod reply;
mod script;
mod scripts;
mod server;
mod tokens;
mod usage;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use serde_json::json;
use tokio::task::JoinHandle;

pub use builder::Builder;
pub use fallback::{Fallback, FromModel};
pub use hold::Hold;
pub use log::MAX_LOGGED;
pub use received::{Endpoint, Method, Outcome, Received};
pub use script::Script;
pub use tokens::{Exchange, Grant};

use crate::model::gemini::{GeminiConfig, Secret};
use server::Shared;

/// The API key that is accepted unless another one is set.
pub const DEFAULT_KEY: &str = "fake-gemini-key";

/// A running server. When this is dropped it stops: it listens no more, breaks the connections of
/// held requests, and closes the others once they are answered.
///
/// ```
/// use velo_agents::fake_gemini::{FakeGemini, Outcome, Script};
/// use velo_agents::model::gemini::Gemini;
/// use velo_agents::model::{ChatModel, ChatRequest, Role, Tier, Turn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let fake = FakeGemini::start().await?;
/// fake.next(Script::answer("hello"));
///
/// let model = Gemini::new(fake.config())?;
/// let request = ChatRequest {
///     agent: "oracle".to_owned(),
///     purpose: "greet".to_owned(),
///     tier: Tier::Flash,
///     system: String::new(),
///     turns: vec![Turn { role: Role::User, text: "say hello".to_owned() }],
///     schema: None,
///     temperature: None,
///     max_output_tokens: 8_192,
/// };
/// let reply = model.complete(&request, &mut |_| ()).await?;
///
/// assert_eq!(reply.text, "hello");
/// assert_eq!(fake.requests()[0].outcome, Outcome::Answered);
/// # Ok(())
/// # }
/// ```
pub struct FakeGemini {
    address: SocketAddr,
    base_url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<io::Result<()>>,
}

impl FakeGemini {
    /// Starts a server on a free port of 127.0.0.1 that accepts [`DEFAULT_KEY`].
    ///
    /// # Errors
    /// [`io::Error`] when there is no port to listen on.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Starts a server at `address` that answers as `fallback` says. To keep it in the foreground,
    /// wait for [`until_stopped`](Self::until_stopped).
    ///
    /// # Errors
    /// [`io::Error`] when the address cannot be listened on.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn serve_on(
        address: SocketAddr,
        fallback: impl Fallback + 'static,
    ) -> io::Result<Self> {
        let builder = Self::builder().address(address).fallback(fallback);
        builder.start().await
    }

    /// A server to be configured first.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Such as `http://127.0.0.1:40000`; for `GEMINI_BASE_URL` and `GOOGLE_VERTEX_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Host and port, for `GCE_METADATA_HOST`.
    #[must_use]
    pub fn metadata_host(&self) -> String {
        self.address.to_string()
    }

    /// A client's configuration for the API-key endpoint of this server.
    #[must_use]
    pub fn config(&self) -> GeminiConfig {
        let mut config = GeminiConfig::with_api_key(Secret::new(&*self.shared.key));
        config.base_url = Some(self.base_url.clone());
        config
    }

    /// The text of a service account's key file that leads to this server.
    #[must_use]
    pub fn service_account_file(&self, email: &str, private_key_pem: &str) -> String {
        json!({
            "type": "service_account",
            "project_id": "fake-project",
            "private_key_id": "fake-key",
            "private_key": private_key_pem,
            "client_email": email,
            "token_uri": format!("{}/token", self.base_url),
        })
        .to_string()
    }

    /// The text of a user's credentials file that leads to this server.
    #[must_use]
    pub fn login_file(&self, client_id: &str, client_secret: &str, refresh_token: &str) -> String {
        json!({
            "type": "authorized_user",
            "client_id": client_id,
            "client_secret": client_secret,
            "refresh_token": refresh_token,
            "token_uri": format!("{}/token", self.base_url),
        })
        .to_string()
    }

    /// Scripts the next request that nothing else is scripted for; several are used in order.
    /// Counting tokens uses up no script.
    pub fn next(&self, script: Script) {
        self.shared.scripts.next(script);
    }

    /// Scripts the next request of `agent` for `purpose`; several are used in order, before
    /// all others.
    pub fn next_of(&self, agent: &str, purpose: &str, script: Script) {
        self.shared.scripts.next_of(agent, purpose, script);
    }

    /// Scripts every request of `agent` for `purpose` that has no script of its own.
    pub fn always_of(&self, agent: &str, purpose: &str, script: Script) {
        self.shared.scripts.always_of(agent, purpose, script);
    }

    /// How many scripts were not used yet; those for always are not counted.
    #[must_use]
    pub fn unused_scripts(&self) -> usize {
        self.shared.scripts.unused()
    }

    /// The requests to models, oldest first: the last [`MAX_LOGGED`].
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.log.requests()
    }

    /// The logged requests that were answered though the same had been answered before: what a
    /// client that forgot an answer pays for twice.
    #[must_use]
    pub fn repeated(&self) -> Vec<Received> {
        let mut answered = BTreeSet::new();
        let mut requests = self.requests();
        requests.retain(|asked| {
            let is_paid = asked.method.is_paid() && asked.outcome == Outcome::Answered;
            is_paid && !answered.insert(asked.fingerprint())
        });
        requests
    }

    /// Waits until `n` requests to models have arrived since the start.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait_for_requests(&self, n: usize) {
        self.shared.log.wait_for(n).await;
    }

    /// Waits until the logged requests are as `is_met` wants them; it is asked again at each change.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait_until(&self, is_met: impl Fn(&[Received]) -> bool) {
        self.shared.log.wait_until(is_met).await;
    }

    /// Lets through every request that is held before its reply. Those that hang are answered with 504.
    pub fn release(&self) {
        self.shared.releases.send_modify(|count| *count += 1);
    }

    /// Takes `token` as good access token for Vertex AI, without an end.
    pub fn accept_token(&self, token: impl Into<String>) {
        self.shared.tokens.accept(token.into());
    }

    /// Revokes every access token that was given out or accepted.
    pub fn revoke_tokens(&self) {
        self.shared.tokens.revoke_all();
    }

    /// The requests for access tokens that were decided, oldest first: the last [`MAX_LOGGED`].
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.tokens.exchanges()
    }

    /// Lets requests for access tokens wait for the returned [`Hold`].
    #[must_use]
    pub fn hold_tokens(&self) -> Hold {
        let hold = Hold::new();
        let mut kept = self
            .shared
            .token_hold
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(hold.clone());
        hold
    }

    /// Answers the next `requests` for access tokens with 503.
    pub fn fail_tokens(&self, requests: usize) {
        self.shared
            .token_failures
            .store(requests, Ordering::Relaxed);
    }

    /// Serves until the listener fails, which is never in good times.
    ///
    /// # Errors
    /// [`io::Error`] of the listener.
    ///
    /// # Cancel safety
    /// The server stops when this future is dropped.
    pub async fn until_stopped(mut self) -> io::Result<()> {
        (&mut self.serving).await.map_err(io::Error::other)?
    }
}

impl std::fmt::Debug for FakeGemini {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeGemini")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Drop for FakeGemini {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
    }
}
