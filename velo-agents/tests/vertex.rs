//! The Gemini client on Vertex AI, with each source of access tokens, against the fake server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use pem::Pem;
use serde_json::{Value, json};
use velo_agents::fake_gemini::{Builder, Endpoint, FakeGemini, Grant, Outcome, Script};
use velo_agents::model::gemini::auth::{
    AuthorizedUser, MetadataServer, SCOPE, ServiceAccount, StaticToken, TokenSource,
};
use velo_agents::model::gemini::{Gemini, GeminiConfig, Secret};
use velo_agents::model::{
    ChatModel, ChatReply, ChatRequest, ModelError, ModelErrorKind, Role, Tier, Turn,
};

const EMAIL: &str = "worker@acme.example";
const CALLERS: usize = 20;
/// Longest that anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What must happen soon; if it does not, the test fails instead of waiting for ever.
async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.unwrap()
}

/// A key pair in PEM form.
struct Keys {
    private: String,
    public: String,
}

static KEYS: LazyLock<Keys> = LazyLock::new(keys);
static OTHER_KEYS: LazyLock<Keys> = LazyLock::new(keys);

fn keys() -> Keys {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    Keys {
        private: pem::encode(&Pem::new("PRIVATE KEY", private.as_ref())),
        public: pem::encode(&Pem::new("PUBLIC KEY", public.as_ref())),
    }
}

fn builder() -> Builder {
    FakeGemini::builder()
        .service_account(EMAIL, &KEYS.public)
        .unwrap()
        .login("client", "client-secret", "refresh")
}

/// The three sources that ask a server for tokens.
fn sources(fake: &FakeGemini) -> Vec<(Grant, Arc<dyn TokenSource>)> {
    let account = fake.service_account_file(EMAIL, &KEYS.private);
    let login = fake.login_file("client", "client-secret", "refresh");
    vec![
        (
            Grant::ServiceAccount,
            Arc::new(ServiceAccount::from_json(&account).unwrap()),
        ),
        (
            Grant::RefreshToken,
            Arc::new(AuthorizedUser::from_json(&login).unwrap()),
        ),
        (
            Grant::Metadata,
            Arc::new(MetadataServer::new(Some(&fake.metadata_host())).unwrap()),
        ),
    ]
}

fn model(fake: &FakeGemini, tokens: Arc<dyn TokenSource>) -> Gemini {
    let mut config = GeminiConfig::with_vertex("acme", tokens);
    config.base_url = Some(fake.base_url().to_owned());
    config.retry.time_scale = 0.001;
    Gemini::new(config).unwrap()
}

async fn ask(model: &Gemini) -> Result<ChatReply, ModelError> {
    let request = ChatRequest {
        agent: "oracle".to_owned(),
        purpose: "draft_prd".to_owned(),
        tier: Tier::Pro,
        system: "be brief".to_owned(),
        turns: vec![Turn {
            role: Role::User,
            text: "say hello".to_owned(),
        }],
        schema: None,
        temperature: None,
        max_output_tokens: 10_000,
    };
    soon(model.complete(&request, &mut |_| ())).await
}

fn always_hello(fake: &FakeGemini) {
    fake.always_of("oracle", "draft_prd", Script::answer("hello"));
}

fn outcomes(fake: &FakeGemini) -> Vec<Outcome> {
    fake.requests().iter().map(|asked| asked.outcome).collect()
}

