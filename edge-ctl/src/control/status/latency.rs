//! How long probes take, as a histogram for each pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets, milliseconds. Few and fixed: each pool has as many series.
const BOUNDS_MS: [u32; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// Times of the probes that have passed, from the moment when they have their descriptors to the end of the answer; since
/// the daemon has started or made new maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyStatus {
    /// Upper bounds of the buckets, milliseconds.
    bounds_ms: Vec<u32>,
    /// Number of probes in each bucket, and at last of those that took longer.
    counts: Vec<u64>,
    /// Sum of all times, seconds.
    seconds: f64,
}

impl Default for LatencyStatus {
    fn default() -> Self {
        Self { bounds_ms: BOUNDS_MS.to_vec(), counts: vec![0; BOUNDS_MS.len() + 1], seconds: 0.0 }
    }
}

impl LatencyStatus {
    pub(crate) fn note(&mut self, took: Duration) {
        let is_within = |bound: &u32| took <= Duration::from_millis((*bound).into());
        let bucket = self.bounds_ms.iter().position(is_within).unwrap_or(self.bounds_ms.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.seconds += took.as_secs_f64();
    }

    /// Number of probes.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all times, seconds.
    pub(crate) const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Each bucket's upper bound, seconds, and its number of probes.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds_ms.iter().map(|bound| f64::from(*bound) / 1000.0).chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_in_the_first_bucket_that_it_fits_into() {
        let mut latency = LatencyStatus::default();
        for micros in [0, 1000, 1001, 499_000, 5_000_000, 60_000_000] {
            latency.note(Duration::from_micros(micros));
        }
        let found: Vec<_> = latency.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [(0.001, 2), (0.002, 1), (0.5, 1), (5.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(latency.count(), 6);
        assert!((latency.seconds() - 65.501_001).abs() < 1e-6, "{latency:?}");
    }
}
