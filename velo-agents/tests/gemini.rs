//! The Gemini client over real HTTP, by API key, against the fake server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;
use velo_agents::fake_gemini::{DEFAULT_KEY, FakeGemini, FromModel, Method, Outcome, Script};
use velo_agents::model::gemini::{Gemini, GeminiConfig, Secret};
use velo_agents::model::{
    ChatModel, ChatReply, ChatRequest, Finish, ModelError, ModelErrorKind, Progress, Role, Tier,
    Turn, Usage,
};

/// Longest that anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
const TEXT: &str = "Hello, wörld";
/// The tokens of what [`request`] asks, as the fake counts them: 2 of the system instruction and 3 of the turn.
const PROMPT_TOKENS: u64 = 5;

/// What must happen soon; if it does not, the test fails instead of waiting for ever.
async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.unwrap()
}

fn request() -> ChatRequest {
    ChatRequest {
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
    }
}

/// A configuration for `fake` under which nobody waits long between attempts.
fn config(fake: &FakeGemini) -> GeminiConfig {
    let mut config = fake.config();
    config.retry.time_scale = 0.001;
    config
}

/// What the caller saw: text as it came, `!` for a restart, `~` and milliseconds for a wait.
type Seen = Vec<String>;

async fn ask(config: GeminiConfig, asked: &ChatRequest) -> (Result<ChatReply, ModelError>, Seen) {
    let model = Gemini::new(config).unwrap();
    assert!(!format!("{model:?}").contains(DEFAULT_KEY), "the key shows");
    let mut seen = Vec::new();
    let mut progress = |progress: Progress<'_>| match progress {
        Progress::Text(text) => seen.push(text.to_owned()),
        Progress::Restarted => seen.push("!".to_owned()),
        Progress::Waiting(delay) => seen.push(format!("~{}", delay.as_millis())),
        _ => (),
    };
    let reply = soon(model.complete(asked, &mut progress)).await;
    if let Err(error) = &reply {
        assert!(
            !format!("{error} {error:?}").contains(DEFAULT_KEY),
            "the key shows"
        );
    }
    (reply, seen)
}

/// Asks once streamed and once not, each time a server of its own for which `script` was set.
async fn both(
    script: impl Fn(&FakeGemini),
) -> Vec<(Result<ChatReply, ModelError>, Seen, FakeGemini)> {
    let mut asked = Vec::new();
    for streaming in [true, false] {
        let fake = FakeGemini::start().await.unwrap();
        script(&fake);
        let mut config = config(&fake);
        config.streaming = streaming;
        let (reply, seen) = ask(config, &request()).await;
        asked.push((reply, seen, fake));
    }
    asked
}

fn outcomes(fake: &FakeGemini) -> Vec<Outcome> {
    fake.requests().iter().map(|asked| asked.outcome).collect()
}

#[tokio::test]
async fn a_reply_is_whole_streamed_and_in_one_piece() {
    for (reply, seen, fake) in both(|fake| fake.next(Script::answer(TEXT))).await {
        let reply = reply.unwrap();
        assert_eq!((reply.text.as_str(), reply.finish), (TEXT, Finish::Stop));
        assert_eq!(reply.model, "gemini-3.8-flash");
        let usage = reply.usage;
        // Three tokens of text and one of thought.
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.requests),
            (PROMPT_TOKENS, 4, 1)
        );
        assert!(usage.cost_usd > 0.0);
        let logged = fake.requests().remove(0);
        match logged.method {
            Method::Stream => assert_eq!(seen, ["Hel", "lo,", " wö", "rld"]),
            _ => assert_eq!(seen, [TEXT]),
        }
        assert_eq!(logged.outcome, Outcome::Answered);
        assert_eq!(logged.chat_request(), request());
        assert!(!format!("{logged:?}").contains(DEFAULT_KEY));
        let names: Vec<&str> = logged.headers.iter().map(|(name, _)| &**name).collect();
        assert!(names.contains(&"x-server-timeout"), "{names:?}");
    }
}

