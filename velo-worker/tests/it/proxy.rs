//! A proxy between a pool and Postgres that loses messages where a test asks for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use velo_engine::prelude::*;

/// Which request is lost, by a text in its statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    /// The statement itself.
    Statement(&'static str),
    /// The COMMIT of a transaction in which the statement was executed.
    CommitAfter(&'static str),
}

/// What becomes of the request. The client's connection breaks in each case.
#[derive(Debug, Clone)]
pub(crate) enum Loss {
    /// The server carries it out, and its answer is lost.
    Answer,
    /// The server never sees it.
    Request,
    /// The server sees it only when it is let go.
    Late(Late),
}

/// A request that was held up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Late {
    go: Arc<Notify>,
    done: Arc<Notify>,
}

impl Late {
    /// Lets the server have the request, and waits until it has carried it out.
    pub(crate) async fn arrive(&self) {
        self.go.notify_one();
        self.done.notified().await;
    }
}

#[derive(Debug)]
struct Trap {
    at: At,
    loss: Loss,
    sprung: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Traps {
    set: Vec<Trap>,
    one_in: u64,
    seen: u64,
}

impl Traps {
    fn spring(&mut self, springs: impl Fn(At) -> bool) -> Option<Trap> {
        if let Some(place) = self.set.iter().position(|trap| springs(trap.at)) {
            return Some(self.set.remove(place));
        }
        self.seen += 1;
        // Scattered, and the same each time.
        let drawn = self.seen.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if self.one_in == 0 || !drawn.is_multiple_of(self.one_in) {
            return None;
        }
        let loss = match drawn / self.one_in % 3 {
            0 => Loss::Answer,
            1 => Loss::Request,
            _ => {
                let late = Late::default();
                let go = late.go.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(drawn % 200)).await;
                    go.notify_one();
                });
                Loss::Late(late)
            }
        };
        Some(Trap {
            at: At::Statement(""),
            loss,
            sprung: Arc::default(),
        })
    }
}

/// Stands between clients and the server of a database.
pub(crate) struct Proxy {
    /// An engine whose connections all go through the proxy.
    pub(crate) engine: Engine,
    traps: Arc<Mutex<Traps>>,
    is_open: watch::Sender<bool>,
    refused: Arc<AtomicU32>,
    _listening: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Stands before the database of `engine`, with a pool of up to ten connections.
    pub(crate) async fn before(engine: &Engine) -> Self {
        let server = (*engine.pool().connect_options()).clone();
        let address = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let traps: Arc<Mutex<Traps>> = Arc::default();
        let (is_open, open) = watch::channel(true);
        let refused: Arc<AtomicU32> = Arc::default();
        let listening = tokio::spawn({
            let (traps, refused) = (traps.clone(), refused.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (traps, open, address) = (traps.clone(), open.clone(), address.clone());
                    let is_open = *open.borrow();
                    if !is_open {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::spawn(async move {
                        if is_open && let Ok(server) = TcpStream::connect(address).await {
                            // An end of either side is what tests ask for.
                            let _ = pass(client, server, &traps, open).await;
                        }
                    });
                }
            }
        });
        Self {
            engine: Engine::connect(pool(server, own.ip().to_string(), own.port()).await),
            traps,
            is_open,
            refused,
            _listening: AbortOnDropHandle::new(listening),
        }
    }

    /// Loses one such request; what is returned is told when it has happened.
    pub(crate) fn lose(&self, at: At, loss: Loss) -> Arc<Notify> {
        let sprung = Arc::new(Notify::new());
        self.traps.lock().unwrap().set.push(Trap {
            at,
            loss,
            sprung: sprung.clone(),
        });
        sprung
    }

    /// Loses one in so many requests, in any of the three ways; none when it is zero. What is late
    /// comes by itself.
    pub(crate) fn lose_one_in(&self, requests: u64) {
        self.traps.lock().unwrap().one_in = requests;
    }

