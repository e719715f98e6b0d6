//! What a worker can run, as the queue names it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use velo_engine::lease::Incarnation;
use velo_engine::{Serve, code};

/// The codes that a worker claims: those of its graphs, and those of runs that other workers have left, as
/// far as one of its graphs has what these lacked.
#[derive(Debug)]
pub(crate) struct Codes {
    own: Vec<String>,
    all: Vec<String>,
    every: Duration,
    look_at: Instant,
}

impl Codes {
    /// Looks for what others have left that often.
    pub(crate) fn of(graphs: &[Arc<dyn Serve>], every: Duration) -> Self {
        let mut own: Vec<String> = Vec::new();
        for code in graphs.iter().flat_map(|graph| graph.codes()) {
            if !own.contains(&code) {
                own.push(code);
            }
        }
        Self {
            all: own.clone(),
            own,
            every,
            look_at: Instant::now(),
        }
    }

    pub(crate) fn own(&self) -> &[String] {
        &self.own
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.all
    }

    /// Looks for what others have left, when it is time to.
    pub(crate) async fn look(
        &mut self,
        graphs: &[Arc<dyn Serve>],
        pool: &PgPool,
        incarnation: Incarnation,
    ) {
        if Instant::now() < self.look_at {
            return;
        }
        self.look_at = Instant::now() + self.every;
        let wanted = match code::wanted(pool).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(%error, "could not look for runs that other workers have left");
                return;
            }
        };
        let mut all = self.own.clone();
        let wanted = wanted
            .into_iter()
            .filter(|code| serving(graphs, code).is_some());
        all.extend(wanted);
        if all != self.all {
            // Operators read it: why a run waits, and for whom.
            if let Err(error) = incarnation.advertise(pool, &all).await {
                tracing::warn!(%error, "could not say what the worker has code for");
            }
            self.all = all;
        }
    }
}

/// The graph that goes on with runs which the queue calls so: rather the one that they began with than one
/// that continues it.
pub(crate) fn serving<'a>(
    graphs: &'a [Arc<dyn Serve>],
    queued: &str,
) -> Option<&'a Arc<dyn Serve>> {
    let own = code::graph_of(queued);
    let mut fit = graphs.iter().filter(|graph| graph.has(queued));
    let first = fit.clone().next();
    fit.find(|graph| graph.code() == own).or(first)
}
