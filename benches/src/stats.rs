//! Medians and percentiles.

use std::time::{Duration, Instant};

/// The middle value; the mean of the two middle ones when their number is even.
///
/// # Panics
/// Without any value.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value below which `percent` of all lie, in between by proportion.
///
/// # Panics
/// Without any value.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list of samples is small"
)]
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    assert!(
        !values.is_empty(),
        "there is nothing to take a percentile of"
    );
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() - 1) as f64 * percent / 100.0;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// The median of `a / b`, pair by pair: what was measured side by side is compared side by side.
pub(crate) fn median_ratio(a: &[f64], b: &[f64]) -> f64 {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    median(&ratios)
}

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The times between each instant and the next, in milliseconds.
pub(crate) fn gaps(instants: &[Instant]) -> impl Iterator<Item = f64> {
    instants.windows(2).map(|two| milliseconds(two[1] - two[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_the_samples() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert!((percentile(&[0.0, 10.0], 99.0) - 9.9).abs() < 1e-9);
        assert!((median_ratio(&[2.0, 9.0, 4.0], &[1.0, 3.0, 1.0]) - 3.0).abs() < 1e-9);
    }
}
