//! Access tokens: who gets one, and which are good.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use uuid::Uuid;

use super::log::MAX_LOGGED;
use crate::model::gemini::auth::SCOPE;

/// Most tokens that are good at a time.
const MAX_TOKENS: usize = 1_000;
/// Longest life of a signed statement, in seconds.
const MAX_STATEMENT_SECONDS: u64 = 3_600;
/// How far the signer's clock may be ahead, in seconds.
const CLOCK_SKEW_SECONDS: u64 = 60;
/// The grant of a service account's signed statement.
const STATEMENT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A way to get an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant {
    /// A service account's signed statement.
    ServiceAccount,
    /// A user's refresh token.
    RefreshToken,
    /// The metadata server.
    Metadata,
    /// Something else, which is always refused.
    Unknown,
}

/// A request for an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// How it was asked for.
    pub grant: Grant,
    /// The OAuth error code of the refusal; `None` when a token was given.
    pub refused: Option<String>,
}

/// Who may have tokens.
#[derive(Default)]
pub(super) struct Accounts {
    pub(super) service_account: Option<Account>,
    pub(super) login: Option<Login>,
}

pub(super) struct Account {
    pub(super) email: String,
    pub(super) key: DecodingKey,
}

pub(super) struct Login {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) refresh_token: String,
}

/// Gives tokens out and knows which are good.
pub(super) struct Tokens {
    accounts: Accounts,
    /// What a statement must be addressed to.
    token_url: String,
    pub(super) lifetime: Duration,
    issued: Mutex<Issued>,
}

#[derive(Default)]
struct Issued {
    /// Each with its end, if it has one.
    good: VecDeque<(String, Option<Instant>)>,
    exchanges: VecDeque<Exchange>,
}

/// Why no token is given: a status and an OAuth error code with its description.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) description: &'static str,
}

#[derive(Deserialize)]
struct Statement {
    scope: Option<String>,
    iat: u64,
    exp: u64,
}

impl Tokens {
    pub(super) fn new(accounts: Accounts, token_url: String, lifetime: Duration) -> Self {
        Self {
            accounts,
            token_url,
            lifetime,
            issued: Mutex::default(),
        }
    }

    /// Decides about a form that was sent to the token endpoint.
    pub(super) fn exchange(&self, form: &HashMap<String, String>) -> Result<String, Denied> {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let (grant, decided) = match field("grant_type") {
            STATEMENT_GRANT => (
                Grant::ServiceAccount,
                self.check_statement(field("assertion")),
            ),
            "refresh_token" => (Grant::RefreshToken, self.check_login(&field)),
            _ => (
                Grant::Unknown,
                Err(denied(400, "unsupported_grant_type", "Invalid grant_type")),
            ),
        };
        self.decide(grant, decided)
    }

    /// A token for the machine itself.
    pub(super) fn of_machine(&self) -> String {
        self.decide(Grant::Metadata, Ok(()))
            .expect("nothing was denied")
    }

    /// Takes `token` as good, without an end.
    pub(super) fn accept(&self, token: String) {
        self.add(token, None);
    }

    pub(super) fn revoke_all(&self) {
        self.lock().good.clear();
    }

    pub(super) fn is_good(&self, token: &str, now: Instant) -> bool {
        self.lock()
            .good
            .iter()
            .any(|(good, end)| good == token && end.is_none_or(|end| now < end))
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.lock().exchanges.iter().cloned().collect()
    }

    fn check_statement(&self, statement: &str) -> Result<(), Denied> {
        let Some(account) = &self.accounts.service_account else {
            return Err(denied(
                400,
                "invalid_grant",
                "Invalid grant: account not found",
            ));
        };
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_audience(&[&self.token_url]);
        rules.set_issuer(&[&account.email]);
        rules.set_required_spec_claims(&["iss", "aud", "exp"]);
        let read = jsonwebtoken::decode::<Statement>(statement, &account.key, &rules);
        let Ok(read) = read else {
            return Err(denied(400, "invalid_grant", "Invalid JWT Signature."));
        };
        let Statement { scope, iat, exp } = read.claims;
        let now = jsonwebtoken::get_current_timestamp();
        if iat > now + CLOCK_SKEW_SECONDS || exp > iat.saturating_add(MAX_STATEMENT_SECONDS) {
            return Err(denied(
                400,
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
            ));
        }
        let scopes = scope.unwrap_or_default();
        if scopes.split(' ').any(|scope| scope == SCOPE) {
            return Ok(());
        }
        Err(denied(
            400,
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
        ))
    }

    fn check_login<'a>(&self, field: &impl Fn(&str) -> &'a str) -> Result<(), Denied> {
        let Some(login) = &self.accounts.login else {
            return Err(denied(
                401,
                "invalid_client",
                "The OAuth client was not found.",
            ));
        };
        if field("client_id") != login.client_id || field("client_secret") != login.client_secret {
            return Err(denied(401, "invalid_client", "Unauthorized"));
        }
        if field("refresh_token") != login.refresh_token {
            return Err(denied(
                400,
                "invalid_grant",
                "Token has been expired or revoked.",
            ));
        }
        Ok(())
    }

    fn decide(&self, grant: Grant, decided: Result<(), Denied>) -> Result<String, Denied> {
        {
            let mut issued = self.lock();
            if issued.exchanges.len() == MAX_LOGGED {
                issued.exchanges.pop_front();
            }
            issued.exchanges.push_back(Exchange {
                grant,
                refused: decided.as_ref().err().map(|denied| denied.code.to_owned()),
            });
        }
        decided?;
        let token = format!("fake-access-token-{}", Uuid::new_v4().simple());
        self.add(token.clone(), Instant::now().checked_add(self.lifetime));
        Ok(token)
    }

    fn add(&self, token: String, end: Option<Instant>) {
        let mut issued = self.lock();
        if issued.good.len() == MAX_TOKENS {
            issued.good.pop_front();
        }
        issued.good.push_back((token, end));
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn denied(status: u16, code: &'static str, description: &'static str) -> Denied {
    Denied {
        status,
        code,
        description,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_its_end_or_until_it_is_revoked() {
        let lifetime = Duration::from_secs(60);
        let tokens = Tokens::new(Accounts::default(), String::new(), lifetime);
        let token = tokens.of_machine();
        let now = Instant::now();
        assert!(tokens.is_good(&token, now));
        assert!(!tokens.is_good(&token, now + lifetime));
        assert!(!tokens.is_good("another", now));
        tokens.revoke_all();
        assert!(!tokens.is_good(&token, now));
    }

    #[test]
    fn the_oldest_token_ends_at_the_limit() {
        let tokens = Tokens::new(Accounts::default(), String::new(), Duration::ZERO);
        for n in 0..=MAX_TOKENS {
            tokens.accept(n.to_string());
        }
        let now = Instant::now();
        assert!(!tokens.is_good("0", now) && tokens.is_good("1", now));
    }
}
