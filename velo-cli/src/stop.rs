//! Being asked to stop: once gently, twice at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// A wrapper that passes signals on may do so to the whole group besides: what comes so soon after the
/// first signal is the same one.
const ECHO: Duration = Duration::from_millis(300);

/// Turns signals into two tokens. Ctrl-C and SIGTERM count alike.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// Cancelled by the first signal: finish what is under way.
    pub(crate) gently: CancellationToken,
    /// Cancelled by the second one: let go.
    pub(crate) now: CancellationToken,
}

impl Stop {
    /// Listens from here on; until then a signal ends the process by itself.
    pub(crate) fn listen() -> Self {
        let stop = Self {
            gently: CancellationToken::new(),
            now: CancellationToken::new(),
        };
        let asked = stop.clone();
        let mut signals = Signals::new();
        tokio::spawn(async move {
            signals.next().await;
            asked.gently.cancel();
            let echoes = async {
                loop {
                    signals.next().await;
                }
            };
            let _: Result<(), _> = tokio::time::timeout(ECHO, echoes).await;
            signals.next().await;
            asked.now.cancel();
        });
        stop
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        // Without a handler the signal ends the process, which loses nothing either.
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    async fn next(&mut self) {
        async fn of(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = of(&mut self.interrupt) => (),
            () = of(&mut self.terminate) => (),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
