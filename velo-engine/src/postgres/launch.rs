//! Starts a server and waits until it answers; stops it.

use std::ffi::OsString;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Child;
use tokio::time::sleep;

use super::binaries::Binaries;
use super::error::PostgresError;
use super::guardian::Guardian;
use super::place::Place;
use super::postmaster::Postmaster;
use super::process;
use super::program;
use super::session::Session;

/// How long a server may take until it accepts connections, recovery after a crash included.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take for an orderly stop, which writes everything to the data files.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take for a stop like a crash, from which the next start recovers.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// Other processes have no events to wait for: look this often.
const POLL: Duration = Duration::from_millis(10);

/// Between two starts, while processes of a crashed server still end.
const SURVIVOR_POLL: Duration = Duration::from_millis(200);

/// How many free ports are tried: another program may take one between our finding it and the server's start.
const PORT_TRIES: u32 = 5;

/// Set for every server.
const OPTIONS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_permissions=0700",
    "max_connections=300",
    "shared_buffers=128MB",
    "cluster_name=velo",
    "log_destination=stderr",
    "logging_collector=off",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// A commit that was acknowledged survives.
const KEPT: [&str; 3] = ["fsync=on", "full_page_writes=on", "synchronous_commit=on"];

/// A commit that was acknowledged survives a crash of the server, not one of the machine.
const THROWN_AWAY: [&str; 3] = ["fsync=off", "full_page_writes=off", "synchronous_commit=on"];

/// The server's arguments, without its port.
pub(super) fn arguments(place: &Place, is_temporary: bool) -> Vec<OsString> {
    let durability = if is_temporary { THROWN_AWAY } else { KEPT };
    let mut arguments = vec![
        "-D".into(),
        place.data().into(),
        "-k".into(),
        place.socket().into(),
    ];
    for option in OPTIONS.into_iter().chain(durability) {
        arguments.extend(["-c".into(), option.into()]);
    }
    arguments
}

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

/// Stops the server of `place`, if one runs, and reaps it if it is our child. Needs the lock.
///
/// # Cancel safety
/// Dropped half-way, the server may go on stopping; stop it again.
pub(super) async fn stop(place: &Place, child: Option<Child>) -> Result<(), PostgresError> {
    let data = place.data();
    if let Some(server) = Postmaster::running(&data)? {
        let pid = server.pid;
        let failed = |source| PostgresError::files("stop the server of", &data, source);
        process::signal(pid, Signal::INT).map_err(failed)?;
        if !has_ended(pid, STOP_LIMIT).await {
            process::signal(pid, Signal::QUIT).map_err(failed)?;
            if !has_ended(pid, QUIT_LIMIT).await {
                let limit = STOP_LIMIT + QUIT_LIMIT;
                return Err(PostgresError::NotStopped { pid, limit });
            }
        }
    }
    // Our child may be an earlier server than the one that ran; if it has ended, it is reaped here.
    if let Some(mut child) = child {
        let _ = child.try_wait();
    }
    place.remove_socket()
}

async fn has_ended(pid: i32, limit: Duration) -> bool {
    let since = Instant::now();
    while process::is_running(pid) {
        if since.elapsed() > limit {
            return false;
        }
        sleep(POLL).await;
    }
    true
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
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => matches!(
            error.code().as_deref(),
            Some(CANNOT_CONNECT_NOW | ADMIN_SHUTDOWN)
        ),
        _ => false,
    }
}

fn says_disk_full(error: &sqlx::Error) -> bool {
    const DISK_FULL: &str = "53100";
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some(DISK_FULL)
}

/// Why a server ended while starting, by what it logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    DiskFull,
    PortTaken,
    /// Processes of a crashed server still use its memory.
    Survivors,
    /// Another server holds the data folder.
    Rival,
    Socket,
    Other,
}

impl Ending {
    fn of(log: &str) -> Self {
        // A server that is about to fail for another reason names its sockets too.
        let lines = || log.lines().filter(|line| !line.contains("listening on"));
        let says = |part| lines().any(|line| line.contains(part));
        if program::says_disk_full(log) {
            Self::DiskFull
        } else if says("pre-existing shared memory block") {
            Self::Survivors
        } else if says("lock file \"postmaster.pid\" already exists") {
            Self::Rival
        } else if says("could not bind IPv4 address") || says("could not create any TCP/IP sockets")
        {
            Self::PortTaken
        } else if says("Unix-domain socket") || says("Unix socket") || says(".s.PGSQL.") {
            Self::Socket
        } else {
            Self::Other
        }
    }

    fn error(self, place: &Place, log: &str) -> PostgresError {
        let folder = place.data();
        let log = program::excerpt(log);
        match self {
            Self::DiskFull => PostgresError::NoSpace { folder },
            Self::PortTaken => PostgresError::Port { log },
            Self::Socket => PostgresError::Socket {
                folder: place.socket(),
                why: log,
            },
            Self::Survivors | Self::Rival | Self::Other => PostgresError::Ended { folder, log },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_why_a_server_ended() {
        let cases = [
            (
                "FATAL:  could not write lock file \"postmaster.pid\": No space left on device",
                Ending::DiskFull,
            ),
            (
                "LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\nFATAL:  could not create any TCP/IP sockets",
                Ending::PortTaken,
            ),
            (
                "FATAL:  pre-existing shared memory block (key 5, ID 7) is still in use",
                Ending::Survivors,
            ),
            (
                "FATAL:  lock file \"postmaster.pid\" already exists",
                Ending::Rival,
            ),
            (
                "FATAL:  could not create lock file \"/tmp/x/.s.PGSQL.1.lock\": Permission denied",
                Ending::Socket,
            ),
            (
                "FATAL:  could not create any Unix-domain sockets",
                Ending::Socket,
            ),
            (
                "FATAL:  could not map anonymous shared memory",
                Ending::Other,
            ),
        ];
        for (log, ending) in cases {
            assert_eq!(Ending::of(log), ending, "{log}");
        }
    }
}
