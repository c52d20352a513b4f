//! Probes that go the way of clients' packets: which ones they are, and where each goes.

use bytemuck::{Pod, Zeroable};

use super::BackendNumber;

/// What is to be done with the packets of a probe. Its key in `PROBES_V4` or `PROBES_V6` is its flow, in which the edge is the
/// client.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ProbeRoute {
    /// Interface index, in the host's network, of the device through which the prober's own network is entered.
    pub door: u32,
    pub backend: BackendNumber,
    /// A [`Mode`](super::Mode).
    pub mode: u8,
    /// Zero.
    pub reserved: u8,
}
