//! A session with a client made of channels, in a time that passes when nothing else happens.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use sqlx::postgres::PgPoolOptions;
use velo_agents::domain::{LOCAL_TENANT, LOCAL_USER};

use super::*;

/// The server's end of a connection.
struct Wire {
    sent: mpsc::UnboundedReceiver<Result<Message, axum::Error>>,
    received: mpsc::Sender<Message>,
}

impl Stream for Wire {
    type Item = Result<Message, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.sent.poll_next_unpin(cx)
    }
}

impl Sink<Message> for Wire {
    type Error = axum::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.received.poll_ready(cx).map_err(axum::Error::new)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        self.received.start_send(message).map_err(axum::Error::new)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

struct Client {
    send: mpsc::UnboundedSender<Result<Message, axum::Error>>,
    receive: mpsc::Receiver<Message>,
}

impl Client {
    fn says(&self, message: Message) {
        self.send.unbounded_send(Ok(message)).unwrap();
    }
}

/// A client, the wire to it, and sockets that never need the database.
fn client() -> (Client, Wire, Live) {
    let (send, sent) = mpsc::unbounded();
    let (received, receive) = mpsc::channel(0);
    let pool = PgPoolOptions::new()
        .connect_lazy("postgres://nobody@127.0.0.1:1/none")
        .unwrap();
    (
        Client { send, receive },
        Wire { sent, received },
        Live::new(pool),
    )
}

const CALLER: Caller = Caller {
    tenant: LOCAL_TENANT,
    user: LOCAL_USER,
};

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_stays_and_a_silent_one_is_dropped() {
    let (mut client, mut wire, live) = client();
    let begun = Instant::now();
    let session = Session::new(&mut wire, CALLER, &live).watch();
    let answering = async {
        for _ in 0..3 {
            assert!(matches!(
                client.receive.next().await,
                Some(Message::Ping(_))
            ));
            client.says(Message::Pong("velo".into()));
        }
        while client.receive.next().await.is_some() {}
    };
    let end = tokio::select! {
        end = session => end,
        () = answering => unreachable!("the wire is held by the test"),
    };
    assert_eq!(end, End::Dead);
    // Three answered pings, a fourth that was not, and the time at which a fifth would be due.
    assert_eq!(begun.elapsed(), PING_EVERY * 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_closed_with_1013() {
    let (mut client, wire, live) = client();
    for _ in 0..3 {
        client.says(Message::text(r#"{"type":"ping"}"#));
    }
    // It reads again only once it has been given up, as one does who wakes up late.
    let late = async {
        tokio::time::sleep(SEND_TIME + CLOSE_TIME / 2).await;
        let mut last = None;
        while let Some(message) = client.receive.next().await {
            last = Some(message);
        }
        last
    };
    let session = async {
        let mut wire = wire;
        run(&mut wire, CALLER, &live).await;
    };
    let ((), last) = tokio::join!(session, late);
    let Some(Message::Close(Some(frame))) = last else {
        panic!("the last message was {last:?}");
    };
    assert_eq!(frame.code, 1013);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_understood_are_answered_and_the_socket_stays_open() {
    let (mut client, mut wire, live) = client();
    let session = Session::new(&mut wire, CALLER, &live).watch();
    let talking = async {
        for nonsense in [
            Message::text("{"),
            Message::text(r#"{"type":"shout"}"#),
            Message::binary(vec![1, 2, 3]),
            Message::text(format!(
                r#"{{"type":"subscribe","project_id":"{}","after":-1}}"#,
                ProjectId::new()
            )),
        ] {
            client.says(nonsense);
            let Some(Message::Text(answer)) = client.receive.next().await else {
                panic!("no answer");
            };
            assert!(answer.contains("bad_message"), "{answer}");
        }
        client.says(Message::text(r#"{"type":"ping","timestamp":"now"}"#));
        assert_eq!(
            client.receive.next().await,
            Some(Message::text(r#"{"type":"pong","timestamp":"now"}"#))
        );
        client.says(Message::Close(None));
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        end = session => end,
        () = talking => unreachable!("it waits"),
    };
    assert_eq!(end, End::Left);
}
