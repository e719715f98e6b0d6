//! Starts a server and waits until it answers.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::time::sleep;

use super::binaries::Binaries;
use super::ending::Ending;
use super::error::PostgresError;
use super::guardian::Guardian;
use super::options::arguments;
use super::place::Place;
use super::postmaster::Postmaster;
use super::process;
use super::program;
use super::session::Session;

/// How long a server may take until it accepts connections, recovery after a crash included.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// Other processes have no events to wait for: look this often.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// Between two starts, while processes of a crashed server still end.
const SURVIVOR_POLL: Duration = Duration::from_millis(200);

/// How many free ports are tried: another program may take one between our finding it and the server's start.
const PORT_TRIES: u32 = 5;

/// Whose child the server is.
#[derive(Debug)]
pub(super) enum Parent {
    /// Ours: it outlives us.
    Us(Option<Child>),
    /// The guardian's: it ends with us.
    Guardian(Box<Guardian>),
}

impl Parent {
    async fn start(
        &mut self,
        place: &Place,
        binaries: &Binaries,
        port: u16,
    ) -> Result<i32, PostgresError> {
        let postgres = binaries.postgres();
        let log = place.open_log()?;
        match self {
            Self::Guardian(guardian) => guardian.start(&postgres, port).await,
            Self::Us(child) => {
                let failed = |source| PostgresError::files("start", &postgres, source);
                let mut server = program::command(&postgres, &place.account, &place.home());
                server
                    .args(arguments(place, false))
                    .args(["-p", &port.to_string()])
                    .stdout(Stdio::from(log.try_clone().map_err(failed)?))
                    .stderr(Stdio::from(log));
                let started = child.insert(server.spawn().map_err(failed)?);
                let pid = started.id().and_then(|pid| pid.try_into().ok());
                Ok(pid.expect("a child that was not waited for has an id"))
            }
        }
    }
}

/// A server that answers.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) postmaster: Postmaster,
    pub(super) port: u16,
    pub(super) session: Session,
}

/// What became of a server that was waited for.
#[derive(Debug)]
pub(super) enum Waited {
    Ready(Box<Running>),
    Ended,
}

/// Starts a server on a free port and waits until it answers. Needs the lock, and no server running.
///
/// # Cancel safety
/// Dropped half-way, a server that was started goes on, and the next start finds it.
pub(super) async fn start(
    place: &Place,
    binaries: &Binaries,
    password: &str,
    parent: &mut Parent,
) -> Result<Running, PostgresError> {
    place.prepare_socket()?;
    let since = Instant::now();
    let mut ports = 1;
    loop {
        let logged = place.log_length();
        let pid = parent.start(place, binaries, free_port()?).await?;
        if let Waited::Ready(running) = until_ready(place, pid, password, logged).await? {
            return Ok(*running);
        }
        let log = place.log_since(logged);
        match Ending::of(&log) {
            Ending::PortTaken if ports < PORT_TRIES => ports += 1,
            Ending::Survivors if since.elapsed() < READY_LIMIT => {
                process::end_survivors(&place.data());
                sleep(SURVIVOR_POLL).await;
            }
            Ending::Rival if since.elapsed() < READY_LIMIT => {
                if let Some(rival) = Postmaster::running(&place.data())?
                    && let Waited::Ready(running) =
                        until_ready(place, rival.pid, password, logged).await?
                {
                    return Ok(*running);
                }
                sleep(POLL).await;
            }
            ending => {
                let error = ending.error(place, &log);
                place.remove_socket()?;
                return Err(error);
            }
        }
    }
}

/// Waits until the server answers or has ended.
///
/// # Cancel safety
/// Nothing is lost.
pub(super) async fn until_ready(
    place: &Place,
    pid: i32,
    password: &str,
    logged: u64,
) -> Result<Waited, PostgresError> {
    let data = place.data();
    let since = Instant::now();
    loop {
        let said = Postmaster::said_by(pid, &data).filter(|server| server.is_ready);
        if let Some(postmaster) = said
            && let Some(port) = postmaster.port
        {
            let left = READY_LIMIT.saturating_sub(since.elapsed());
            match Session::open(port, password, left).await {
                Ok(session) => {
                    let running = Running {
                        postmaster,
                        port,
                        session,
                    };
                    return Ok(Waited::Ready(Box::new(running)));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) if says_disk_full(&error) => {
                    return Err(PostgresError::NoSpace { folder: data });
                }
                Err(source) => {
                    return Err(PostgresError::Connect {
                        folder: data,
                        source,
                    });
                }
            }
        }
        if !process::is_running(pid) {
            return Ok(Waited::Ended);
        }
        if since.elapsed() > READY_LIMIT {
            return Err(PostgresError::NotReady {
                folder: data,
                limit: READY_LIMIT,
                log: program::excerpt(&place.log_since(logged)),
            });
        }
        sleep(POLL).await;
    }
}

fn free_port() -> Result<u16, PostgresError> {
    let found = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let port = found.map(|address| address.port());
    port.map_err(|error| PostgresError::Port {
        log: error.to_string(),
    })
}

/// The server is not there any more, or not yet: look again.
fn is_passing(error: &sqlx::Error) -> bool {
    const CANNOT_CONNECT_NOW: &str = "57P03";
    const ADMIN_SHUTDOWN: &str = "57P01";
    const CRASH_SHUTDOWN: &str = "57P02";
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => matches!(
            error.code().as_deref(),
            Some(CANNOT_CONNECT_NOW | ADMIN_SHUTDOWN | CRASH_SHUTDOWN)
        ),
        _ => false,
    }
}

fn says_disk_full(error: &sqlx::Error) -> bool {
    const DISK_FULL: &str = "53100";
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some(DISK_FULL)
}