#[tokio::test]
async fn every_failure_has_its_kind_and_is_tried_as_often_as_it_may_help() {
    use ModelErrorKind::{Auth, Blocked, QuotaExhausted, RateLimited, Unavailable};
    let limited = RateLimited { retry_after: None };
    let answer = || Script::answer(TEXT);
    for (script, kind, requests) in [
        (Script::rate_limited(None, None), limited.clone(), 5),
        (Script::daily_quota(), QuotaExhausted, 1),
        (Script::overloaded(), Unavailable, 5),
        (Script::server_error(), Unavailable, 5),
        (Script::unauthorized(), Auth, 1),
        (Script::malformed_json(), Unavailable, 5),
        (
            Script::garbage(*b"<html>bad gateway</html>"),
            Unavailable,
            5,
        ),
        (Script::garbage([0xff, 0xfe, 0x00, b'\n']), Unavailable, 5),
        (Script::garbage([]), Unavailable, 5),
        (Script::garbage(*b"data: 7\r\n\r\n"), Unavailable, 5),
        (Script::empty_candidates(), Unavailable, 5),
        (Script::safety_block(), Blocked, 1),
        (answer().stopped_by_filter(), Blocked, 1),
        (answer().cut_after(0), Unavailable, 5),
        (answer().cut_after(2), Unavailable, 5),
        (answer().cut_after(99), Unavailable, 5),
        (answer().ended_after(2), Unavailable, 5),
        (answer().error_after(0, 503), Unavailable, 5),
        (answer().error_after(2, 500), Unavailable, 5),
        (answer().error_after(2, 429), limited, 5),
        (Script::answer(""), Unavailable, 5),
    ] {
        let set = |fake: &FakeGemini| fake.always_of("oracle", "draft_prd", script.clone());
        for (reply, seen, fake) in both(set).await {
            let error = reply.unwrap_err();
            assert_eq!(error.kind, kind, "{script:?}: {error}");
            assert_eq!(fake.requests().len(), requests, "{script:?}");
            let usage = error.usage();
            assert_eq!(usage.requests as usize, requests, "{script:?}");
            if kind == Blocked {
                assert_eq!(usage.input_tokens, PROMPT_TOKENS, "{script:?}");
                assert!(usage.cost_usd > 0.0, "{script:?}");
            }
            let waits = seen.iter().filter(|seen| seen.starts_with('~')).count();
            assert_eq!(waits, requests - 1, "{script:?}");
        }
    }
}

