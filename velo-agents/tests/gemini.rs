//! The Gemini client over real HTTP, against a loopback server that speaks the wire format byte by byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use velo_agents::model::gemini::{Gemini, GeminiConfig, Secret};
use velo_agents::model::{
    ChatModel, ChatReply, ChatRequest, Finish, ModelError, ModelErrorKind, Progress, Role, Tier,
    Turn,
};

const KEY: &str = "key-that-must-stay-secret";

/// Answers each connection with the next of its raw responses and keeps the requests.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(responses: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut responses = VecDeque::from(responses);
        tokio::spawn(async move {
            while let Some(response) = responses.pop_front() {
                let (mut socket, _) = listener.accept().await.unwrap();
                let request = read_request(&mut socket).await;
                seen.lock().unwrap().push(request);
                socket.write_all(&response).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(
            socket.read_buf(&mut bytes).await.unwrap(),
            0,
            "the client closed within a request"
        );
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn response(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

fn chunk(text: &str, finish: Option<&str>) -> String {
    let finish = finish
        .map(|reason| format!(r#","finishReason":"{reason}""#))
        .unwrap_or_default();
    let usage = r#""usageMetadata":{"promptTokenCount":14,"candidatesTokenCount":2,"thoughtsTokenCount":43,"totalTokenCount":59}"#;
    format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},\"index\":0{finish}}}],{usage},\"modelVersion\":\"gemini-3.8-flash\"}}\r\n\r\n"
    )
}

fn stream(events: &[String]) -> Vec<u8> {
    response("200 OK", "text/event-stream", &events.concat())
}

fn whole() -> Vec<u8> {
    stream(&[chunk("Hel", None), chunk("lo", Some("STOP"))])
}

fn error(status: &str, code: u16, name: &str, message: &str, details: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"error":{{"code":{code},"message":"{message}","status":"{name}","details":[{details}]}}}}"#
    );
    response(status, "application/json", &body)
}

fn overloaded() -> Vec<u8> {
    error(
        "503 Service Unavailable",
        503,
        "UNAVAILABLE",
        "The model is overloaded.",
        "",
    )
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

/// What the caller saw: text as it came, `!` for a restart, `~` and milliseconds for a wait.
async fn ask(server: &Server) -> (Result<ChatReply, ModelError>, Vec<String>) {
    let mut config = GeminiConfig::with_api_key(Secret::new(KEY));
    config.base_url = Some(server.url.clone());
    config.retry.time_scale = 0.001;
    let model = Gemini::new(config).unwrap();
    assert!(!format!("{model:?}").contains(KEY), "the key is in Debug");
    let mut seen = Vec::new();
    let asked = request();
    let mut progress = |progress: Progress<'_>| match progress {
        Progress::Text(text) => seen.push(text.to_owned()),
        Progress::Restarted => seen.push("!".to_owned()),
        Progress::Waiting(delay) => seen.push(format!("~{}", delay.as_millis())),
        _ => (),
    };
    let reply = tokio::time::timeout(
        Duration::from_secs(60),
        model.complete(&asked, &mut progress),
    )
    .await
    .unwrap();
    if let Err(error) = &reply {
        assert!(
            !format!("{error} {error:?}").contains(KEY),
            "the key is in the error"
        );
    }
    (reply, seen)
}

#[tokio::test]
async fn a_streamed_reply_is_whole_and_its_thoughts_are_counted_as_output() {
    let server = Server::start(vec![whole()]).await;
    let (reply, seen) = ask(&server).await;
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), reply.finish), ("Hello", Finish::Stop));
    assert_eq!(
        (
            reply.usage.input_tokens,
            reply.usage.output_tokens,
            reply.usage.requests
        ),
        (14, 45, 1)
    );
    assert!(reply.usage.cost_usd > 0.0);
    assert_eq!(seen, ["Hel", "lo"]);
    let sent = server.requests().remove(0);
    assert!(
        sent.starts_with("POST /v1beta/models/") && sent.contains(":streamGenerateContent?alt=sse"),
        "{sent}"
    );
    assert!(sent.contains(&format!("x-goog-api-key: {KEY}")), "{sent}");
}

