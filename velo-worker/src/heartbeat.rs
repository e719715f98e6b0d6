//! The sign of life of a worker, on a thread and a connection of its own: a node that blocks its
//! thread, or holds all connections of the pool, loses no lease.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ::metrics::histogram;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use velo_engine::lease::{Beat, Incarnation};

use crate::caretaker::Changes;
use crate::live::Live;
use crate::metrics;

/// Beats before their time are at least so far apart.
const CALLS_APART: Duration = Duration::from_millis(20);
/// Heartbeats in the life time of a lease.
const BEATS: u32 = 4;
/// Part of the lease's life after which the worker, by its own clock, no longer trusts in it.
const TRUST: f64 = 0.9;

/// Begins to beat. The thread ends when `stop` is cancelled, or when the lease is lost: then it
/// cancels `lost`. When somebody has asked the worker to stop, it cancels `drain`.
pub(crate) fn start(
    incarnation: Incarnation,
    options: Arc<PgConnectOptions>,
    live: Arc<Live>,
    changes: Arc<Changes>,
    lost: CancellationToken,
    stop: CancellationToken,
    drain: CancellationToken,
) -> std::io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("velo-heartbeat".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                beat(incarnation, &options, &live, &changes, &lost, &stop, &drain).await;
            })
        })
}

async fn beat(
    incarnation: Incarnation,
    options: &PgConnectOptions,
    live: &Live,
    changes: &Changes,
    lost: &CancellationToken,
    stop: &CancellationToken,
    drain: &CancellationToken,
) {
    let (interval, trust) = (incarnation.ttl() / BEATS, incarnation.ttl().mul_f64(TRUST));
    let mut connection = None;
    let mut last = Instant::now();
    loop {
        let asked = Instant::now();
        // An open connection that does not answer is perhaps cut off, and a new one may do better. A new one
        // that is slow is not made faster by beginning again.
        let patience = match connection {
            Some(_) => interval,
            None => trust.saturating_sub(last.elapsed()),
        };
        let beat =
            tokio::time::timeout(patience, once(incarnation, options, live, &mut connection));
        let beat = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            beat = beat => beat,
        };
        histogram!(metrics::HEARTBEAT_SECONDS).record(asked.elapsed());
        match beat {
            Ok(Ok(Beat::Held)) => last = asked,
            Ok(Ok(Beat::Draining)) => {
                last = asked;
                if !drain.is_cancelled() {
                    tracing::info!(worker.id = incarnation.id(), "asked to stop, from outside");
                    drain.cancel();
                }
            }
            Ok(Ok(Beat::GivenUp)) => {
                tracing::error!(
                    worker.id = incarnation.id(),
                    "the worker was given up by others"
                );
                return lost.cancel();
            }
            Ok(Err(error)) => {
                tracing::warn!(worker.id = incarnation.id(), %error, "heartbeat failed");
                connection = None;
            }
            Err(_) => {
                tracing::warn!(
                    worker.id = incarnation.id(),
                    "heartbeat was not answered in time"
                );
                connection = None;
            }
        }
        let trusted = trust.saturating_sub(last.elapsed());
        if trusted.is_zero() {
            tracing::error!(
                worker.id = incarnation.id(),
                "the lease ended without a heartbeat"
            );
            return lost.cancel();
        }
        // A missed beat is made up for soon.
        let pause = if connection.is_some() {
            interval
        } else {
            interval / 8
        };
        let pause = pause
            .saturating_sub(asked.elapsed())
            .max(Duration::from_millis(10));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.min(trusted)) => (),
            () = called(changes) => (),
        }
    }
}

/// Waits until something has come for runs that are at work. Many such calls are one beat.
async fn called(changes: &Changes) {
    changes.calls.notified().await;
    tokio::time::sleep(CALLS_APART).await;
}

async fn once(
    incarnation: Incarnation,
    options: &PgConnectOptions,
    live: &Live,
    connection: &mut Option<PgConnection>,
) -> Result<Beat, sqlx::Error> {
    let open = match connection {
        Some(open) => open,
        None => {
            let opened = PgConnection::connect_with(options).await?;
            connection.insert(opened)
        }
    };
    let beat = incarnation.heartbeat(open).await?;
    if beat != Beat::GivenUp && !live.is_empty() {
        for call in incarnation.calls(open).await? {
            live.call(call);
        }
    }
    Ok(beat)
}