#[tokio::test]
async fn after_a_failure_that_passes_the_reply_is_whole_and_not_doubled() {
    let answer = || Script::answer(TEXT);
    for script in [
        Script::rate_limited(None, None),
        Script::overloaded(),
        Script::server_error(),
        Script::malformed_json(),
        Script::garbage([0xff; 9]),
        Script::empty_candidates(),
        answer().cut_after(2),
        answer().ended_after(2),
        answer().error_after(2, 503),
    ] {
        let set = |fake: &FakeGemini| {
            fake.next(script.clone());
            fake.next(answer());
        };
        for (reply, seen, fake) in both(set).await {
            let reply = reply.unwrap();
            assert_eq!(reply.text, TEXT, "{script:?}");
            assert_eq!(reply.usage.requests, 2, "{script:?}");
            let last = outcomes(&fake)[1];
            assert_eq!(last, Outcome::Answered, "{script:?}");
            let texts: Vec<&str> = seen
                .iter()
                .map(String::as_str)
                .filter(|seen| !seen.starts_with('~'))
                .collect();
            let after = texts.iter().position(|seen| *seen == "!");
            let shown = texts[after.map_or(0, |at| at + 1)..].concat();
            assert_eq!(shown, TEXT, "{script:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn what_a_cut_stream_consumed_is_not_forgotten() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer(TEXT).cut_after(4));
    fake.next(Script::answer(TEXT));
    let (reply, seen) = ask(config(&fake), &request()).await;
    let usage = reply.unwrap().usage;
    assert_eq!(
        (usage.input_tokens, usage.output_tokens),
        (2 * PROMPT_TOKENS, 2 * 4)
    );
    assert_eq!(&seen[..5], ["Hel", "lo,", " wö", "rld", "!"]);
    assert_eq!(outcomes(&fake), [Outcome::Cut, Outcome::Answered]);
}

#[tokio::test]
async fn the_providers_own_delay_is_honoured_from_the_body_before_the_header() {
    let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
    for (retry_info, retry_after, wanted) in [
        (seconds(7.0), None, "~7000"),
        (seconds(0.25), seconds(9.0), "~250"),
        (None, seconds(9.0), "~9000"),
    ] {
        let set = |fake: &FakeGemini| {
            fake.next(Script::rate_limited(retry_info, retry_after));
            fake.next(Script::answer(TEXT));
        };
        for (reply, seen, _) in both(set).await {
            assert_eq!(reply.unwrap().usage.requests, 2);
            assert_eq!(seen.first().map(String::as_str), Some(wanted));
        }
    }
}

#[tokio::test]
async fn a_long_delay_is_handed_to_the_caller_instead_of_being_slept() {
    let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
    for (delay, kind) in [
        (
            minutes(2),
            ModelErrorKind::RateLimited {
                retry_after: minutes(2),
            },
        ),
        (minutes(6), ModelErrorKind::QuotaExhausted),
    ] {
        let set = |fake: &FakeGemini| fake.next(Script::rate_limited(delay, None));
        for (reply, seen, fake) in both(set).await {
            assert_eq!(reply.unwrap_err().kind, kind);
            assert_eq!((fake.requests().len(), seen.len()), (1, 0));
        }
    }
}

#[tokio::test]
async fn a_refused_key_is_not_tried_again_and_the_message_says_what_to_do() {
    let fake = FakeGemini::builder().key("another").start().await.unwrap();
    let mut config = GeminiConfig::with_api_key(Secret::new(DEFAULT_KEY));
    config.base_url = Some(fake.base_url().to_owned());
    let error = ask(config, &request()).await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Auth);
    assert!(error.to_string().contains("GEMINI_API_KEY"), "{error}");
    assert_eq!(outcomes(&fake), [Outcome::Failed(400)]);
}

#[tokio::test]
async fn a_request_without_a_key_is_refused_as_google_does() {
    let fake = FakeGemini::start().await.unwrap();
    let url = format!(
        "{}/v1/models/gemini-3.8-flash:generateContent",
        fake.base_url()
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = http.post(url).body("{}").send().await.unwrap();
    assert_eq!(response.status(), 403);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["error"]["status"], "PERMISSION_DENIED");
    assert_eq!(outcomes(&fake), [Outcome::Failed(403)]);
}

#[tokio::test]
async fn a_retired_model_is_not_tried_again_and_uses_up_no_script() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer(TEXT));
    let mut config = config(&fake);
    config.models.pro = "gemini-2.5-pro".to_owned();
    let error = ask(config, &request()).await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::BadRequest);
    assert!(error.to_string().contains("VELO_MODEL_PRO"), "{error}");
    assert_eq!(outcomes(&fake), [Outcome::Failed(404)]);
    assert_eq!(fake.unused_scripts(), 1);
}

#[tokio::test]
async fn a_reply_cut_at_the_token_limit_says_so() {
    for (reply, _, _) in both(|fake| fake.next(Script::answer(TEXT).at_token_limit())).await {
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish),
            (TEXT, Finish::MaxTokens)
        );
    }
    // 10,000 tokens, of which one goes to thought.
    let long = "word".repeat(10_000);
    for (reply, _, fake) in both(|fake| fake.next(Script::answer(long.clone()))).await {
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish),
            (&long[4..], Finish::MaxTokens)
        );
        assert_eq!(reply.usage.output_tokens, 10_000);
        assert_eq!(outcomes(&fake), [Outcome::Answered]);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_at_the_time_limit() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::hang());
    let mut config = config(&fake);
    config.request_timeout = Duration::from_millis(300);
    config.retry.max_attempts = 1;
    let error = ask(config, &request()).await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    soon(fake.wait_until(|requests| {
        requests
            .first()
            .is_some_and(|first| first.outcome == Outcome::ClientGone)
    }))
    .await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_begun_again() {
    let fake = FakeGemini::start().await.unwrap();
    let (stalled, _hold) = Script::answer(TEXT).paused_after(2);
    fake.next_of("oracle", "draft_prd", stalled);
    fake.always_of("oracle", "draft_prd", Script::answer(TEXT));
    let mut config = config(&fake);
    config.idle_timeout = Duration::from_millis(300);
    let (reply, seen) = ask(config, &request()).await;
    assert_eq!(reply.unwrap().text, TEXT);
    assert_eq!(&seen[..3], ["Hel", "lo,", "!"]);
    soon(fake.wait_until(|requests| {
        requests
            .first()
            .is_some_and(|first| first.outcome == Outcome::ClientGone)
    }))
    .await;
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let slow = Script::answer(TEXT).slow(Duration::from_millis(20));
    for (reply, _, fake) in both(|fake| fake.next(slow.clone())).await {
        assert_eq!(reply.unwrap().usage.requests, 1);
        assert_eq!(outcomes(&fake), [Outcome::Answered]);
    }
}

