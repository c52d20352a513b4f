//! A histogram that was counted elsewhere, as a metric.

use std::{fmt, sync::Mutex};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

use crate::control::status::LatencyStatus;

/// Times of a pool's probes.
#[derive(Debug, Default)]
pub(super) struct Latency(Mutex<LatencyStatus>);

impl Latency {
    pub(super) fn set(&self, latency: &LatencyStatus) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(latency);
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let latency = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encoder.encode_histogram::<NoLabelSet>(latency.seconds(), latency.count(), &latency.buckets(), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
