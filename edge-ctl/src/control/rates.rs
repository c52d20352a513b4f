//! Rates of traffic.

use serde::{Deserialize, Serialize};

/// Traffic per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) packets: f64,
    pub(crate) bytes: f64,
    pub(crate) flows: f64,
}

impl Rates {
    /// The larger one of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            packets: self.packets.max(other.packets),
            bytes: self.bytes.max(other.bytes),
            flows: self.flows.max(other.flows),
        }
    }

    /// The sum of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes, flows: self.flows + other.flows }
    }
}