#[tokio::test]
async fn a_held_request_is_answered_after_its_release() {
    let fake = FakeGemini::start().await.unwrap();
    let (script, hold) = Script::answer(TEXT).held();
    fake.next(script);
    let asking = tokio::spawn({
        let config = config(&fake);
        async move { ask(config, &request()).await.0 }
    });
    soon(hold.reached(1)).await;
    assert_eq!(outcomes(&fake), [Outcome::Held]);
    hold.release();
    assert_eq!(asking.await.unwrap().unwrap().text, TEXT);
    assert_eq!(outcomes(&fake), [Outcome::Answered]);
}

#[tokio::test]
async fn a_release_of_all_answers_what_hangs_with_a_timeout() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::hang());
    fake.next(Script::answer(TEXT));
    let asking = tokio::spawn({
        let config = config(&fake);
        async move { ask(config, &request()).await.0 }
    });
    soon(fake.wait_for_requests(1)).await;
    fake.release();
    assert_eq!(asking.await.unwrap().unwrap().text, TEXT);
    assert_eq!(outcomes(&fake), [Outcome::Failed(504), Outcome::Answered]);
}

#[tokio::test]
async fn a_client_that_dies_at_a_hold_is_seen_and_its_second_try_has_the_same_fingerprint() {
    let fake = FakeGemini::start().await.unwrap();
    let (script, _hold) = Script::answer(TEXT).held();
    fake.next(script);
    fake.next(Script::answer(TEXT));
    fake.next(Script::answer(TEXT));
    let asked = request();
    let mut asking = Box::pin(ask(config(&fake), &asked));
    tokio::select! {
        _ = &mut asking => panic!("a held request was answered"),
        () = fake.wait_for_requests(1) => {}
    }
    drop(asking);
    soon(fake.wait_until(|requests| {
        requests
            .first()
            .is_some_and(|first| first.outcome == Outcome::ClientGone)
    }))
    .await;
    let mut unary = config(&fake);
    unary.streaming = false;
    ask(unary, &request()).await.0.unwrap();
    let mut other = request();
    other.turns[0].text.push('!');
    ask(config(&fake), &other).await.0.unwrap();
    let prints: Vec<String> = fake
        .requests()
        .iter()
        .map(velo_agents::fake_gemini::Received::fingerprint)
        .collect();
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[1], prints[2]);
    assert!(fake.repeated().is_empty(), "nobody has read the first one");
    fake.next(Script::answer(TEXT));
    ask(config(&fake), &request()).await.0.unwrap();
    let repeated: Vec<usize> = fake.repeated().iter().map(|asked| asked.n).collect();
    assert_eq!(repeated, [4]);
}

const CHILD_URL: &str = "VELO_TEST_CHILD_URL";

/// Not a test: what the process of the next one does.
#[tokio::test]
#[ignore = "run in a process of its own by a_killed_process_is_seen_and_may_ask_again"]
async fn a_process_that_asks() {
    let Ok(url) = std::env::var(CHILD_URL) else {
        return;
    };
    let mut config = GeminiConfig::with_api_key(Secret::new(DEFAULT_KEY));
    config.base_url = Some(url);
    assert_eq!(ask(config, &request()).await.0.unwrap().text, TEXT);
}

#[tokio::test]
async fn a_killed_process_is_seen_and_may_ask_again() {
    let fake = FakeGemini::start().await.unwrap();
    let (script, _hold) = Script::answer(TEXT).held();
    fake.next(script);
    fake.next(Script::answer(TEXT));
    let start = || {
        tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "a_process_that_asks"])
            .env(CHILD_URL, fake.base_url())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let mut killed = start();
    soon(fake.wait_for_requests(1)).await;
    killed.kill().await.unwrap();
    soon(fake.wait_until(|requests| requests[0].outcome == Outcome::ClientGone)).await;
    assert!(soon(start().wait()).await.unwrap().success());
    let requests = fake.requests();
    assert_eq!(outcomes(&fake), [Outcome::ClientGone, Outcome::Answered]);
    assert_eq!(requests[0].fingerprint(), requests[1].fingerprint());
    assert!(fake.repeated().is_empty());
}