    /// Breaks all connections, and refuses new ones.
    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Connections that were refused so far.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    /// Accepts connections again.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

async fn pool(server: PgConnectOptions, host: String, port: u16) -> PgPool {
    // Without TLS, so that the proxy can read what passes.
    let through = server.host(&host).port(port).ssl_mode(PgSslMode::Disable);
    PgPoolOptions::new()
        .max_connections(10)
        .connect_with(through)
        .await
        .unwrap()
}

/// Messages of the client that the server answers together.
#[derive(Debug, Default)]
struct Request {
    bytes: Vec<u8>,
    /// Texts of the statements that it executes.
    texts: Vec<String>,
}

/// What a client has said so far.
#[derive(Debug, Default)]
struct Talk {
    /// Bytes that are no whole request yet.
    pending: Vec<u8>,
    is_started: bool,
    /// Texts of prepared statements by their names.
    prepared: HashMap<Vec<u8>, String>,
    /// Texts executed since the last BEGIN.
    executed: Vec<String>,
}

impl Talk {
    /// Cancel safe: what was read is kept.
    async fn next(&mut self, client: &mut TcpStream) -> std::io::Result<Request> {
        loop {
            if let Some(request) = self.take() {
                return Ok(request);
            }
            if client.read_buf(&mut self.pending).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The messages up to the next one after which the client waits.
    fn take(&mut self) -> Option<Request> {
        let (mut end, mut texts) = (0, Vec::new());
        loop {
            let rest = &self.pending[end..];
            // The very first message has no type.
            let head = usize::from(self.is_started);
            let length = rest.get(head..head + 4)?.try_into().expect("four bytes");
            let size = head + u32::from_be_bytes(length) as usize;
            let message = rest.get(..size)?;
            end += size;
            if !self.is_started {
                self.is_started = true;
                break;
            }
            let mut fields = message[5..].split(|byte| *byte == 0);
            let first = fields.next().unwrap_or_default();
            let second = fields.next().unwrap_or_default();
            match message[0] {
                b'P' => {
                    let text = String::from_utf8_lossy(second).into_owned();
                    self.prepared.insert(first.to_vec(), text);
                }
                b'B' => texts.extend(self.prepared.get(second).cloned()),
                b'Q' => {
                    texts.push(String::from_utf8_lossy(first).into_owned());
                    break;
                }
                b'D' | b'E' | b'C' => (),
                _ => break,
            }
        }
        let bytes = self.pending.drain(..end).collect();
        Some(Request { bytes, texts })
    }

    fn springs(&self, request: &Request, at: At) -> bool {
        let has = |texts: &[String], wanted| texts.iter().any(|text| text.contains(wanted));
        match at {
            At::Statement(wanted) => has(&request.texts, wanted),
            At::CommitAfter(wanted) => has(&request.texts, "COMMIT") && has(&self.executed, wanted),
        }
    }

    fn note(&mut self, request: &Request) {
        for text in &request.texts {
            if text.to_lowercase().starts_with("begin") {
                self.executed.clear();
            }
            self.executed.push(text.clone());
        }
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    traps: &Mutex<Traps>,
    mut open: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut talk = Talk::default();
    let mut answer = vec![0; 16 * 1024];
    loop {
        let request = tokio::select! {
            () = closed(&mut open) => return Ok(()),
            read = server.read(&mut answer) => {
                let size = read?;
                if size == 0 {
                    return Ok(());
                }
                client.write_all(&answer[..size]).await?;
                continue;
            }
            request = talk.next(&mut client) => request?,
        };
        let trap = {
            let mut traps = traps.lock().unwrap();
            traps.spring(|at| talk.springs(&request, at))
        };
        talk.note(&request);
        let Some(trap) = trap else {
            server.write_all(&request.bytes).await?;
            continue;
        };
        match &trap.loss {
            Loss::Request => (),
            Loss::Answer => carry_out(&mut server, &request).await?,
            Loss::Late(late) => {
                drop(client);
                trap.sprung.notify_one();
                late.go.notified().await;
                carry_out(&mut server, &request).await?;
                late.done.notify_one();
                return Ok(());
            }
        }
        drop(client);
        trap.sprung.notify_one();
        return Ok(());
    }
}

/// Has the server answer, and throws the answer away.
async fn carry_out(server: &mut TcpStream, request: &Request) -> std::io::Result<()> {
    /// A server that is ready for the next request ends its answer so, and with its state.
    const READY: &[u8] = b"Z\0\0\0\x05";
    server.write_all(&request.bytes).await?;
    let mut answer = Vec::new();
    while answer.len() < 6 || answer[answer.len() - 6..answer.len() - 1] != *READY {
        if server.read_buf(&mut answer).await? == 0 {
            return Ok(());
        }
    }
    Ok(())
}

async fn closed(open: &mut watch::Receiver<bool>) {
    // The guard inside the answer may not be kept across other awaits.
    drop(open.wait_for(|is_open| !is_open).await);
}
