//! The worker's metrics, for Prometheus.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use crate::args::WorkerArgs;
use crate::exit::{Failure, chain};

/// Upper bounds of what is measured in seconds: from a commit to a long call of a model.
const SECONDS: &[f64] = &[
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
];
/// Upper bounds of the number of steps in one commit.
const STEPS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Serves them until the process ends, if that is asked for: before anything is opened, so that a wrong address
/// costs nothing.
pub(crate) fn serve(worker: &WorkerArgs) -> Result<(), Failure> {
    let Some(address) = worker.metrics else {
        return Ok(());
    };
    let built = PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(|builder| {
            let batch = velo_worker::metrics::COMMIT_STEPS.to_owned();
            builder.set_buckets_for_metric(Matcher::Full(batch), STEPS)
        })
        .and_then(PrometheusBuilder::install);
    built.map_err(|error| {
        Failure::environment(format!(
            "could not serve metrics on {address}: {}; choose another address with --metrics",
            chain(&error)
        ))
    })?;
    eprintln!("metrics on http://{address}/metrics");
    Ok(())
}