#[tokio::test]
async fn a_server_that_stopped_breaks_what_it_held_and_is_not_there_any_more() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::hang());
    let mut config = config(&fake);
    config.retry.max_attempts = 2;
    let asked = request();
    let mut asking = Box::pin(ask(config, &asked));
    tokio::select! {
        _ = &mut asking => panic!("a held request was answered"),
        () = fake.wait_for_requests(1) => {}
    }
    drop(fake);
    let error = asking.await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert!(error.to_string().contains("could not connect"), "{error}");
}

#[tokio::test]
async fn scripts_go_to_the_agent_and_purpose_that_they_are_for() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer("anybody"));
    fake.always_of("oracle", "draft_prd", Script::answer("always"));
    fake.next_of("oracle", "draft_prd", Script::answer("first"));
    let mut other = request();
    other.purpose = "review".to_owned();
    let mut texts = Vec::new();
    for asked in [&request(), &request(), &other, &request()] {
        texts.push(ask(config(&fake), asked).await.0.unwrap().text);
    }
    assert_eq!(texts, ["first", "always", "anybody", "always"]);
    let error = ask(config(&fake), &other).await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::BadRequest);
    assert!(error.to_string().contains("oracle for review"), "{error}");
}

#[tokio::test]
async fn tokens_are_counted_without_using_up_a_script() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer(TEXT));
    let model = Gemini::new(config(&fake)).unwrap();
    assert_eq!(model.count_tokens(&request()).await.unwrap(), 3);
    assert_eq!(fake.requests()[0].method, Method::Count);
    assert_eq!(fake.unused_scripts(), 1);
}

#[tokio::test]
async fn the_schema_of_a_rust_type_is_accepted() {
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Plan {
        /// What to do, in order.
        steps: Vec<Step>,
        note: Option<String>,
    }
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Step {
        Write {
            file: String,
            lines: u32,
        },
        Group {
            #[serde(default)]
            steps: Vec<Self>,
        },
        Stop,
    }
    let mut asked = request();
    asked.schema = Some(velo_agents::model::schema::root::<Plan>());
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer_with(|asked| {
        asked.schema.as_ref().unwrap()["type"].to_string()
    }));
    let reply = ask(config(&fake), &asked).await.0.unwrap();
    assert_eq!(reply.text, "\"object\"");
}

