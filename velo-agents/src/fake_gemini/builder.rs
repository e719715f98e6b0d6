//! A fake server before it is started.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::serve::ListenerExt;
use jsonwebtoken::DecodingKey;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::fallback::{Fallback, Unscripted};
use super::log::Log;
use super::scripts::Scripts;
use super::server::{self, Shared};
use super::tokens::{Account, Accounts, Login, Tokens};
use super::{DEFAULT_KEY, FakeGemini};

/// How long access tokens are good, unless it is said otherwise.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// Settings of a [`FakeGemini`]; [`start`](Self::start) starts it.
pub struct Builder {
    address: SocketAddr,
    key: String,
    models: Vec<String>,
    fallback: Box<dyn Fallback>,
    accounts: Accounts,
    token_lifetime: Duration,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            key: DEFAULT_KEY.to_owned(),
            models: Vec::new(),
            fallback: Box::new(Unscripted),
            accounts: Accounts::default(),
            token_lifetime: TOKEN_LIFETIME,
        }
    }

    /// Where to listen; a free port of 127.0.0.1 unless set. Whoever reaches another address than
    /// a loopback one can use the server: it is no more than a demonstration.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The API key that is accepted; [`DEFAULT_KEY`] unless set.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Serves the model `id` too, though [`price`](crate::model::price) does not list it or says
    /// that it is retired.
    #[must_use]
    pub fn serve_model(mut self, id: impl Into<String>) -> Self {
        self.models.push(id.into());
        self
    }

    /// What answers when no script does. Unless set, such requests are refused with 400.
    #[must_use]
    pub fn fallback(mut self, fallback: impl Fallback + 'static) -> Self {
        self.fallback = Box::new(fallback);
        self
    }

    /// Gives tokens to the service account `email` for statements that are signed with the
    /// private key of `public_key_pem`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when that is no RSA public key in PEM form.
    pub fn service_account(
        mut self,
        email: impl Into<String>,
        public_key_pem: &str,
    ) -> io::Result<Self> {
        let key = DecodingKey::from_rsa_pem(public_key_pem.as_bytes())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.accounts.service_account = Some(Account {
            email: email.into(),
            key,
        });
        Ok(self)
    }

    /// Gives tokens to the user with this login.
    #[must_use]
    pub fn login(
        mut self,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
        refresh_token: impl Into<String>,
    ) -> Self {
        self.accounts.login = Some(Login {
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            refresh_token: refresh_token.into(),
        });
        self
    }

    /// How long access tokens are good, in whole seconds; an hour unless set.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// [`io::Error`] when the address cannot be listened on.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn start(self) -> io::Result<FakeGemini> {
        let listener = TcpListener::bind(self.address).await?;
        let address = listener.local_addr()?;
        let base_url = format!("http://{address}");
        let shared = Arc::new(Shared {
            key: self.key,
            models: self.models,
            log: Arc::new(Log::default()),
            scripts: Scripts::default(),
            fallback: self.fallback,
            tokens: Tokens::new(
                self.accounts,
                format!("{base_url}/token"),
                self.token_lifetime,
            ),
            token_hold: Mutex::new(None),
            token_failures: AtomicUsize::new(0),
            releases: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        });
        let router = server::router(Arc::clone(&shared));
        // Replies are many small pieces: each would wait for the one before to be acknowledged.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection of the fake server is slower than it could be");
            }
        });
        let stopped = server::stopped(shared.stopping.subscribe());
        let serving = tokio::spawn(async move {
            let serve = axum::serve(listener, router);
            serve.with_graceful_shutdown(stopped).await
        });
        Ok(FakeGemini {
            address,
            base_url,
            shared,
            serving,
        })
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
