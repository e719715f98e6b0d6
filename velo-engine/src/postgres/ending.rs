//! Why a server ended while starting, read from its log.

use super::error::PostgresError;
use super::place::Place;
use super::program;

/// Why a server ended while starting, by what it logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
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
    pub(super) fn of(log: &str) -> Self {
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

    pub(super) fn error(self, place: &Place, log: &str) -> PostgresError {
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