#[tokio::test]
async fn each_source_gets_a_token_once_and_the_request_is_labelled() {
    for index in 0..3 {
        let fake = builder().start().await.unwrap();
        always_hello(&fake);
        let (grant, source) = sources(&fake).swap_remove(index);
        let model = model(&fake, source);
        for _ in 0..2 {
            assert_eq!(ask(&model).await.unwrap().text, "hello", "{grant:?}");
        }
        let exchanges = fake.exchanges();
        assert_eq!(exchanges.len(), 1, "{exchanges:?}");
        assert_eq!((exchanges[0].grant, &exchanges[0].refused), (grant, &None));
        let logged = fake.requests().remove(0);
        assert_eq!(
            logged.endpoint,
            Endpoint::Vertex {
                project: "acme".to_owned(),
                location: "global".to_owned(),
            }
        );
        assert_eq!(logged.agent.as_deref(), Some("oracle"));
        assert_eq!(logged.purpose.as_deref(), Some("draft_prd"));
        assert!(!format!("{logged:?}").contains("fake-access-token"));
        let counted = model.count_tokens(&logged.chat_request()).await.unwrap();
        assert_eq!(counted, 5);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_without_counting_as_an_attempt() {
    for index in 0..3 {
        let fake = builder().start().await.unwrap();
        always_hello(&fake);
        let (grant, source) = sources(&fake).swap_remove(index);
        let model = model(&fake, source);
        ask(&model).await.unwrap();
        fake.revoke_tokens();
        let reply = ask(&model).await.unwrap();
        assert_eq!(reply.usage.requests, 2, "{grant:?}");
        assert_eq!(
            outcomes(&fake),
            [Outcome::Answered, Outcome::Failed(401), Outcome::Answered]
        );
        assert_eq!(fake.exchanges().len(), 2);
    }
}

#[tokio::test]
async fn tokens_that_are_refused_whenever_they_are_new_end_the_call() {
    let fake = builder()
        .token_lifetime(Duration::ZERO)
        .start()
        .await
        .unwrap();
    always_hello(&fake);
    let (_, source) = sources(&fake).remove(0);
    let error = ask(&model(&fake, source)).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Auth);
    assert!(
        error.to_string().contains("GOOGLE_APPLICATION_CREDENTIALS"),
        "{error}"
    );
    assert_eq!(outcomes(&fake), [Outcome::Failed(401); 2]);
    assert_eq!(fake.exchanges().len(), 2);
}

#[tokio::test]
async fn a_fixed_token_that_is_revoked_ends_the_call() {
    let fake = builder().start().await.unwrap();
    always_hello(&fake);
    fake.accept_token("fixed");
    let model = model(&fake, Arc::new(StaticToken::new(Secret::new("fixed"))));
    ask(&model).await.unwrap();
    fake.revoke_tokens();
    let error = ask(&model).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Auth);
    assert!(!format!("{error} {error:?} {model:?}").contains("fixed"));
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_token_and_one_renewal() {
    for index in 0..3 {
        let fake = builder().start().await.unwrap();
        always_hello(&fake);
        let (grant, source) = sources(&fake).swap_remove(index);
        let model = model(&fake, source);
        for round in 1..=2 {
            let hold = fake.hold_tokens();
            let asked = futures::future::join_all((0..CALLERS).map(|_| ask(&model)));
            let (replies, ()) = futures::join!(soon(asked), async {
                soon(hold.reached(1)).await;
                hold.release();
            });
            for reply in replies {
                assert_eq!(reply.unwrap().text, "hello", "{grant:?}");
            }
            assert_eq!(fake.exchanges().len(), round, "{grant:?}");
            fake.revoke_tokens();
        }
        let answered = outcomes(&fake)
            .iter()
            .filter(|outcome| **outcome == Outcome::Answered)
            .count();
        assert_eq!(answered, 2 * CALLERS, "{grant:?}");
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_the_token_to_the_next() {
    let fake = builder().start().await.unwrap();
    always_hello(&fake);
    let (_, source) = sources(&fake).remove(0);
    let model = model(&fake, source);
    let hold = fake.hold_tokens();
    let mut first = Box::pin(ask(&model));
    tokio::select! {
        _ = &mut first => panic!("there was no token"),
        () = hold.reached(1) => {}
    }
    drop(first);
    hold.release();
    assert_eq!(ask(&model).await.unwrap().text, "hello");
}

#[tokio::test]
async fn a_token_endpoint_that_fails_for_a_while_is_asked_again() {
    for index in 0..3 {
        let fake = builder().start().await.unwrap();
        always_hello(&fake);
        let (grant, source) = sources(&fake).swap_remove(index);
        let model = model(&fake, source);
        fake.fail_tokens(2);
        let reply = ask(&model).await.unwrap();
        assert_eq!(reply.usage.requests, 1, "{grant:?}");
        fake.revoke_tokens();
        fake.fail_tokens(99);
        let error = ask(&model).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Unavailable, "{grant:?}");
    }
}

#[tokio::test]
async fn credentials_that_are_refused_end_the_call_with_what_to_do() {
    let fake = builder().start().await.unwrap();
    always_hello(&fake);
    let account = |email: &str, key: &str| -> Arc<dyn TokenSource> {
        let file = fake.service_account_file(email, key);
        Arc::new(ServiceAccount::from_json(&file).unwrap())
    };
    let login = |secret: &str, refresh: &str| -> Arc<dyn TokenSource> {
        let file = fake.login_file("client", secret, refresh);
        Arc::new(AuthorizedUser::from_json(&file).unwrap())
    };
    for (source, code) in [
        (account(EMAIL, &OTHER_KEYS.private), "invalid_grant"),
        (
            account("stranger@acme.example", &KEYS.private),
            "invalid_grant",
        ),
        (login("client-secret", "revoked-refresh"), "invalid_grant"),
        (login("wrong-secret", "refresh"), "invalid_client"),
    ] {
        let error = ask(&model(&fake, source)).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Auth);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(code), "{shown}");
        for secret in ["revoked-refresh", "wrong-secret"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let refused = fake.exchanges().pop().unwrap().refused;
        assert_eq!(refused.as_deref(), Some(code));
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_statement_for_somebody_else_for_too_long_or_for_nothing_is_refused() {
    let fake = builder().start().await.unwrap();
    let url = format!("{}/token", fake.base_url());
    let now = get_current_timestamp();
    let good = json!({"iss": EMAIL, "scope": SCOPE, "aud": url, "iat": now, "exp": now + 3_600});
    let key = EncodingKey::from_rsa_pem(KEYS.private.as_bytes()).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap()
    };
    let hmac = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &good,
        &EncodingKey::from_secret(KEYS.public.as_bytes()),
    )
    .unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (statement, refused) in [
        (with("iss", json!(EMAIL)), None),
        (
            with("aud", json!("https://example.com/token")),
            Some("invalid_grant"),
        ),
        (with("exp", json!(now + 4_000)), Some("invalid_grant")),
        (with("exp", json!(now - 600)), Some("invalid_grant")),
        (with("iat", json!(now + 600)), Some("invalid_grant")),
        (
            with("scope", json!("https://example.com/other")),
            Some("invalid_scope"),
        ),
        (hmac, Some("invalid_grant")),
        ("not.a.statement".to_owned(), Some("invalid_grant")),
    ] {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &statement),
        ];
        let response = http.post(&url).form(&form).send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"].as_str(), refused, "{body}");
        assert_eq!(status, if refused.is_some() { 400 } else { 200 });
        assert_eq!(body["access_token"].is_string(), refused.is_none());
    }
}

