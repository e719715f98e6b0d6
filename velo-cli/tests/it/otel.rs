//! Spans at a collector.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::house::{BRIEF, House, ended};

/// Takes one request after the other of a connection, and answers each with nothing.
async fn answer(mut connection: TcpStream, seen: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = vec![0; 64 * 1024];
    let mut request = Vec::new();
    loop {
        let Ok(read @ 1..) = connection.read(&mut chunk).await else {
            return;
        };
        request.extend_from_slice(&chunk[..read]);
        let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().trim().parse().unwrap();
        if request.len() < head + 4 + length {
            continue;
        }
        seen.lock().unwrap().append(&mut request);
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        connection.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn turns_and_attempts_are_sent_to_the_collector_that_the_environment_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&seen);
    let collector = tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(connection, Arc::clone(&collected)));
        }
    });
    let house = House::new().await;
    let mut velo = house.velo(["run", BRIEF, "--json"]);
    velo.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let run = ended(velo).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    collector.abort();
    let seen = seen.lock().unwrap();
    // Names and texts are plain in protobuf.
    let has = |text: &str| {
        seen.windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    };
    for text in [
        "POST /v1/traces",
        "velo",
        "turn",
        "draft_prd",
        "velo.planning@1",
    ] {
        assert!(has(text), "{text} is missing in {} bytes", seen.len());
    }
}
