use std::collections::VecDeque;

use axum::extract::ws::{CloseFrame, Message, close_code};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use velo_agents::domain::{ProjectId, project};

use super::heartbeat::{Beat, Heartbeat};
use super::listener::News;
use super::message::{self, Fault, FromClient};
use super::watched::Watched;
use super::{CLOSE_TIME, Live, MAX_SUBSCRIPTIONS, PAGE, PING_EVERY, POLL_EVERY, SEND_TIME};
use crate::caller::Caller;

/// Serves one socket until its client leaves, is too slow, is gone, or the server stops.
pub(super) async fn run<S>(mut socket: S, caller: Caller, live: &Live)
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
{
    let watching = Session::new(&mut socket, caller, live).watch();
    let end = live
        .stop
        .run_until_cancelled(watching)
        .await
        .unwrap_or(End::Stopped);
    tracing::debug!(?end, "a socket ended");
    if end != End::Dead {
        // The client may be stuck: then the connection is dropped without a word.
        let _ = timeout(CLOSE_TIME, close(&mut socket, end.frame())).await;
    }
}

/// Says goodbye, or answers the client's, and reads on until the client has heard it: what is left
/// unread would make the system cut the connection and with it the goodbye.
async fn close<S>(socket: &mut S, frame: Option<CloseFrame>)
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message> + Unpin,
{
    if let Some(frame) = frame
        && socket.send(Message::Close(Some(frame))).await.is_err()
    {
        return;
    }
    while let Some(Ok(_)) = socket.next().await {}
}

/// Why a socket ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client said so, or its connection broke.
    Left,
    /// The client did not accept a message in time.
    TooSlow,
    /// The client has been silent for too long.
    Dead,
    /// The server stops.
    Stopped,
}

impl End {
    fn frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Left | Self::Dead => return None,
            Self::TooSlow => (close_code::AGAIN, "too slow: go on from the last seq"),
            Self::Stopped => (
                close_code::AWAY,
                "the server stops: go on from the last seq",
            ),
        };
        Some(CloseFrame {
            code,
            reason: reason.into(),
        })
    }
}

struct Session<'a, S> {
    socket: &'a mut S,
    caller: Caller,
    live: &'a Live,
    news: broadcast::Receiver<News>,
    watched: VecDeque<Watched>,
    heartbeat: Heartbeat,
}

impl<'a, S> Session<'a, S>
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
{
    fn new(socket: &'a mut S, caller: Caller, live: &'a Live) -> Self {
        Self {
            socket,
            caller,
            live,
            // Before the first look at any stream, or what comes in between is missed.
            news: live.news.subscribe(),
            watched: VecDeque::new(),
            heartbeat: Heartbeat::new(),
        }
    }

    async fn watch(mut self) -> End {
        let mut poll = every(POLL_EVERY);
        let mut ping = every(PING_EVERY);
        loop {
            let stale = self.watched.iter().any(|watched| watched.stale);
            let done = tokio::select! {
                // The client first: a pong that has arrived counts before the next ping is due.
                biased;
                message = self.socket.next() => self.answer(message).await,
                news = self.news.recv() => {
                    self.hear(news);
                    Ok(())
                }
                _ = poll.tick() => {
                    self.hear(Ok(News::OfAnything));
                    Ok(())
                }
                _ = ping.tick() => self.beat().await,
                () = std::future::ready(()), if stale => self.tell().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn answer(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.heartbeat.hear();
        match message {
            None | Some(Err(_) | Ok(Message::Close(_))) => Err(End::Left),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => {
                self.refuse(Fault::BadMessage, "messages are JSON text")
                    .await
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(FromClient::Ping { timestamp }) => {
                    self.send(message::pong(timestamp.as_deref())).await
                }
                Ok(FromClient::Subscribe { project_id, after }) => {
                    self.subscribe(project_id, after.unwrap_or(0)).await
                }
                Err(error) => self.refuse(Fault::BadMessage, &error.to_string()).await,
            },
        }
    }

    async fn subscribe(&mut self, project: ProjectId, after: i64) -> Result<(), End> {
        if after < 0 {
            let reason = "`after` is the `seq` of an event, or 0";
            return self.refuse(Fault::BadMessage, reason).await;
        }
        match timeout(
            super::READ_TIME,
            project::get(&self.live.pool, self.caller.tenant, project),
        )
        .await
        {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => {
                let reason = format!("there is no project {project}");
                return self.refuse(Fault::UnknownProject, &reason).await;
            }
            failed => {
                tracing::warn!(?failed, "could not look up a project to watch");
                let reason = "the database does not answer: subscribe again later";
                return self.refuse(Fault::Unavailable, reason).await;
            }
        }
        self.watched.retain(|watched| watched.project != project);
        if self.watched.len() == MAX_SUBSCRIPTIONS {
            let reason =
                format!("a socket watches at most {MAX_SUBSCRIPTIONS} projects: open another");
            return self.refuse(Fault::TooManySubscriptions, &reason).await;
        }
        self.send(message::subscribed(project, after)).await?;
        self.watched.push_back(Watched::new(project, after));
        Ok(())
    }

    fn hear(&mut self, news: Result<News, RecvError>) {
        // Fallen behind, a socket no longer knows which streams have grown. The channel is never
        // closed, because `live` holds its other end.
        let news = news.unwrap_or(News::OfAnything);
        for watched in &mut self.watched {
            watched.hear(&news);
        }
    }

    async fn beat(&mut self) -> Result<(), End> {
        match self.heartbeat.beat() {
            Beat::Ping => self.put(Message::Ping("velo".into())).await,
            Beat::Dead => Err(End::Dead),
        }
    }

    /// Sends a page of events of one project that may have some, each project in turn.
    async fn tell(&mut self) -> Result<(), End> {
        let Some(at) = self.watched.iter().position(|watched| watched.stale) else {
            return Ok(());
        };
        let mut watched = self.watched.remove(at).expect("its place was just found");
        // What is committed after this read is told of by news that are not yet heard.
        watched.stale = false;
        match self.live.read(&watched.stream, watched.seen).await {
            Ok(page) => {
                watched.stale = i64::try_from(page.len()).is_ok_and(|length| length == PAGE);
                for event in &page {
                    self.send(message::event(event)).await?;
                    watched.seen = event.seq;
                }
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                stream.name = watched.stream,
                "could not read events for a socket; it looks again at the next poll"
            ),
        }
        self.watched.push_back(watched);
        Ok(())
    }

    async fn refuse(&mut self, fault: Fault, reason: &str) -> Result<(), End> {
        self.send(message::error(fault, reason)).await
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.put(Message::text(text)).await
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_TIME, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::TooSlow),
        }
    }
}

/// Ticks at every `period`, first after one.
fn every(period: std::time::Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests;