#[tokio::test]
async fn the_metadata_server_wants_its_header_and_sends_it() {
    let fake = builder().start().await.unwrap();
    let url = format!(
        "{}/computeMetadata/v1/instance/service-accounts/default/token",
        fake.base_url()
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let bare = http.get(&url).send().await.unwrap();
    assert_eq!(bare.status(), 403);
    let asked = http.get(&url).header("metadata-flavor", "Google");
    let told = asked.send().await.unwrap();
    assert_eq!(told.status(), 200);
    assert_eq!(told.headers()["metadata-flavor"], "Google");
    assert_eq!(fake.exchanges().len(), 1);
}

#[tokio::test]
async fn the_environment_leads_to_each_source() {
    let fake = builder().start().await.unwrap();
    always_hello(&fake);
    let files = [
        fake.service_account_file(EMAIL, &KEYS.private),
        fake.login_file("client", "client-secret", "refresh"),
    ];
    for file in files.iter().map(Some).chain([None]) {
        let mut stored = tempfile::NamedTempFile::new().unwrap();
        stored
            .write_all(file.map_or(&[][..], |text| text.as_bytes()))
            .unwrap();
        let path = file.map(|_| stored.path().display().to_string());
        let vars = |name: &str| match name {
            "GOOGLE_GENAI_USE_VERTEXAI" => Some("true".to_owned()),
            "GOOGLE_CLOUD_PROJECT" => Some("acme".to_owned()),
            "GOOGLE_VERTEX_BASE_URL" => Some(fake.base_url().to_owned()),
            "GOOGLE_APPLICATION_CREDENTIALS" => path.clone(),
            "GCE_METADATA_HOST" => Some(fake.metadata_host()),
            _ => None,
        };
        let config = GeminiConfig::from_vars(vars).unwrap().unwrap();
        let model = Gemini::new(config).unwrap();
        assert_eq!(ask(&model).await.unwrap().text, "hello");
    }
    let grants: Vec<Grant> = fake.exchanges().iter().map(|asked| asked.grant).collect();
    assert_eq!(
        grants,
        [Grant::ServiceAccount, Grant::RefreshToken, Grant::Metadata]
    );
}

#[tokio::test]
async fn a_model_that_the_location_does_not_have_is_not_found() {
    let fake = builder().start().await.unwrap();
    let mut config = GeminiConfig::from_vars(|name| match name {
        "GOOGLE_GENAI_USE_VERTEXAI" => Some("1".to_owned()),
        "GOOGLE_CLOUD_PROJECT" => Some("acme".to_owned()),
        "GOOGLE_CLOUD_LOCATION" => Some("us-central1".to_owned()),
        "GCE_METADATA_HOST" => Some(fake.metadata_host()),
        _ => None,
    })
    .unwrap()
    .unwrap();
    config.base_url = Some(fake.base_url().to_owned());
    let error = ask(&Gemini::new(config).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::BadRequest);
    assert!(error.to_string().contains("location"), "{error}");
    assert_eq!(outcomes(&fake), [Outcome::Failed(404)]);
}

#[tokio::test]
async fn a_rate_limit_without_advice_is_retried_on_the_own_schedule() {
    let fake = builder().start().await.unwrap();
    fake.next(Script::rate_limited(None, None));
    fake.next(Script::answer("hello"));
    let (_, source) = sources(&fake).remove(2);
    let reply = ask(&model(&fake, source)).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.usage.requests), ("hello", 2));
    assert_eq!(outcomes(&fake), [Outcome::Failed(429), Outcome::Answered]);
}
