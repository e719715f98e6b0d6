//! A database that goes away and comes back.

use std::net::SocketAddr;

use rustix::process::Signal;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use velo_agents::fake_gemini::Script;

use crate::house::{BRIEF, House, Says, end, signal, told};

/// A way to the server that can be cut.
struct Way {
    address: SocketAddr,
    server: SocketAddr,
    open: Option<AbortHandle>,
}

impl Way {
    async fn to(url: &PgConnectOptions) -> Self {
        let host = format!("{}:{}", url.get_host(), url.get_port());
        let server = tokio::net::lookup_host(host).await.unwrap().next().unwrap();
        let mut way = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            server,
            open: None,
        };
        way.mend().await;
        way
    }

    /// Opens it, at the same address as before.
    async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let server = self.server;
        let serving = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        self.open = Some(serving.abort_handle());
    }

    fn cut(&mut self) {
        self.open.take().expect("it is open").abort();
    }

    fn url(&self, of: &PgConnectOptions) -> String {
        let options = of.clone().host("127.0.0.1").port(self.address.port());
        options
            .ssl_mode(PgSslMode::Disable)
            .to_url_lossy()
            .to_string()
    }
}

#[tokio::test]
async fn a_worker_outlives_an_outage_that_is_longer_than_its_leases() {
    let house = House::new().await;
    let direct: PgConnectOptions = house.url.parse().unwrap();
    let mut way = Way::to(&direct).await;
    let mut worker = house.velo(["worker"]);
    let mut worker = worker
        .env("DATABASE_URL", way.url(&direct))
        .spawn()
        .unwrap();
    let mut says = Says::of(&mut worker);
    says.wait_for("worker started").await;
    let (script, hold) = Script::fallback().held();
    house.fake.next_of("oracle", "draft_prd", script);
    let watching = house.velo(["run", BRIEF, "--json"]).spawn().unwrap();
    hold.reached(1).await;
    way.cut();
    hold.release();
    let watched = end(watching).await;
    assert_eq!(watched.code, Some(0), "{watched:?}");

    says.wait_for("the database is away").await;
    way.mend().await;
    says.wait_for("worker started").await;
    signal(&worker, Signal::TERM);
    let stopped = end(worker).await;
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
}

#[tokio::test]
async fn a_run_outlives_a_short_outage() {
    let house = House::new().await;
    let direct: PgConnectOptions = house.url.parse().unwrap();
    let mut way = Way::to(&direct).await;
    let (script, hold) = Script::fallback().held();
    house.fake.next_of("oracle", "draft_prd", script);
    let mut run = house.velo(["run", BRIEF, "--json"]);
    let mut run = run.env("DATABASE_URL", way.url(&direct)).spawn().unwrap();
    hold.reached(1).await;
    way.cut();
    told(&mut run, "the database is away").await;
    way.mend().await;
    hold.release();
    let finished = end(run).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.json()["status"], "completed");
    assert!(house.fake.repeated().is_empty());
}
