//! How the server is set up. Told at each start, so an older data folder follows a newer Velo.

use std::ffi::OsString;

use super::place::Place;

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