#[tokio::test]
async fn without_sse_a_stream_is_one_array() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer(TEXT));
    let base = fake.base_url();
    let url = format!("{base}/v1/models/gemini-3.8-flash:streamGenerateContent");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http
        .post(url)
        .header("x-goog-api-key", DEFAULT_KEY)
        .json(&json!({"contents": [{"parts": [{"text": "say hello"}]}]}));
    let pieces: Vec<serde_json::Value> = asked.send().await.unwrap().json().await.unwrap();
    let texts: Vec<&str> = pieces
        .iter()
        .map(|piece| {
            piece["candidates"][0]["content"]["parts"][0]["text"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(texts, ["Hel", "lo,", " wö", "rld", ""]);
    assert_eq!(pieces[4]["candidates"][0]["finishReason"], "STOP");
    // No thinking was asked for: what is zero is not there.
    let usage = &pieces[4]["usageMetadata"];
    assert_eq!(usage["candidatesTokenCount"], 3);
    assert!(usage.get("thoughtsTokenCount").is_none(), "{usage}");
    assert_eq!(fake.requests()[0].method, Method::StreamArray);
}

#[tokio::test]
async fn events_have_the_providers_framing() {
    let fake = FakeGemini::start().await.unwrap();
    fake.next(Script::answer(TEXT));
    let base = fake.base_url();
    let url = format!("{base}/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http
        .post(url)
        .header("x-goog-api-key", DEFAULT_KEY)
        .json(&json!({"contents": [{"parts": [{"text": "say hello"}]}]}));
    let response = asked.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = response.text().await.unwrap();
    let events: Vec<&str> = body.split_terminator("\r\n\r\n").collect();
    assert_eq!(events.len(), 5);
    assert!(body.ends_with("\r\n\r\n") && !body.contains("[DONE]"));
    for (index, event) in events.iter().enumerate() {
        let piece: serde_json::Value =
            serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        assert!(piece["usageMetadata"]["promptTokenCount"].is_u64());
        let is_last = piece["candidates"][0].get("finishReason").is_some();
        assert_eq!(is_last, index == 4);
    }
}

/// Repeats what it was asked, or fails as it was told.
#[derive(Debug, Default)]
struct Parrot {
    asked: Mutex<Vec<ChatRequest>>,
    fails: Option<ModelErrorKind>,
}

#[async_trait]
impl ChatModel for Parrot {
    fn name(&self, _: Tier) -> &str {
        "parrot"
    }

    async fn complete(
        &self,
        request: &ChatRequest,
        _: &mut (dyn for<'p> FnMut(Progress<'p>) + Send),
    ) -> Result<ChatReply, ModelError> {
        self.asked.lock().unwrap().push(request.clone());
        if let Some(kind) = &self.fails {
            return Err(ModelError::new(kind.clone(), "the parrot is silent"));
        }
        Ok(ChatReply {
            text: request.turns[0].text.clone(),
            model: "parrot".to_owned(),
            finish: Finish::Stop,
            usage: Usage::default(),
        })
    }
}

#[tokio::test]
async fn another_model_answers_what_is_not_scripted() {
    let parrot = Arc::new(Parrot::default());
    let fallback = FromModel(Arc::clone(&parrot) as Arc<dyn ChatModel>);
    let address = "127.0.0.1:0".parse().unwrap();
    let fake = FakeGemini::serve_on(address, fallback).await.unwrap();
    let mut asked = request();
    asked.schema = Some(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "propertyOrdering": ["a"]}),
    );
    asked.tier = Tier::Flash;
    let reply = ask(config(&fake), &asked).await.0.unwrap();
    assert_eq!(reply.text, "say hello");
    assert_eq!(*parrot.asked.lock().unwrap(), [asked]);
}

#[tokio::test]
async fn the_error_of_another_model_arrives_as_the_same_kind() {
    use ModelErrorKind::{Auth, BadRequest, Blocked, QuotaExhausted, RateLimited, Unavailable};
    let limited = RateLimited {
        retry_after: Some(Duration::from_secs(2)),
    };
    for kind in [
        Auth,
        BadRequest,
        Blocked,
        QuotaExhausted,
        limited,
        Unavailable,
    ] {
        let fallback = FromModel(Arc::new(Parrot {
            fails: Some(kind.clone()),
            ..Parrot::default()
        }));
        let fake = FakeGemini::builder()
            .fallback(fallback)
            .start()
            .await
            .unwrap();
        let error = ask(config(&fake), &request()).await.0.unwrap_err();
        assert_eq!(error.kind, kind);
    }
}

/// A server for all cases of a property, and the runtime that it needs.
static SHARED: LazyLock<(tokio::runtime::Runtime, FakeGemini)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = runtime.block_on(FakeGemini::start()).unwrap();
    (runtime, fake)
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each length is the size of a chunk on the wire; the client sees the same chunks.
    #[test]
    fn a_reply_is_the_same_wherever_its_bytes_are_cut(
        text in "[a-z\\\\\"\r\n{}\\[\\]:🦀é]{1,60}[a-z🦀]",
        lengths in prop_oneof![
            proptest::collection::vec(1..4_usize, 0..400),
            proptest::collection::vec(1..900_usize, 0..8),
        ],
    ) {
        let (runtime, fake) = &*SHARED;
        fake.next(Script::answer(text.clone()));
        fake.next(Script::answer(text.clone()).in_pieces(lengths));
        let whole = runtime.block_on(ask(config(fake), &request()));
        let pieces = runtime.block_on(ask(config(fake), &request()));
        let reply = pieces.0.unwrap();
        prop_assert_eq!(&reply.text, &text);
        prop_assert_eq!(reply, whole.0.unwrap());
        prop_assert_eq!(pieces.1, whole.1);
    }
}