#[tokio::test]
async fn the_providers_own_delay_is_honoured_before_the_next_attempt() {
    let retry_info = r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}"#;
    let limited = error(
        "429 Too Many Requests",
        429,
        "RESOURCE_EXHAUSTED",
        "Resource exhausted.",
        retry_info,
    );
    let server = Server::start(vec![limited, whole()]).await;
    let (reply, seen) = ask(&server).await;
    assert_eq!(reply.unwrap().usage.requests, 2);
    assert_eq!(seen.first().map(String::as_str), Some("~7000"));
}

#[tokio::test]
async fn an_overloaded_model_is_asked_a_bounded_number_of_times() {
    let server = Server::start(vec![overloaded(); 20]).await;
    let (reply, _) = ask(&server).await;
    assert_eq!(reply.unwrap_err().kind, ModelErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_cut_stream_is_begun_again_and_its_text_is_not_doubled() {
    let server = Server::start(vec![stream(&[chunk("Hel", None)]), whole()]).await;
    let (reply, seen) = ask(&server).await;
    assert_eq!(reply.unwrap().text, "Hello");
    let restart = seen
        .iter()
        .position(|seen| seen == "!")
        .expect("a restart is announced");
    assert_eq!(
        (
            &seen[0],
            &seen[restart + 1..]
                .concat()
                .replace(|c: char| c == '~' || c.is_ascii_digit(), "")
        ),
        (&"Hel".to_owned(), &"Hello".to_owned())
    );
}

#[tokio::test]
async fn a_refused_key_is_not_tried_again_and_the_message_says_what_to_do() {
    let invalid = r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}"#;
    for refusal in [
        error(
            "401 Unauthorized",
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.",
            "",
        ),
        error(
            "400 Bad Request",
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            invalid,
        ),
    ] {
        let server = Server::start(vec![refusal, whole()]).await;
        let error = ask(&server).await.0.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Auth);
        assert!(error.to_string().contains("GEMINI_API_KEY"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_blocked_prompt_or_reply_is_not_tried_again() {
    let prompt = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":3}}\r\n\r\n".to_owned();
    for events in [
        vec![prompt],
        vec![chunk("Hel", None), chunk("", Some("SAFETY"))],
    ] {
        let server = Server::start(vec![stream(&events), whole()]).await;
        let error = ask(&server).await.0.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Blocked);
        assert!(error.to_string().contains("SAFETY"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_reply_cut_at_the_token_limit_says_so() {
    let server = Server::start(vec![stream(&[chunk("Hel", Some("MAX_TOKENS"))])]).await;
    let reply = ask(&server).await.0.unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish),
        ("Hel", Finish::MaxTokens)
    );
}

#[tokio::test]
async fn a_retired_model_and_a_bad_request_are_not_tried_again() {
    for refusal in [
        error(
            "404 Not Found",
            404,
            "NOT_FOUND",
            "models/x is not found",
            "",
        ),
        error(
            "400 Bad Request",
            400,
            "INVALID_ARGUMENT",
            "Unknown name",
            "",
        ),
    ] {
        let server = Server::start(vec![refusal, whole()]).await;
        assert_eq!(
            ask(&server).await.0.unwrap_err().kind,
            ModelErrorKind::BadRequest
        );
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn garbage_ends_in_a_typed_error_or_a_good_reply_but_never_in_made_up_text() {
    for garbage in [
        "data: {\"candidates\":[\r\n\r\n",
        "<html>bad gateway</html>",
        "data: 7\r\n\r\n",
        "",
    ] {
        let server =
            Server::start(vec![response("200 OK", "text/event-stream", garbage); 20]).await;
        let error = ask(&server).await.0.unwrap_err();
        assert!(!error.to_string().is_empty());
        assert!(
            server.requests().len() <= 5,
            "{garbage:?} was asked {} times",
            server.requests().len()
        );
    }
}
