//! The server: from an open port to the last closed socket.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use velo_agents::agency::Agency;

use crate::http::Counted;
use crate::live::Live;
use crate::router::router;

/// How long requests that are being answered may take once the server is to stop.
pub const STOP_TIME: Duration = Duration::from_secs(10);

/// Who may reach the server, which asks nobody who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bind {
    /// Only programs on this machine: the address must be a loopback one, and requests must name
    /// one as their `Host`, so that no web page gets in by pointing its own name here.
    #[default]
    LoopbackOnly,
    /// Everybody who can reach the address, whatever it is. To be chosen only where something in
    /// front of the server keeps strangers out.
    AnyAddress,
}

impl Bind {
    fn permits(self, address: SocketAddr) -> Result<(), BindRefused> {
        // An IPv4 address may come in the clothes of an IPv6 one.
        if self == Self::AnyAddress || address.ip().to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(BindRefused { address })
        }
    }
}

/// The source of the [`io::Error`] with which [`serve`] refuses an address.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not serve on {address}, because other machines reach it and there is no sign-in: use a loopback address such as 127.0.0.1, or allow any address explicitly"
)]
pub struct BindRefused {
    /// The address.
    pub address: SocketAddr,
}

/// Answers requests that come to `listener` until `shutdown` is cancelled; then takes no more,
/// finishes those at hand within [`STOP_TIME`], closes every WebSocket with 1001, and returns.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] with [`BindRefused`] inside when `bind` does not allow the
/// listener's address, or the listener's own error when it has none.
///
/// # Cancel safety
/// Dropped, it takes no more connections and tells the sockets to close, but waits for nothing.
pub async fn serve(
    listener: TcpListener,
    bind: Bind,
    agency: Agency,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    bind.permits(address)
        .map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused))?;
    let stop = shutdown.child_token();
    let _stop_when_dropped = stop.clone().drop_guard();
    let live = Live::new(agency.pool().clone());
    let app = router(agency, live.clone(), bind);
    tracing::info!(server.address = %address, "serving");
    let answering = async {
        let server = axum::serve(Counted::new(listener), app)
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_TIME).await;
        };
        let ended = tokio::select! {
            ended = server.into_future() => ended,
            () = overdue => {
                tracing::warn!("stopped without waiting longer for open connections");
                Ok(())
            }
        };
        stop.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(answering, live.run(&stop));
    tracing::info!(server.address = %address, "stopped serving");
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_served_unless_any_address_was_chosen() {
        for own in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(
                Bind::LoopbackOnly.permits(own.parse().unwrap()).is_ok(),
                "{own}"
            );
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.1.7:1", "[::ffff:8.8.8.8]:1"] {
            let address = open.parse().unwrap();
            let refused = Bind::LoopbackOnly.permits(address).unwrap_err();
            assert_eq!(refused.address, address);
            assert!(Bind::AnyAddress.permits(address).is_ok(), "{open}");
        }
    }
}
