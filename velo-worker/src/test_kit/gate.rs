//! A way to the database that can be closed.

use std::net::SocketAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are passed on at once.
const PIECE: usize = 16 * 1024;

/// Passes on what a worker and the database say to each other, until it is dropped. While it is closed it
/// keeps all of it.
#[derive(Debug)]
pub(super) struct Gate {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    _serving: AbortOnDropHandle<()>,
}

impl Gate {
    pub(super) async fn before(database: &PgConnectOptions) -> Self {
        // A socket would go before the host that the gate is.
        let is_tcp = database.get_socket().is_none() && !database.get_host().starts_with('/');
        assert!(
            is_tcp,
            "a fleet comes to its database by TCP: DATABASE_URL must name a host"
        );
        let server = (database.get_host().to_owned(), database.get_port());
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a test may listen on loopback");
        let address = listener.local_addr().expect("it listens");
        let (is_open, opened) = watch::channel(true);
        let serve = async move {
            // Dropped with this future: whoever is killed says nothing more.
            let mut passing = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, opened) = (server.clone(), opened.clone());
                let pass = AbortOnDropHandle::new(tokio::spawn(pass(client, server, opened)));
                passing.retain(|pass: &AbortOnDropHandle<()>| !pass.is_finished());
                passing.push(pass);
            }
        };
        Self {
            address,
            is_open,
            _serving: AbortOnDropHandle::new(tokio::spawn(serve)),
        }
    }

    /// The way to the database through it.
    pub(super) fn way(&self, database: &PgConnectOptions) -> PgConnectOptions {
        database
            .clone()
            .host(&self.address.ip().to_string())
            .port(self.address.port())
            .ssl_mode(PgSslMode::Disable)
    }

    pub(super) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}

/// Until one of the two has hung up.
async fn pass(client: TcpStream, server: (String, u16), opened: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect((server.0.as_str(), server.1)).await else {
        return;
    };
    let ((client_says, client_hears), (server_says, server_hears)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = one_way(client_says, server_hears, opened.clone()) => (),
        () = one_way(server_says, client_hears, opened) => (),
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut opened: watch::Receiver<bool>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if opened.wait_for(|is_open| *is_open).await.is_err()
            || to.write_all(&piece[..length]).await.is_err()
        {
            return;
        }
    }
}
